"""The projector: changes in, derived items out, in order, proven durable before the position moves.

Truth is read *after* a batch has been received. Whatever was published up to the batch's last
order had been committed before, so the row that is read reflects it, and the item may carry that
order as its stamp.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import structlog

from polyplane.errors import Fenced, PolyplaneError
from polyplane.feed.protocol import Feed, Reader, Subjects
from polyplane.flow.deriving import Derived, Deriver
from polyplane.flow.packing import after_of, is_clearing, keys_of
from polyplane.flow.parking import Parking
from polyplane.flow.sifting import ENGINE_FAULTS, Failures, derive, put, read
from polyplane.flow.tenure import Tenure
from polyplane.garbage import seldom_collected
from polyplane.model.collection import Collection
from polyplane.model.key import BUCKETS, bucket_of
from polyplane.model.message import Message
from polyplane.model.position import Position
from polyplane.steps import step
from polyplane.stores.protocol import ItemStore
from polyplane.truth.database import Database
from polyplane.truth.journal import Journal
from polyplane.truth.leases import Held
from polyplane.truth.scan import Source

_log = structlog.get_logger(__name__)

BATCH_MESSAGES: Final = 64
BATCH_KEYS: Final = 10_000
_WAIT_S: Final = 30.0
_READ_S: Final = 30.0
_APPLY_S: Final = 120.0
MAINTAIN_EVERY_S: Final = 0.5
RETRY_EVERY_S: Final = 1.0
"""How often parked keys are looked at, when there are any."""
_LOOK_EVERY_S: Final = 0.4
"""How often to look whether other buckets are ours by now, when nothing comes."""
_FENCED_S: Final = 0.1
_PAUSES_S: Final = (0.1, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Target:
    """A projection at work: how its rows are read and derived, and where its items go."""

    name: str
    source: Source
    deriver: Deriver
    store: ItemStore
    collection: Collection


class _Missed(Exception):
    """A message of ours is gone from the stream, unread."""


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
        tenure: Tenure | None = None,
    ) -> None:
        """Works on the buckets that `tenure` holds; without one, alone and on all of them."""
        self.target = target
        self._database = database
        self._journal = journal
        self._feed = feed
        self._subjects = subjects
        self._epoch = epoch
        self._tenure = tenure
        self._held: Held | None = None
        self._buckets: Sequence[int] = range(BUCKETS)
        self._parking = Parking(target.name, target.collection.target, journal.dead)
        self._seen: dict[str, int] = {}
        self.is_running = False
        self.is_lost = False
        self._retry_at = 0.0
        self._maintain_at = 0.0
        self._maintenance: asyncio.Task[None] | None = None
        self.position = Position(epoch, 0)
        self.applied_items = 0
        self.filled_rows = self.filled_of_rows = 0
        self.last_error = ""
        self._waits_since = 0.0

    def filling(self, rows: int, of_rows: int) -> None:
        """Note how far the backfill of this collection is."""
        self.filled_rows, self.filled_of_rows = rows, of_rows

    @property
    def waits_s(self) -> float:
        """For how long nothing could be applied because of `last_error`; 0: it can be."""
        if not self.last_error:
            return 0.0
        return asyncio.get_running_loop().time() - self._waits_since

    async def run(self) -> None:
        """Apply changes as they come; wait out faults of the engines. Ends by cancellation, or
        when the stream has lost what was not read (`is_lost`): the collection is to be filled anew.

        Rows that nothing can be made of are parked, and tried again at once and from time to time.
        """
        failures = 0
        is_new = self.is_running = True
        try:
            while True:
                try:
                    if is_new:  # and so may be what derives: see whether it can take them
                        await self._journal.dead.retry(self.target.collection.target, None)
                        is_new = False
                    async with self._reading() as reader:
                        while True:
                            self._check()
                            wait_s = await self._try_again()
                            messages = await reader.batch(BATCH_MESSAGES, wait_s=wait_s)
                            if messages:
                                await self._project(messages)
                            failures, self.last_error = 0, ""
                except _Missed:
                    _log.warning("projector.missed", collection=self.target.collection.target)
                    await self._journal.unfill(self.target.collection.target)
                    self.is_lost = True
                    return
                except Fenced as error:
                    _log.info("projector.fenced", projection=self.target.name, error=error.message)
                    await asyncio.sleep(_FENCED_S)
                except (PolyplaneError, TimeoutError, OSError) as error:
                    if not self.last_error:
                        self._waits_since = asyncio.get_running_loop().time()
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
        """A reader that begins after what every bucket of ours has applied.

        What is ahead is applied once more, and refused by the store's gate.
        """
        collection, table = self.target.collection.target, self.target.source.captured.name
        buckets: Sequence[int | str] = ["*"]
        if self._tenure is not None:
            self._held = await self._tenure.held(collection)
            self._buckets = buckets = self._held.buckets
        await self._parking.load()
        positions = await self._journal.positions()
        if any((collection, bucket) not in positions for bucket in self._buckets):
            raise Fenced(f"{collection} is to be filled first.")
        found = {bucket: positions[collection, bucket] for bucket in self._buckets}
        done = {b: at.order if at.epoch == self._epoch else 0 for b, at in found.items()}
        self._seen = {self._subjects.change(table, b): order for b, order in done.items()}
        # What is read of truth from now on reflects the last of them, whichever bucket it is of.
        self.position = Position(self._epoch, max(done.values()))
        subjects = [self._subjects.change(table, bucket) for bucket in buckets]
        reader = self._feed.reader(self._subjects.changes, subjects, min(done.values()) + 1)
        try:
            yield reader
        finally:
            await reader.close()

    async def _project(self, messages: Sequence[Message]) -> None:
        """Apply messages, in pieces of about BATCH_KEYS keys; one is put while the next is read."""
        putting: asyncio.Task[None] | None = None
        try:
            with seldom_collected() as between:
                for keys, clear, order in self._pieces(messages):
                    made = await self._derived([k for k in keys if k not in self._parking.keys])
                    if putting is not None:
                        await putting
                    putting = asyncio.create_task(self._apply(keys, clear, made, order))
                    del made
                    between()
                if putting is not None:
                    await putting
        finally:
            if putting is not None and not putting.done():
                putting.cancel()
                await asyncio.wait([putting])

    def _pieces(self, messages: Sequence[Message]) -> Iterator[tuple[list[str], set[str], int]]:
        """The keys of some messages at a time, those whose place is to be cleared, and the order
        of the last message.
        """
        keys: dict[str, None] = {}
        clear: set[str] = set()
        for index, message in enumerate(messages):
            if after_of(message) > self._seen.get(message.subject, 0):
                raise _Missed
            self._seen[message.subject] = message.sequence
            _, found = keys_of(message)
            keys |= dict.fromkeys(found)
            if is_clearing(message):
                clear.update(found)
            if len(keys) >= BATCH_KEYS or index + 1 == len(messages):
                yield list(keys), clear, message.sequence
                keys, clear = {}, set()

    async def _apply(self, keys: Sequence[str], clear: Set[str], made: Derived, order: int) -> None:
        """Make the store agree with truth for `keys`, durably, then move the position."""
        target, position = self.target, Position(self._epoch, order)
        failures = await self._put(made, position, clear)
        await self._parking.park(failures)
        step("projector.parked")
        parked = self._parking.keys.intersection(keys) - failures.keys()
        await self._make_again(list(parked), position)
        self.applied_items += len(keys) - len(failures)
        step("projector.applied")
        await target.store.barrier()
        step("projector.durable")
        collection = target.collection.target
        put = [*(item.key for item in made.puts), *made.drops]
        witnesses = {bucket_of(key): key for key in put if key not in failures}
        if self._held is None:
            moved = dict.fromkeys(self._buckets, position)
            await self._journal.projected(collection, moved, witnesses)
        else:
            await self._journal.projected_by(collection, position, witnesses, self._held)
        step("projector.noted")
        self.position = max(self.position, position)
        self._maintain_soon()

    async def _derived(self, keys: Sequence[str]) -> Derived:
        """What follows from the rows of `keys` as they are now."""
        rows, unread = await read(self._database, self.target.source, keys, timeout_s=_READ_S)
        step("projector.read")
        derived = await derive(self.target.deriver, rows.items())
        derived.drops += [key for key in keys if key not in rows and key not in unread]
        derived.bad |= unread
        return derived

    async def _put(
        self, derived: Derived, position: Position, clear: Set[str] = frozenset()
    ) -> Failures:
        """Give the store what was derived, but for what is bad, which is given back."""
        target = self.target
        self._check()
        step("projector.derived")
        packed = position.packed()
        if clear:
            good = {*(item.key for item in derived.puts), *derived.drops}
            await self._clear(sorted(good & clear), packed)
        await put(target.store, target.collection, derived, packed, timeout_s=_APPLY_S)
        return derived.bad

    async def _clear(self, keys: Sequence[str], position: int) -> None:
        """Clear the place of those `keys` under which is what no change could win against.

        That is an item ahead of all changes, or a second one. The change of `position`, which is
        applied next, puts there what follows; who is killed before that is noted does both again.
        """
        store, collection = self.target.store, self.target.collection
        stamps = await store.stamps(collection, keys)
        # Asked for after the store was read: nothing that is applied by rights is ahead of it.
        bounds = await self._feed.bounds(self._subjects.changes)
        newest = Position(self._epoch, bounds.last).packed()
        count = Counter(stamp.key for stamp in stamps)
        stuck = {it.key for it in stamps if it.position > newest or count[it.key] > 1}
        if stuck:
            _log.warning("projector.cleared", collection=collection.target, keys=len(stuck))
            await store.bury(collection, sorted(stuck), position - 1)
            step("projector.cleared")

    async def _make_again(self, parked: Sequence[str], position: Position) -> None:
        """Try parked keys once more, apart from the others; those that are well by now go on."""
        if not parked:
            return
        try:
            failures = await self._put(await self._derived(parked), position)
        except ENGINE_FAULTS:
            raise
        except PolyplaneError as error:  # of so many, it works for none
            failures = dict.fromkeys(parked, error)
        await self._parking.park(failures)
        if well := set(parked) - failures.keys():
            await self.target.store.barrier()
            await self._parking.unpark(well, self._held)

    async def _try_again(self) -> float:
        """Try the parked keys whose time has come; for how long there is nothing of them to do.

        Truth is read anew, hence what was applied up to the position is in what is read.
        """
        now = asyncio.get_running_loop().time()
        if self._parking.keys:
            self._retry_at = min(self._retry_at, now + RETRY_EVERY_S)
        if now >= self._retry_at:
            due = await self._parking.due(self._buckets)
            await self._make_again(due, self.position)
            self._retry_at = now + (RETRY_EVERY_S if self._parking.keys else _WAIT_S)
        wait_s = max(0.001, self._retry_at - now)
        return wait_s if self._held is None else min(wait_s, _LOOK_EVERY_S)

    def _check(self) -> None:
        """Raise Fenced unless this process still holds what it works on."""
        if self._tenure is not None and self._held is not None:
            self._tenure.check(self.target.collection.target, self._held)

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
