"""A few power cuts and kinds of damage; `make power` and `make harm` do more."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest

from tests.crash.corruption import play
from tests.crash.golden import Stage, at_rest
from tests.crash.power import Power, run

CUTS = 2
HARMS = {"clickhouse": "part gone", "postgres": "table empty"}
"""What a test without a home of its own cannot play; see also flow/test_damage."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's own folder, which other users may not enter; PostgreSQL runs as one."""
    path = Path(mkdtemp(prefix="polyplane-power-"))
    path.chmod(0o755)
    yield path
    rmtree(path, ignore_errors=True)


@pytest.mark.timeout(300)
async def test_what_is_acknowledged_outlives_a_power_cut(folder: Path) -> None:
    """Of the whole home, twice; the second time perhaps while it comes back from the first."""
    seed = int(os.environ.get("POWER_SEED", random.randrange(1 << 30)))
    print(f"POWER_SEED={seed}")
    power = Power(folder, seed, print)
    try:
        why = await run(power, CUTS, (1, 2))
    finally:
        await power.stop()
        power.disk.discard()
    if why:
        pytest.skip(f"NO DISK CAN BE CUT HERE, POWER CUTS ARE NOT TESTED: {why}")
    report = power.report()
    print(report)
    assert report["wrong"] == []
    assert report["cuts"] == CUTS
    assert report["acknowledged"] > 20
    assert report["nodes"] > 1 and report["edges"] > 0


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_damage_heals_or_is_refused_and_is_never_an_answer(folder: Path) -> None:
    """What is owned, and what is true."""
    stage = Stage(folder)
    try:
        await stage.nursery.start()
        homes = await at_rest(stage)
        cells = [await play(stage, homes, *it, "clean") for it in HARMS.items()]
    finally:
        await stage.nursery.stop()
        stage.end()
    for cell in cells:
        print(cell)
        assert cell.wrong == []
        assert cell.harm and cell.said
