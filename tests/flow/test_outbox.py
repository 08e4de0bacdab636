"""The outbox's own upkeep: partitions come in time, go when spent, and nobody waits for either."""

from __future__ import annotations

import asyncio

import pytest

import polyplane as pp
from polyplane.truth import outbox
from polyplane.truth.journal import Relayed
from tests.conftest import PlaneOf
from tests.flow.things import Thing, ThingSearch, by_hand, connect


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """A captured table, and nothing that moves its changes."""
    return await plane_of(models=[Thing], projections=[ThingSearch], flows=False)


async def partitions(plane: pp.Plane) -> set[str]:
    """What the outbox consists of."""
    found = await by_hand(
        plane,
        "SELECT relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
        " WHERE inhparent = 'polyplane.outbox'::regclass",
    )
    return {name for (name,) in found}


async def keep(plane: pp.Plane, *, drop: bool) -> None:
    """What the relay does now and then."""
    async with plane.opened.database.connection() as connection:
        await outbox.keep_partitions(connection, drop=drop)


async def advance(plane: pp.Plane, seq: int) -> None:
    """As if so many statements had been captured."""
    await by_hand(plane, "SELECT setval('polyplane.outbox_seq_seq', %s)", seq)


async def test_partitions_are_made_ahead_and_dropped_when_spent(plane: pp.Plane) -> None:
    """Spent: a day old, published, in this epoch."""
    await by_hand(plane, "INSERT INTO thing VALUES (1, 'a')")
    await keep(plane, drop=True)
    assert await partitions(plane) == {"outbox_1", "outbox_rest"}
    await advance(plane, 6_000_000)
    await keep(plane, drop=True)
    assert await partitions(plane) == {"outbox_1", "outbox_2", "outbox_rest"}
    await advance(plane, 11_000_000)
    await by_hand(plane, "INSERT INTO thing VALUES (2, 'b')")
    assert await by_hand(plane, "SELECT keys FROM polyplane.outbox_2") == [(["2"],)]
    await keep(plane, drop=True)
    assert "outbox_1" in await partitions(plane)  # young, and not published
    await by_hand(plane, "UPDATE polyplane.outbox SET at = at - interval '25 hours'")
    await keep(plane, drop=True)
    assert "outbox_1" in await partitions(plane)  # not published
    cut = await plane.opened.journal.cut()
    await plane.opened.journal.relayed(plane.opened.epoch + 1, Relayed(cut, 0, 0), {})
    await keep(plane, drop=True)
    assert "outbox_1" in await partitions(plane)  # not published in this epoch
    await by_hand(plane, "DELETE FROM polyplane.relayed")
    await plane.opened.journal.relayed(plane.opened.epoch, Relayed(cut, 0, 0), {})
    await keep(plane, drop=False)
    assert "outbox_1" in await partitions(plane)
    await keep(plane, drop=True)
    assert await partitions(plane) == {"outbox_2", "outbox_rest"}


async def test_rows_beyond_every_partition_are_kept_too(plane: pp.Plane) -> None:
    """No writer fails because nobody made a partition in time; and there will be one again."""
    await advance(plane, 25_000_000)
    await by_hand(plane, "INSERT INTO thing VALUES (1, 'a')")
    assert await by_hand(plane, "SELECT count(*) FROM polyplane.outbox_rest") == [(1,)]
    await keep(plane, drop=True)
    assert "outbox_4" in await partitions(plane)
    await advance(plane, 30_000_000)
    await by_hand(plane, "INSERT INTO thing VALUES (2, 'b')")
    assert await by_hand(plane, "SELECT keys FROM polyplane.outbox_4") == [(["2"],)]


async def test_upkeep_waits_for_nobody_and_nobody_for_it(plane: pp.Plane) -> None:
    """An idle transaction that has written holds a lock that upkeep needs, perhaps for hours."""
    await advance(plane, 6_000_000)
    async with await connect(plane) as idle, idle.transaction():
        await idle.execute("INSERT INTO thing VALUES (1, 'idle')")
        upkeep = asyncio.create_task(keep(plane, drop=True))
        for n in range(2, 10):
            await asyncio.wait_for(by_hand(plane, "INSERT INTO thing VALUES (%s, 'busy')", n), 5)
        await asyncio.wait_for(upkeep, 5)
        assert "outbox_2" not in await partitions(plane)
    await keep(plane, drop=True)
    assert "outbox_2" in await partitions(plane)
