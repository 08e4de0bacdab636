"""A short run of sagas under kills, by three processes; the long one is `tests.crash.sagas`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from polyplane.embedded import Engines
from tests.conftest import settings_in
from tests.crash.sagas import run
from tests.crash.trips import faults

SAGAS = 150
KILLS = 6


@pytest.mark.timeout(300)
async def test_sagas_end_whole_whoever_dies(engines: Engines, place: Path) -> None:
    """No local step twice, no undo missing, all ended soon."""
    seed = int(os.environ.get("CRASH_SEED", random.randrange(1 << 30)))
    settings = await settings_in(place, engines, "")
    database = settings.url("database_url")
    assert database is not None
    urls = {**engines.urls, "postgres": database}
    report = await run(place, urls, sagas=SAGAS, kills=KILLS, seed=seed)
    print(report)
    assert report["wrong"] == []
    assert report["kills"] >= KILLS
    assert sum(report["sagas"].values()) == SAGAS
    assert report["sagas"]["done"] > 0 and report["sagas"]["undone"] > 0


def test_the_judge_would_notice() -> None:
    """What must not be, one by one."""
    well = [(step, "do") for step in ("take", "call", "keep", "tell", "last")]
    back = [(step, "undo") for step, _ in well[::-1]]
    asked = {"mood": "well"}
    assert faults("done", asked, well) == [] and faults("undone", asked, well + back) == []
    assert faults("undone", asked, []) == []
    assert faults("done", {"mood": "refused"}, well) != []
    assert faults("running", asked, well) != []
    for state, effects in (
        ("done", [*well, ("take", "do")]),
        ("done", well[:-1]),
        ("done", [*well, ("last", "undo")]),
        ("undone", well),
        ("undone", well + back[:-1]),
        ("undone", well + back[::-1]),
        ("undone", [*well, *back, ("take", "undo")]),
        ("undone", [*well, *back, ("call", "do")]),
        ("undone", [("take", "undo")]),
    ):
        assert faults(state, asked, effects) != [], (state, effects)
