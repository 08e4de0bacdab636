"""Commits to a LanceDB table that others write too, and what keeps the table fast."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import lancedb
import numpy as np
import pyarrow as pa
import stamina

from polyplane.model.collection import Collection
from polyplane.stores.vector import lance_indexes
from polyplane.stores.vector.lance_disk import alone

SMALL_ROWS: Final = 1_000
"""A fragment below this is folded with others; applies of single rows make nothing else."""
SMALL_FRAGMENTS: Final = 16
"""Fold so many: each costs every look-up and merge about a quarter of a millisecond."""
UNINDEXED_SHARE: Final = 0.05
"""Compact when so much of the table is not in the index of keys (and not below SMALL_ROWS)."""
VERSIONS: Final = 5_000
"""Compact, which also removes old versions, when there are so many: 1,000 cost a millisecond."""
STALL_SHARE: Final = 0.01
"""Merges wait for compaction at most this share of the time, however large the table is."""
RETAIN: Final = timedelta(minutes=3)
"""How long an old version stays, for readers in other processes that still read it."""
FOREVER: Final = timedelta(days=365_000)
ATTEMPTS: Final = 10
FRAGMENT_BITS: Final = 32
"""A row id is the number of its fragment, then the row's number in it."""


def _lost(error: Exception) -> bool:
    """Whether a commit failed only because another one came first."""
    return isinstance(error, (OSError, RuntimeError)) and "conflict" in str(error).lower()


def _commits() -> Any:
    """Attempts at a commit, as long as others come first."""
    return stamina.retry_context(
        on=_lost, attempts=ATTEMPTS, timeout=None, wait_initial=0.01, wait_max=0.5, wait_jitter=0.05
    )


async def merge(
    table: lancedb.AsyncTable,
    rows: pa.RecordBatch | pa.Table,
    where: str,
    *,
    lock: Path | None,
    insert: bool,
) -> None:
    """Replace the rows that have the keys of `rows` and satisfy `where`, in one commit.

    Two merges that insert the same new key at once both succeed when they look keys up in the
    index: LanceDB notices only without it. So merges of a table exclude each other by `lock`;
    where there can be none, they do without the index and depend on the table's primary key.
    """
    await _by_itself(lock, _commit, table, rows, where, by_index=lock is not None, insert=insert)


async def _by_itself(
    lock: Path | None, act: Callable[..., Awaitable[None]], *args: Any, **kw: Any
) -> None:
    """Do `act` alone. Once it has begun it may commit though the caller gives it up: it keeps the
    lock to its end. Who is given up while he waits for the lock does nothing any more.
    """
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(alone(lock))
        held = stack.pop_all()
    await asyncio.shield(_to_the_end(held, act(*args, **kw)))


async def _to_the_end(held: AsyncExitStack, work: Awaitable[None]) -> None:
    async with held:
        await work


async def _commit(
    table: lancedb.AsyncTable, rows: Any, where: str, *, by_index: bool, insert: bool
) -> None:
    async for attempt in _commits():
        with attempt:
            builder = table.merge_insert("key").use_index(by_index)
            builder = builder.when_matched_update_all(where=where)
            if insert:
                builder = builder.when_not_matched_insert_all()
            # "null" only lets through the null vectors of tombstones: others are checked.
            await builder.execute(rows, on_bad_vectors="null")


async def overrule(
    table: lancedb.AsyncTable, held: str, rows: pa.RecordBatch, *, lock: Path | None
) -> None:
    """Put `rows` in the place of all that satisfies `held`, whatever it is. In two commits."""
    await _by_itself(lock, _overrule, table, held, rows, by_index=lock is not None)


async def _overrule(table: lancedb.AsyncTable, held: str, rows: Any, *, by_index: bool) -> None:
    async for attempt in _commits():
        with attempt:
            await table.delete(held)
    await _commit(table, rows, "true", by_index=by_index, insert=True)


