"""What every ring of tests shares."""

from __future__ import annotations

from hypothesis import settings

# A failing example prints the blob that replays it exactly (`@reproduce_failure`). Examples that
# talk to engines have no sensible deadline of their own; pytest-timeout bounds the test.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("long", settings.get_profile("default"), max_examples=2_000)
settings.load_profile("default")
