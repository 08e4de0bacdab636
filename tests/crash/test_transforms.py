"""A short run of transformations under kills; the long one is `tests.crash.transforms`.

That each step may be the last one, tests/flow/test_transformations_order.py shows in one process.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import psycopg
import pytest

from polyplane.embedded import Engines
from tests.conftest import settings_in
from tests.crash import forms
from tests.crash.transforms import run

ROWS = 200
KILLS = 3


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_each_row_is_taken_once_whoever_dies(engines: Engines, place: Path) -> None:
    """By three processes, of which one after the other dies; and the judge would notice."""
    seed = int(os.environ.get("CRASH_SEED", random.randrange(1 << 30)))
    settings = await settings_in(place, engines, "")
    database = settings.url("database_url")
    assert database is not None
    report = await run(
        place, {**engines.urls, "postgres": database}, rows=ROWS, kills=KILLS, seed=seed
    )
    print(report)
    assert report["wrong"] == []
    assert report["kills"] >= KILLS
    harms = (
        "UPDATE account SET amount = amount + 1 WHERE id = 3",
        "INSERT INTO mail VALUES (-1, 'x', 1)",
        "INSERT INTO letter VALUES (-2, 'new')",
        "INSERT INTO letter VALUES (-3, 'bad')",
    )
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        for seen, harm in enumerate(harms, start=1):
            await connection.execute(harm.encode())
            assert len(await forms.faults(database, report["rounds"])) == seen
