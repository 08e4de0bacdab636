"""What truth says of one projection, for those who prove and mend it (see `reconcile`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from polyplane.feed.protocol import Feed
from polyplane.flow.projector import Target
from polyplane.flow.settling import caught_up
from polyplane.garbage import uncollected
from polyplane.model.items import Item
from polyplane.model.position import Position
from polyplane.truth.database import Database
from polyplane.truth.journal import Batch, Journal
from polyplane.truth.outbox import touch
from polyplane.truth.rows import Row
from polyplane.truth.scan import all_rows, rows_about, rows_by_key, some_keys

_KEYS: Final = 10_000
"""Keys per look-up."""


class TruthOfTarget:
    """Truth and the flow, as `reconcile` sees them (see `reconcile.repair.Mending`)."""

    def __init__(
        self,
        target: Target,
        database: Database,
        journal: Journal,
        feed: Feed,
        changes: str,
        *,
        epoch: Callable[[], int],
        timeout_s: float,
    ) -> None:
        """`changes` is the name of the changes stream, `epoch` gives the present one, `timeout_s`
        bounds each `caught_up`.
        """
        self._target = target
        self._database = database
        self._journal = journal
        self._feed = feed
        self._changes = changes
        self._epoch = epoch
        self._timeout_s = timeout_s

    @property
    def definition(self) -> str:
        """What digests depend on besides the row: kind, version, embedder."""
        return self._target.deriver.definition

    async def about(self) -> int | None:
        """About how many rows there are; None when nobody knows."""
        return await rows_about(self._database, self._target.source)

    async def all(
        self, after: str | None = None
    ) -> AsyncGenerator[list[tuple[str, str | None]], None]:
        """Every row's (key, digest), in key order, from one snapshot; or those behind a key."""
        scan = all_rows(self._database, self._target.source, ordered=True, after=after)
        async with aclosing(scan) as batches:
            async for rows in batches:
                with uncollected():
                    found = list(self._target.deriver.digests(rows))
                    rows.clear()  # before the collector is back
                yield found

    async def of(self, keys: list[str]) -> Mapping[str, str | None]:
        """The digests of `keys` now."""
        found: dict[str, str | None] = {}
        for start in range(0, len(keys), _KEYS):
            async with self._database.connection() as connection:
                rows = await rows_by_key(
                    connection, self._target.source, keys[start : start + _KEYS]
                )
            found |= dict(self._target.deriver.digests(rows.items()))
        return found

    async def items(self, after: str | None = None) -> AsyncGenerator[list[Item], None]:
        """Every item as it should be, embedded anew, in key order; or those behind a key."""
        scan = all_rows(self._database, self._target.source, ordered=True, after=after)
        async with aclosing(scan) as batches:
            async for rows in batches:
                yield await self._finished(rows)

    async def items_of(self, keys: Sequence[str]) -> list[Item]:
        """The items under `keys` as they should be now."""
        async with self._database.connection() as connection:
            rows = await rows_by_key(connection, self._target.source, keys)
        return await self._finished(rows.items())

    async def _finished(self, rows: Iterable[Row]) -> list[Item]:
        found = self._target.deriver.derived(rows).puts
        await self._target.deriver.finish(found, anew=True)
        return found

    async def sample(self, count: int, seed: int) -> list[str]:
        """The keys of `count` rows, chosen by `seed`."""
        return await some_keys(self._database, self._target.source, count, seed)

    async def caught_up(self) -> None:
        """Return when all that was committed before this call is applied to the store."""
        reads = [(self._target.collection.target, self._target.source.captured.name)]
        await caught_up(self._journal, self._epoch, lambda: reads, timeout_s=self._timeout_s)

    async def newest(self) -> int:
        """The packed position of the last change that is published."""
        bounds = await self._feed.bounds(self._changes)
        return Position(self._epoch(), bounds.last).packed()

    async def parked(self) -> set[str]:
        """The keys that wait in the dead letters of this projection."""
        return await self._journal.dead_keys(self._target.collection.target)

    async def floor(self) -> int:
        """The packed position that every bucket of the projection has passed."""
        positions = await self._journal.positions()
        mine = self._target.collection.target
        passed = [at.packed() for (name, _), at in positions.items() if name == mine]
        return min(passed, default=0)

    async def touch(self, keys: Sequence[str], clear: Collection[str]) -> None:
        """Note a change of `keys` in the outbox, in one statement; see `outbox.touch`."""
        await touch(self._database, self._target.source.captured.name, keys, clear)
        await self._feed.hint()


class JournalOfStream:
    """What the journal knows of a stream, as `reconcile` sees it (see `TruthOfStream`)."""

    def __init__(self, name: str, journal: Journal, feed: Feed, epoch: int) -> None:
        """`name` is that of the stream in the feed."""
        self.epoch = epoch
        self._name = name
        self._journal = journal
        self._feed = feed

    async def through(self) -> int:
        """The last sequence of the feed up to which all is noted as stored."""
        bounds = await self._feed.bounds(self._name)
        return await self._journal.ingest_through(f"{self._name}@{bounds.created}", self.epoch)

    async def known(self) -> list[tuple[Batch, bool]]:
        """The batches that the journal still knows, and whether each is noted as stored."""
        return await self._journal.ingest_known(f"{self._name}@")
