"""Backfill: derive(truth) -> store, from one snapshot, beside running projectors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from polyplane.feed.protocol import Feed, Subjects
from polyplane.flow.projector import Target
from polyplane.flow.sweeping import sweep
from polyplane.model.items import Item
from polyplane.model.key import BUCKETS
from polyplane.model.position import Position
from polyplane.steps import step
from polyplane.truth.database import Database
from polyplane.truth.journal import Journal
from polyplane.truth.scan import all_rows

BATCH_ROWS: Final = 10_000
_APPLY_S: Final = 300.0

Progress = Callable[[int], None]
"""Called with the number of rows done so far."""

_Batch = tuple[list[Item], list[str]] | None


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
    repeated, that order is the first attempt's.
    """
    name, definition = target.collection.target, target.deriver.definition
    bounds = await feed.bounds(subjects.changes)
    now = Position(epoch, bounds.last)
    is_again = name in await journal.collections()
    position = await journal.declare_collection(name, target.name, definition, now, bounds.first)
    step("backfill.declared")
    queue: asyncio.Queue[_Batch] = asyncio.Queue(maxsize=2)
    count = 0

    async def derive() -> None:
        puts: list[Item] = []
        drops: list[str] = []
        async for rows in all_rows(database, target.source):
            more_puts, more_drops = await target.deriver.items(rows)
            puts += more_puts
            drops += more_drops
            if len(puts) + len(drops) >= BATCH_ROWS:
                await queue.put((puts, drops))
                puts, drops = [], []
        if puts or drops:
            await queue.put((puts, drops))
        await queue.put(None)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(derive())
        while (batch := await queue.get()) is not None:
            puts, drops = batch
            async with asyncio.timeout(_APPLY_S):
                await target.store.apply(target.collection, puts, drops, position.packed())
            step("backfill.applied")
            count += len(puts) + len(drops)
            if progress is not None:
                progress(count)
    if is_again:
        await sweep(target.store, target.collection, position)
    await target.store.maintain(target.collection, full=True)
    await target.store.barrier()
    step("backfill.durable")
    await journal.projected(name, dict.fromkeys(range(BUCKETS), position))
    step("backfill.positioned")
    await journal.filled(name)
    return count
