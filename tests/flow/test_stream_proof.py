"""verify of streams: what is lost, and what is there twice, past the plane."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import polyplane as pp
from polyplane.model import points as arrow
from polyplane.model.drift import Broken, StreamPart
from tests.conftest import PlaneOf
from tests.flow.things import Thing, ThingSearch, becomes, by_hand

START = datetime(2026, 1, 1, tzinfo=UTC)


class Warmth(pp.Stream):
    """The points of these tests."""

    order_by = ("sensor",)
    sensor: str
    degrees: float | None


def points(count: int, first: datetime = START) -> dict[str, list[Any]]:
    """`count` points, a day apart."""
    numbers = range(count)
    return {
        "time": [first + timedelta(days=n, microseconds=1) for n in numbers],
        "sensor": [f"s{n % 3}" for n in numbers],
        "degrees": [n / 8 if n % 4 else None for n in numbers],
    }


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """A stream that has got three batches."""
    plane = await plane_of(models=[Thing], projections=[ThingSearch], streams=[Warmth])
    for name, count in (("monday", 70), ("tuesday", 40), ("wednesday", 1)):
        await plane[Warmth].publish(points(count), batch_id=name)
    await stored(plane, 111)
    return plane


async def stored(plane: pp.Plane, count: int) -> None:
    """Wait until so many points are stored, and noted as such."""
    begun = "SELECT count(*) FROM polyplane.ingested WHERE NOT stored"
    await becomes(lambda: plane[Warmth].count(), count, within_s=20)
    await becomes(lambda: by_hand(plane, begun), [(0,)], within_s=20)


async def engine(plane: pp.Plane, statement: str) -> None:
    """What somebody does to the table, past the plane."""
    store: Any = plane.opened.stores.series
    sql = statement.format(table=store._table(Warmth))
    settings = {"mutations_sync": 1}
    await store._writer.run(lambda client: client.command(sql, settings=settings))


async def proven(plane: pp.Plane) -> StreamPart:
    """What a verify says of the stream."""
    [part] = (await plane.verify(Warmth)).streams
    return replace(part, duration_s=0.0)


def batch(name: str) -> str:
    """How the first message of a batch is named."""
    return f"reinterpretAsUInt64(event_id) = {_number(name)}"


def _number(name: str) -> int:
    return int.from_bytes(bytes.fromhex(_hex(name)), "little")


def _hex(name: str) -> str:
    found: bytes = arrow.event_ids(f"{name}:0", 1)[0].as_py()
    return found[:8].hex()


async def test_what_is_there_is_counted_and_digested(plane: pp.Plane) -> None:
    drift = await plane.verify()
    assert drift.clean and [part.projection for part in drift.parts] == ["thing_search"]
    [part] = drift.streams
    assert (part.stream, part.through, part.known_batches, part.known_points) == (
        "warmth",
        3,
        3,
        111,
    )
    assert [it.name for it in part.partitions] == ["202601", "202602", "202603"]
    assert [it.points for it in part.partitions] == [63, 37, 11]
    assert [it.rows for it in part.partitions] == [63, 37, 11]
    assert part.expired == part.lost == part.doubled == 0
    assert (await plane.verify(sample=5)).streams == ()
    assert (await plane.verify(ThingSearch)).streams == ()
    assert (await plane.repair()).found.streams == ()


async def test_two_proofs_of_the_same_points_are_the_same(plane: pp.Plane) -> None:
    """Whatever is merged, copied or sent again between them; and what is altered shows."""
    before = await proven(plane)
    await engine(plane, "INSERT INTO {table} SELECT * FROM {table} WHERE sensor = 's1'")
    copied = await proven(plane)
    assert sum(it.rows for it in copied.partitions) > 111
    assert [replace(it, rows=it.points) for it in copied.partitions] == [*before.partitions]
    await engine(plane, "OPTIMIZE TABLE {table} FINAL")
    assert await proven(plane) == before
    await engine(plane, f"ALTER TABLE {{table}} UPDATE degrees = 9 WHERE {batch('wednesday')}")
    altered = await proven(plane)
    assert not altered.broken
    pairs = zip(altered.partitions, before.partitions, strict=True)
    assert [one == other for one, other in pairs] == [False, True, True]


@pytest.mark.parametrize(
    ("where", "lost"),
    [
        (f"{batch('tuesday')} AND sensor = 's7'", 0),
        (f"{batch('tuesday')} AND sensor = 's1'", 13),
        (f"{batch('tuesday')} AND time > '2026-02-01'", 9),
        (batch("tuesday"), 40),
    ],
    ids=["nothing", "some", "the end", "all"],
)
async def test_points_that_are_lost_are_found(plane: pp.Plane, where: str, lost: int) -> None:
    await engine(plane, f"DELETE FROM {{table}} WHERE {where}")
    part = await proven(plane)
    assert part.broken == ((Broken(_hex("tuesday"), lost, 0),) if lost else ())
    drift = await plane.verify()
    assert (drift.missing, drift.extra, drift.clean) == (lost, 0, not lost)


async def test_points_that_are_there_twice_are_found(plane: pp.Plane) -> None:
    """Under another time or another sensor, so that queries count both."""
    twice = (
        "INSERT INTO {{table}} SELECT {} FROM {{table}}"
        f" WHERE {batch('monday')} AND sensor = 's2' LIMIT 2"
    )
    await engine(plane, twice.format("time + toIntervalYear(1) AS time, * EXCEPT (time)"))
    part = await proven(plane)
    assert part.broken == (Broken(_hex("monday"), 0, 2),)
    await engine(plane, twice.format("time, 's9', degrees, event_id"))
    drift = await plane.verify()
    assert (drift.missing, drift.stale, drift.extra, drift.clean) == (0, 0, 4, False)
    assert drift.streams[0].known_points == 111


async def test_a_batch_that_nobody_noted_is_looked_at_too(plane: pp.Plane) -> None:
    """Loaded past the feed; or so long ago that the journal has forgotten it."""
    table = arrow.decode(Warmth, points(50, START + timedelta(days=400)))
    assert await plane[Warmth].load(table, batch_id="loaded") == 50
    await by_hand(plane, "DELETE FROM polyplane.ingested")
    part = await proven(plane)
    assert (part.known_batches, part.known_points, part.broken) == (0, 0, ())
    assert sum(it.points for it in part.partitions) == 161
    await engine(plane, f"DELETE FROM {{table}} WHERE {batch('monday')} AND sensor = 's0'")
    await engine(plane, "DELETE FROM {table} WHERE time > '2027-02-10' AND sensor = 's0'")
    part = await proven(plane)
    assert sorted(it.lost for it in part.broken) == [15, 23]  # not the last one, of index 69


async def test_what_retention_takes_is_not_lost(plane_of: PlaneOf) -> None:
    class Brief(Warmth):
        """Kept for a month."""

        name = "brief"
        retention_days = 30

    plane = await plane_of(streams=[Brief])
    now = datetime.now(UTC)
    await plane[Brief].publish(points(20, now - timedelta(days=40)), batch_id="old")
    await plane[Brief].publish(points(20, now - timedelta(days=20)), batch_id="new")
    await becomes(lambda: _noted(plane), True, within_s=20)
    store: Any = plane.opened.stores.series
    sql = f"OPTIMIZE TABLE {store._table(Brief)} FINAL"
    await store._writer.run(lambda client: client.command(sql))
    [part] = (await plane.verify()).streams
    assert (part.known_batches, part.known_points, part.expired, part.broken) == (1, 20, 1, ())
    sql = f"DELETE FROM {store._table(Brief)} WHERE time > now() - toIntervalDay(5)"
    await store._writer.run(lambda client: client.command(sql, settings={"mutations_sync": 1}))
    [part] = (await plane.verify()).streams
    assert part.lost >= 4 and part.doubled == 0


async def _noted(plane: pp.Plane) -> bool:
    """Whether both batches are: in one range or in two."""
    known = await plane.opened.journal.ingest_known("")
    return len(known) == 2 and all(stored for _, stored in known)


@pytest.mark.long
async def test_a_proof_beside_points_that_never_rest(plane: pp.Plane) -> None:
    """Batches of several months that come all the time are whole, or on their way."""
    restless = True

    async def publish() -> None:
        while restless:
            await plane[Warmth].publish(points(400))

    task = asyncio.create_task(publish())
    try:
        for _ in range(8):
            drift = await plane.verify()
            assert drift.clean, drift.streams
    finally:
        restless = False
        await task
    assert drift.streams[0].known_points > 111
