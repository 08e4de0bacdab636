"""The barrier's price: what it costs to have a batch on the disk, by engine and size of the batch.

Two neighbours: nobody, and a PostgreSQL that is loading rows as fast as it can, whose pages a
`syncfs` of the same file system has to write, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from statistics import median
from time import perf_counter, time_ns
from typing import Any, Final
from uuid import uuid4

import nats
import numpy as np

from bench.documents import DIMENSIONS, Document, DocumentSearch, documents
from bench.figures import Figure
from bench.ground import Ground, Size, connect, execute
from bench.telemetry import batch
from polyplane import Plane
from polyplane.domains.laboratory.streams import Telemetry
from polyplane.model.digest import digest
from polyplane.model.items import Item, Vector
from polyplane.model.points import EVENT_ID, event_ids

ITEMS: Final = (1, 64, 1_000, 10_000)
POINTS: Final = (100, 5_000, 100_000)
MESSAGES: Final = (1, 8, 64)
TIMES: Final = 12
"""Batches of each size in a run; a figure is the median of them."""
LOAD: Final = (
    "CREATE TABLE IF NOT EXISTS busy (n bigint, body text)",
    "INSERT INTO busy SELECT n, repeat(n::text, 40) FROM generate_series(1, 40000) n",
)


class Timed:
    """Milliseconds of each run, by name."""

    def __init__(self) -> None:
        self.runs: dict[str, list[float]] = {}

    def note(self, name: str, seconds: Sequence[float]) -> None:
        """The median of one run's batches."""
        self.runs.setdefault(name, []).append(median(seconds) * 1e3)

    def figures(self) -> list[Figure]:
        """All of them, as they came."""
        return [Figure(name, "ms", tuple(runs)) for name, runs in self.runs.items()]


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Apply and barrier of both stores, and the feed's acknowledgement, quiet and beside a load."""
    timed = Timed()
    for _ in range(size.runs):
        url = await ground.database()
        async with ground.plane(
            url,
            flows=False,
            models=[Document],
            projections=[DocumentSearch],
            streams=[Telemetry],
        ) as plane:
            for neighbour in ("", ", beside a load"):
                async with _beside(url, bool(neighbour)):
                    await _vectors(plane, size, timed, neighbour)
                    await _points(plane, size, timed, neighbour)
                    await _messages(plane, size, timed, neighbour)
    return timed.figures()


@asynccontextmanager
async def _beside(url: str, busy: bool) -> AsyncIterator[None]:
    """PostgreSQL loads rows meanwhile."""

    async def load() -> None:
        await execute(url, LOAD[:1])
        async with await connect(url) as connection:
            while True:
                await connection.execute(LOAD[1].encode())

    task = asyncio.create_task(load()) if busy else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


async def _timed(
    name: str, times: int, apply: Callable[[int], Awaitable[Any]], barrier: Any, timed: Timed
) -> None:
    applied, durable = [], []
    for turn in range(times):
        started = perf_counter()
        await apply(turn)
        between = perf_counter()
        await barrier()
        applied.append(between - started)
        durable.append(perf_counter() - between)
    timed.note(f"{name}: apply", applied)
    timed.note(f"{name}: barrier", durable)


async def _vectors(plane: Plane, size: Size, timed: Timed, neighbour: str) -> None:
    target = plane.opened.targets[DocumentSearch.name]
    rows = list(documents(ITEMS[-1] if not size.quick else ITEMS[1]))
    for count in ITEMS:
        if count > len(rows):
            break
        items = []
        for key, owner, title, body, vector in rows[:count]:
            content = Vector(
                body, {"owner": owner, "title": title}, np.frombuffer(vector, "<f4")[:DIMENSIONS]
            )
            items.append(Item(str(key), digest(body), content))
        base = time_ns() // 1_000  # newer than all before

        async def apply(turn: int, items: list[Item] = items, base: int = base) -> None:
            await target.store.apply(target.collection, items, [], base + turn)

        name = f"LanceDB, {count:,} items{neighbour}"
        await _timed(name, size.scaled(TIMES), apply, target.store.barrier, timed)


async def _points(plane: Plane, size: Size, timed: Timed, neighbour: str) -> None:
    store = plane.opened.stores.series
    assert store is not None
    for count in POINTS[: 1 if size.quick else None]:
        tables = [batch(turn, count) for turn in range(size.scaled(TIMES))]

        async def apply(turn: int, tables: list[Any] = tables) -> None:
            name = str(uuid4())
            points = tables[turn]
            ids = event_ids(name, points.num_rows)
            await store.append(Telemetry, points.append_column(EVENT_ID, ids), token=name)

        await _timed(
            f"ClickHouse, {count:,} points{neighbour}", len(tables), apply, store.barrier, timed
        )


async def _messages(plane: Plane, size: Size, timed: Timed, neighbour: str) -> None:
    """Messages of 1 KB under way at once; NATS syncs each before it acknowledges."""
    client = await nats.connect(plane.opened.urls["nats"])
    js, name = client.jetstream(), f"b{uuid4().hex[:8]}"
    await js.add_stream(name=name, subjects=[name])
    try:
        for count in MESSAGES:
            seconds = []
            for _ in range(size.scaled(TIMES * 4)):
                started = perf_counter()
                await asyncio.gather(*(js.publish(name, bytes(1024)) for _ in range(count)))
                seconds.append(perf_counter() - started)
            timed.note(f"NATS, {count} messages at once{neighbour}: acknowledged", seconds)
    finally:
        await js.delete_stream(name)
        await client.close()