async def add_columns(table: lancedb.AsyncTable, wanted: pa.Schema) -> None:
    """Add the columns that are not there yet."""
    async for attempt in _commits():
        with attempt:
            known = await table.schema()
            missing = [field for field in wanted if field.name not in known.names]
            if missing:
                await table.add_columns(pa.schema(missing))


class Upkeep:
    """Keeps one table fast. Remembers between calls what makes the next one cheap."""

    def __init__(self, lock: Path | None, versions: Path | None) -> None:
        """`versions` is the folder of the table's versions, where there is one."""
        self._lock = lock
        self._versions = versions
        self._first_small = 0
        """No fragment below this number is worth folding."""
        self._compact_not_before_s = 0.0

    async def run(
        self, table: lancedb.AsyncTable, collection: Collection, *, full: bool = False
    ) -> None:
        """Fold when there are many small fragments; compact when it pays (`full`: in any case)."""
        await self._fold(table)
        if full or await self._compact_pays(table):
            await self._compact(table, collection)

    async def _fold(self, table: lancedb.AsyncTable) -> None:
        """Rewrite the rows of the newest small fragments into one.

        A merge of rows with themselves, each only if it is still at its position: concurrent
        applies win. Unlike compaction it leaves the large fragments alone, so it costs what the
        small ones hold and never the whole table.
        """
        tail = table.query().where(f"_rowid >= {self._first_small << FRAGMENT_BITS}")
        ids = (await tail.select(["position"]).with_row_id().to_arrow())["_rowid"].to_numpy()
        fragments, rows = np.unique(ids >> np.uint64(FRAGMENT_BITS), return_counts=True)
        large = fragments[rows >= SMALL_ROWS]
        if len(large):
            self._first_small = int(large[-1]) + 1
        if np.count_nonzero(fragments >= self._first_small) < SMALL_FRAGMENTS:
            return
        tail = table.query().where(f"_rowid >= {self._first_small << FRAGMENT_BITS}")
        unmoved = "target.position = source.position"
        await merge(table, await tail.to_arrow(), unmoved, lock=self._lock, insert=False)

    async def _compact_pays(self, table: lancedb.AsyncTable) -> bool:
        if time.monotonic() < self._compact_not_before_s:
            return False
        if self._versions and len(os.listdir(self._versions)) >= VERSIONS:
            return True
        index = await table.index_stats("key_idx")
        unindexed = index.num_unindexed_rows if index else await table.count_rows()
        indexed = index.num_indexed_rows if index else 0
        return unindexed > max(SMALL_ROWS, indexed * UNINDEXED_SHARE)

    async def _compact(self, table: lancedb.AsyncTable, collection: Collection) -> None:
        """Compact fragments, bring indexes up to date, remove old versions.

        Compaction of a fragment loses against any update of its rows, so merges wait for it. It
        keeps fragments apart that different indexes cover: the second round joins what the first
        has indexed. Indexes that take long to make are made beside the merges. With nothing left
        to compact, the third round removes old versions, which takes longest, beside them, too.
        """
        async with alone(self._lock):
            started_s = time.monotonic()
            await _optimize(table, keep=FOREVER)
            await _create(table, await lance_indexes.missing(table, collection))
            await _optimize(table, keep=FOREVER)
            stalled_s = time.monotonic() - started_s
        await lance_indexes.train(table, collection, _commits)
        await _optimize(table, keep=RETAIN)
        self._compact_not_before_s = time.monotonic() + stalled_s / STALL_SHARE


async def _optimize(table: lancedb.AsyncTable, keep: timedelta) -> None:
    async for attempt in _commits():
        with attempt:
            await table.optimize(cleanup_older_than=keep)


async def _create(table: lancedb.AsyncTable, indexes: Mapping[str, Any]) -> None:
    """Create indexes, by column; one that another process has created meanwhile is made anew."""
    for column, config in indexes.items():
        async for attempt in _commits():
            with attempt:
                await table.create_index(column, config=config)
