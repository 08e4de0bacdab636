"""The projector: changes in, derived items out, in order, proven durable before the position moves.

Truth is read *after* a batch has been received. Whatever was published up to the batch's last
order had been committed before, so the row that is read reflects it, and the item may carry that
order as its stamp.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import structlog

from polyplane.errors import PolyplaneError
from polyplane.feed.protocol import Feed, Reader, Subjects
from polyplane.flow.deriving import Deriver
from polyplane.flow.packing import keys_of
from polyplane.model.collection import Collection
from polyplane.model.key import BUCKETS
from polyplane.model.message import Message
from polyplane.model.position import Position
from polyplane.steps import step
from polyplane.stores.protocol import ItemStore
from polyplane.truth.database import Database
from polyplane.truth.journal import Journal
from polyplane.truth.scan import Source, rows_by_key

_log = structlog.get_logger(__name__)

BATCH_MESSAGES: Final = 64
BATCH_KEYS: Final = 10_000
_WAIT_S: Final = 30.0
_READ_S: Final = 30.0
_APPLY_S: Final = 120.0
MAINTAIN_EVERY_S: Final = 0.5
_PAUSES_S: Final = (0.1, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Target:
    """A projection at work: how its rows are read and derived, and where its items go."""

    name: str
    source: Source
    deriver: Deriver
    store: ItemStore
    collection: Collection


class Projector:
    """Keeps one collection equal to derive(truth). `run` until cancelled."""

    def __init__(
        self,
        target: Target,
        database: Database,
        journal: Journal,
        feed: Feed,
        subjects: Subjects,
        *,
        epoch: int,
    ) -> None:
        self.target = target
        self._database = database
        self._journal = journal
        self._feed = feed
        self._subjects = subjects
        self._epoch = epoch
        self._done: dict[int, int] = {}
        self._maintain_at = 0.0
        self._maintenance: asyncio.Task[None] | None = None
        self.position = Position(epoch, 0)
        self.applied_items = 0
        self.filled_rows = 0
        self.last_error = ""

    def filling(self, rows: int) -> None:
        """Note how far the backfill of this collection is."""
        self.filled_rows = rows

    async def run(self) -> None:
        """Apply changes as they come; wait out faults of the engines. Ends by cancellation."""
        failures = 0
        try:
            while True:
                try:
                    async with self._reading() as reader:
                        while True:
                            messages = await reader.batch(BATCH_MESSAGES, wait_s=_WAIT_S)
                            if messages:
                                await self._project(messages)
                                failures, self.last_error = 0, ""
                except (PolyplaneError, TimeoutError) as error:
                    self.last_error = str(error) or type(error).__name__
                    _log.warning(
                        "projector.waiting", projection=self.target.name, error=self.last_error
                    )
                    await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
                    failures += 1
        finally:
            await self._stop_maintenance()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Reader]:
        """A reader that begins after what every bucket has applied."""
        positions = await self._journal.positions()
        for bucket in range(BUCKETS):
            position = positions.get((self.target.collection.target, bucket))
            self._done[bucket] = position.order if position and position.epoch == self._epoch else 0
        start = min(self._done.values())
        self.position = Position(self._epoch, start)
        table = self.target.source.captured.name
        reader = self._feed.reader(
            self._subjects.changes, [self._subjects.change(table, "*")], start + 1
        )
        try:
            yield reader
        finally:
            await reader.close()

    async def _project(self, messages: Sequence[Message]) -> None:
        """Apply messages, in pieces of about BATCH_KEYS keys."""
        keys: dict[str, None] = {}
        for index, message in enumerate(messages):
            _, found = keys_of(message)
            keys |= dict.fromkeys(found)
            if len(keys) >= BATCH_KEYS or index + 1 == len(messages):
                await self._apply(list(keys), message.sequence)
                keys = {}

    async def _apply(self, keys: Sequence[str], order: int) -> None:
        """Make the store agree with truth for `keys`, durably, then move the position."""
        target, position = self.target, Position(self._epoch, order)
        for start in range(0, len(keys), BATCH_KEYS):
            piece = keys[start : start + BATCH_KEYS]
            async with asyncio.timeout(_READ_S), self._database.connection() as connection:
                rows = await rows_by_key(connection, target.source, piece)
            step("projector.read")
            puts, drops = await target.deriver.items(rows.items())
            step("projector.derived")
            drops += [key for key in piece if key not in rows]
            async with asyncio.timeout(_APPLY_S):
                await target.store.apply(target.collection, puts, drops, position.packed())
            self.applied_items += len(piece)
        step("projector.applied")
        await target.store.barrier()
        step("projector.durable")
        moved = dict.fromkeys(range(BUCKETS), position)
        await self._journal.projected(target.collection.target, moved)
        step("projector.noted")
        self.position = position
        self._maintain_soon()

    def _maintain_soon(self) -> None:
        """Compact in the background, one at a time, while changes flow."""
        now = asyncio.get_running_loop().time()
        running = self._maintenance is not None and not self._maintenance.done()
        if now >= self._maintain_at and not running:
            self._maintain_at = now + MAINTAIN_EVERY_S
            self._maintenance = asyncio.create_task(self._maintain())

    async def _maintain(self) -> None:
        try:
            await self.target.store.maintain(self.target.collection)
        except PolyplaneError as error:
            _log.warning("projector.maintain", projection=self.target.name, error=error.message)

    async def _stop_maintenance(self) -> None:
        if self._maintenance is not None and not self._maintenance.done():
            self._maintenance.cancel()
            with suppress(asyncio.CancelledError):
                await self._maintenance
