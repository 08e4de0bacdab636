"""Backfill: derive(truth) -> store, from one snapshot, beside running projectors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from polyplane.errors import Fenced
from polyplane.feed.protocol import Feed, Subjects
from polyplane.flow.deriving import Derived
from polyplane.flow.parking import Parking
from polyplane.flow.projector import Target
from polyplane.flow.sifting import derive as carefully, put
from polyplane.flow.sweeping import sweep
from polyplane.garbage import seldom_collected
from polyplane.model.key import bucket_of
from polyplane.model.position import Position
from polyplane.steps import step
from polyplane.truth.database import Database
from polyplane.truth.journal import Journal
from polyplane.truth.scan import all_rows, count_rows

BATCH_ROWS: Final = 10_000
_APPLY_S: Final = 300.0
_WITNESSES: Final = 64
"""Among so many keys there are some of nearly every bucket."""

Progress = Callable[[int, int], None]
"""Called with the number of rows done so far, and how many there were at the beginning."""


async def backfill(
    target: Target,
    database: Database,
    journal: Journal,
    feed: Feed,
    subjects: Subjects,
    *,
    epoch: int,
    progress: Progress | None = None,
) -> int:
    """Fill the collection with all of truth; the number of rows read. Safe to repeat.

    The stream's last order is taken before the snapshot is opened: all that was published up to
    it is in the snapshot, and what comes later is newer and wins at the store's gate. When it is
    repeated, that order is the first attempt's. Bad rows are parked. Raises Fenced when the
    collection was found lost meanwhile.
    """
    name = target.collection.target
    bounds = await feed.bounds(subjects.changes)
    now = Position(epoch, bounds.last)
    position, is_again = await journal.collections.fill_from(name, now, bounds.first)
    step("backfill.declared")
    parking = Parking(target.name, name, journal.dead)
    await parking.load()
    queue: asyncio.Queue[Derived | None] = asyncio.Queue(maxsize=2)
    count = of_rows = 0
    witnesses: dict[int, str] = {}
    if progress is not None:
        of_rows = await count_rows(database, target.source)
        progress(0, of_rows)

    async def derive() -> None:
        batch = Derived()
        async with aclosing(all_rows(database, target.source)) as batches:
            async for rows in batches:
                batch.extend(await carefully(target.deriver, rows))
                if len(batch) >= BATCH_ROWS:
                    await queue.put(batch)
                    batch = Derived()
        await queue.put(batch)
        await queue.put(None)

    with seldom_collected() as between:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(derive())
            while (batch := await queue.get()) is not None:
                between()
                packed = position.packed()
                await put(target.store, target.collection, batch, packed, timeout_s=_APPLY_S)
                await parking.park(batch.bad)
                step("backfill.applied")
                put_last = [it.key for it in batch.puts[-_WITNESSES:] if it.key not in batch.bad]
                witnesses |= {bucket_of(key): key for key in put_last}
                count += len(batch)
                if progress is not None:
                    progress(count, of_rows)
    if is_again:
        await sweep(target.store, target.collection, position, parking.keys)
    await target.store.maintain(target.collection, full=True)
    await target.store.barrier()
    step("backfill.durable")
    if not await journal.collections.filled(name, position, witnesses):
        raise Fenced(f"{name} was lost while it was filled.")
    step("backfill.positioned")
    return count
