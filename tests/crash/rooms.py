"""Which program comes to which step, and what makes it."""

from __future__ import annotations

import random

ELSEWHERE = ("blob.", "repeat.", "transform.")
"""Steps at which others die: see `test_blobs.py`, `test_once.py` and `transforms.py`."""
ONLY_OWNER = ("ingest.", "repair.")
WHEN_ASKED = {
    "repair.": 'repair {"damage": true}',
    "projector.cleared": 'repair {"damage": true}',
    "rebuild.": "rebuild",
    "backfill.": "rebuild",
}
"""Steps that nobody comes to without being asked."""
ONE_REBUILD = (
    "rebuild.declared",
    "backfill.declared",
    "backfill.applied",
    "backfill.durable",
    "backfill.positioned",
    "rebuild.filled",
    "rebuild.proven",
    "rebuild.switched",
)
"""The steps that a rebuild comes to, one after the other: it goes on where it was killed."""


def in_turn(steps: list[str], chance: random.Random) -> list[str]:
    """`steps` in a random order, but for those of a rebuild."""
    others = [step for step in steps if step not in ONE_REBUILD]
    chance.shuffle(others)
    return others
