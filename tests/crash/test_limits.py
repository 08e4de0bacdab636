"""A short run of limits under kills; the long one is `python -m tests.crash.limits`."""

from __future__ import annotations

import os
import random
from pathlib import Path

from polyplane.embedded import Engines
from tests.crash.limits import run

PROCESSES, KILLS = 3, 3


async def test_limits_hold_whoever_dies(engines: Engines, tmp_path: Path) -> None:
    """Several processes; no key without an expiry, nobody let in too often."""
    seed = int(os.environ.get("CRASH_SEED", random.randrange(1 << 30)))
    report = await run(
        engines.urls["valkey"], tmp_path, kills=KILLS, seed=seed, processes=PROCESSES
    )
    assert report["wrong"] == [], report
    assert report["keys"] and not report["without_expiry"]
