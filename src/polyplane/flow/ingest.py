"""Ingest: points that wait in the feed become rows of the series store, each exactly once.

A range of sequences is written down before its insert and names it: after a crash the same
messages are inserted again under the same token, which the store refuses to insert twice. Only
when the store's barrier has passed are the messages let go of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from polyplane.errors import Fenced, PolyplaneError, Refused
from polyplane.feed.protocol import Feed, Subjects
from polyplane.model.message import Message
from polyplane.model.points import EVENT_ID
from polyplane.model.stream import Stream
from polyplane.steps import step
from polyplane.stores.protocol import SeriesStore
from polyplane.truth.journal import Batch, Journal

_log = structlog.get_logger(__name__)

BATCH_MESSAGES: Final = 128
BATCH_POINTS: Final = 400_000
_WAIT_S: Final = 30.0
_APPEND_S: Final = 120.0
_PAUSES_S: Final = (0.1, 0.5, 1.0, 2.0)

Decode = Callable[[type[Stream], Message], pa.Table]
"""A message's points, with `event_id`; raises Refused for a message that is none."""


class Ingest:
    """Moves one stream's points from the feed to the series store. `run` until cancelled."""

    def __init__(
        self,
        stream: type[Stream],
        store: SeriesStore,
        journal: Journal,
        feed: Feed,
        subjects: Subjects,
        decode: Decode,
        *,
        epoch: int,
    ) -> None:
        self.stream = stream
        self._store = store
        self._journal = journal
        self._feed = feed
        self._name, _ = subjects.stream(stream.name)
        of_tenants = bool(stream.tenant_column)
        self._subjects = subjects.all_points(stream.name, of_tenants=of_tenants)
        self._decode = decode
        self._epoch = epoch
        self._incarnation = self._name
        self.stored_points = 0
        self.rejected_messages = 0
        self.lost_messages = 0
        self.last_error = ""

    async def run(self) -> None:
        """Store points as they come; wait out faults. Ends by cancellation."""
        failures = 0
        while True:
            try:
                bounds = await self._feed.bounds(self._name)
                self._incarnation = f"{self._name}@{bounds.created}"
                await self._finish_begun()
                done = await self._journal.ingest_through(self._incarnation, self._epoch)
                if done >= bounds.first:  # stored, and died before it let go of them
                    await self._feed.let_go(self._name, done)
                start = max(bounds.first, done + 1)
                if done:
                    self._missed(done + 1, start)
                reader = self._feed.reader(self._name, self._subjects, start)
                try:
                    while True:
                        messages = await reader.batch(BATCH_MESSAGES, wait_s=_WAIT_S)
                        if messages:
                            for message in messages:
                                self._missed(start, message.sequence)
                                start = message.sequence + 1
                            await self._store_all(messages)
                            failures, self.last_error = 0, ""
                finally:
                    await reader.close()
            except (PolyplaneError, TimeoutError) as error:
                self.last_error = str(error) or type(error).__name__
                _log.warning("ingest.waiting", stream=self.stream.name, error=self.last_error)
                await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
                failures += 1

    def _missed(self, expected: int, sequence: int) -> None:
        """Say so, when messages that nobody has stored are gone: NATS held the only copy."""
        if sequence > expected:
            self.lost_messages += sequence - expected
            _log.error("ingest.lost", stream=self.stream.name, first=expected, last=sequence - 1)

    async def _finish_begun(self) -> None:
        """Insert again what was begun before a crash, exactly the same ranges."""
        for first, last in await self._journal.ingest_open(self._incarnation, self._epoch):
            _log.info("ingest.finishes_range", stream=self.stream.name, first=first, last=last)
            found = [await self._feed.get(self._name, n) for n in range(first, last + 1)]
            messages = [message for message in found if message is not None]
            # They are let go of only after the barrier: if the last is gone, all are stored.
            if found[-1] is not None:
                await self._append(messages, [self._points(message) for message in messages])
            await self._done(first, last)

    async def _store_all(self, messages: Sequence[Message]) -> None:
        """Store messages in ranges of at most about BATCH_POINTS points."""
        piece: list[Message] = []
        tables: list[pa.Table | None] = []
        size = 0
        for message in messages:
            table = self._points(message)
            if size and size + (table.num_rows if table else 0) > BATCH_POINTS:
                await self._store_range(piece, tables)
                piece, tables, size = [], [], 0
            piece.append(message)
            tables.append(table)
            size += table.num_rows if table else 0
        await self._store_range(piece, tables)

    async def _store_range(
        self, messages: Sequence[Message], tables: Sequence[pa.Table | None]
    ) -> None:
        first, last = messages[0].sequence, messages[-1].sequence
        batches = [noted(table) for table in tables if table is not None and table.num_rows]
        if not await self._journal.ingest_begin(
            self._incarnation, self._epoch, first, last, batches
        ):
            raise Fenced(f"Another process stores {self.stream.name} too.")
        step("ingest.begun")
        await self._append(messages, tables)
        await self._done(first, last)

    def _points(self, message: Message) -> pa.Table | None:
        """The points of a message; None, and a word in the log, for one that holds none."""
        try:
            return self._decode(self.stream, message)
        except Refused as error:
            self.rejected_messages += 1
            _log.warning(
                "ingest.rejected",
                stream=self.stream.name,
                sequence=message.sequence,
                error=error.message,
            )
            return None

    async def _append(self, messages: Sequence[Message], tables: Sequence[pa.Table | None]) -> None:
        """Insert the points of a range under its token."""
        found = [table for table in tables if table is not None and table.num_rows]
        if not found:
            return
        points = pa.concat_tables(found)
        first, last = messages[0].sequence, messages[-1].sequence
        token = f"{self._incarnation}:{self._epoch}:{first}-{last}"
        async with asyncio.timeout(_APPEND_S):
            await self._store.append(self.stream, points, token=token)
        self.stored_points += points.num_rows

    async def _done(self, first: int, last: int) -> None:
        step("ingest.appended")
        await self._store.barrier()
        step("ingest.durable")
        await self._journal.ingest_stored(self._incarnation, self._epoch, first)
        step("ingest.noted")
        await self._feed.let_go(self._name, last)


def noted(points: pa.Table) -> Batch:
    """What is noted of the points of one message."""
    span = pc.min_max(points["time"].cast(pa.int64()))
    identity = points[EVENT_ID][0].as_py()
    number = int.from_bytes(identity[:8], "little", signed=True)
    return Batch(number, points.num_rows, span["min"].as_py(), span["max"].as_py())
