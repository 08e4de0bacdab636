"""A short run of the crash ring: named steps, every engine, then a storm."""

from __future__ import annotations

import os
import random
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import pytest

from tests.crash.children import of_home
from tests.crash.ring import Ring, never_taken
from tests.crash.walk import walk

STORM_S = 12.0
RECOVERY_MAX_S = 60.0
"""A machine that runs other tests, too, is slower; the 20 s are measured by `make crash`."""


@pytest.fixture
def home() -> Any:
    """Not below pytest's own folder, which other users may not enter; PostgreSQL runs as one."""
    path = Path(mkdtemp(prefix="polyplane-crash-"))
    yield path
    for process in of_home(path):  # nothing is left when a test passes
        process.kill()
    rmtree(path, ignore_errors=True)


@pytest.mark.timeout(500)
@pytest.mark.parametrize("share", [0.1, pytest.param(1.0, marks=pytest.mark.long)])
async def test_nothing_is_lost_or_invented_whatever_dies(home: Path, share: float) -> None:
    """At a share of the steps, and each engine; then anything at any time."""
    seed = int(os.environ.get("CRASH_SEED", random.randrange(1 << 30)))
    print(f"CRASH_SEED={seed}")
    ring = Ring(home, seed, print)
    try:
        await ring.start()
        never = await walk(ring, share)
        found = await ring.check(RECOVERY_MAX_S)
        assert found.wrong == []
        await ring.resume()
        await ring.storm(STORM_S, (0.1, 1.0))
        found = await ring.check(RECOVERY_MAX_S)
    finally:
        await ring.stop()
    report = ring.report()
    print(report)
    assert found.wrong == []
    assert never == [], "nobody died at these steps: is there anything that leads there?"
    assert never_taken(report) == []
    assert found.acknowledged > 300
