"""What the request cache hears of changes: the record of each row and table that entries depend on.

The mark of how far it has been told lies in the cache itself: see `RequestStore`. So there is
nothing to note elsewhere, and any number of recorders may be at work: what is told twice changes
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from contextlib import suppress
from secrets import token_bytes
from typing import Final

import structlog

from polyplane.errors import FeedDown, PolyplaneError
from polyplane.feed.protocol import Bounds, Feed, Subjects
from polyplane.flow.packing import keys_of
from polyplane.model.message import Message
from polyplane.model.position import Position
from polyplane.stores.request_protocol import Depend, Mark, RequestStore

_log = structlog.get_logger(__name__)

BATCH_MESSAGES: Final = 64
VOUCH_EVERY_S: Final = 1.0
_PAUSES_S: Final = (0.1, 0.5, 1.0)
CHAIN_BYTES: Final = 8


class Recorder:
    """Tells the request cache what has changed. `run` until cancelled."""

    def __init__(self, store: RequestStore, feed: Feed, subjects: Subjects, *, epoch: int) -> None:
        self._store = store
        self._feed = feed
        self._subjects = subjects
        self._epoch = epoch
        self._failures = 0
        self.last_error = ""
        self.position = Position(epoch, 0)

    async def run(self) -> None:
        """Follow the changes; wait out faults. While it cannot, no entry counts."""
        while True:
            try:
                await self._follow()
            except (PolyplaneError, TimeoutError, OSError) as error:
                self.last_error = str(error) or type(error).__name__
                _log.warning("requests.waiting", error=self.last_error)
                if not isinstance(error, FeedDown):  # a cache that takes nothing may still be read
                    with suppress(PolyplaneError, TimeoutError, OSError):
                        await self._store.disown()
            await asyncio.sleep(_PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)])
            self._failures += 1

    async def _follow(self) -> None:
        """Tell what has changed since the mark, for as long as nothing gets lost."""
        bounds = await self._bounds()
        mark = await self._begun(bounds)
        done = mark.done
        order = Position.unpacked(done).order
        start, subjects = order + 1, [self._subjects.all_changes]
        # What was published by now is applied before anybody vouches.
        target, vouched = bounds.last, 0.0
        loop = asyncio.get_running_loop()
        reader = self._feed.reader(self._subjects.changes, subjects, start)
        try:
            while True:
                messages = await reader.batch(BATCH_MESSAGES, wait_s=VOUCH_EVERY_S)
                if _skips(order, messages):
                    await self._store.begin_chain(
                        token_bytes(CHAIN_BYTES), self._packed(bounds.last), instead=mark.chain
                    )
                    return
                if not messages or loop.time() - vouched > VOUCH_EVERY_S:
                    bounds = await self._bounds(bounds)
                order = messages[-1].sequence if messages else order
                vouch = order >= target and bounds.last >= order
                changed: list[Depend] = []
                if messages:
                    # Asked for after they came: who depends on another table by now has begun
                    # to load after they were published.
                    now = await self._store.mark()
                    if now is None or now.chain != mark.chain:
                        return
                    changed = changed_of(messages, now.tables)
                upto = self._packed(order)
                if not await self._store.apply(mark.chain, done, upto, changed, vouch=vouch):
                    _log.warning("requests.lost", after=done)
                    return
                done, vouched = upto, loop.time()
                self.position = Position(self._epoch, order)
                self._failures, self.last_error = 0, ""
        finally:
            await reader.close()

    async def _begun(self, bounds: Bounds) -> Mark:
        """Where to go on; a new chain when the changes since the mark are not to be had."""
        mark = await self._store.mark()
        while mark is None or not self._reaches(mark, bounds):
            chain, instead = token_bytes(CHAIN_BYTES), mark.chain if mark else b""
            await self._store.begin_chain(chain, self._packed(bounds.last), instead=instead)
            _log.info("requests.anew", after=bounds.last)
            mark = await self._store.mark()
        return mark

    def _reaches(self, mark: Mark, bounds: Bounds) -> bool:
        """Whether the stream has all that comes after the mark."""
        at = Position.unpacked(mark.done)
        return at.epoch == self._epoch and bounds.first - 1 <= at.order <= bounds.last

    async def _bounds(self, before: Bounds | None = None) -> Bounds:
        """Where the stream is; FeedDown when it is another one than `before`, or has gone back."""
        bounds = await self._feed.bounds(self._subjects.changes)
        if before and (before.created != bounds.created or bounds.last < before.last):
            raise FeedDown("The changes stream is another one by now.")
        return bounds

    def _packed(self, order: int) -> int:
        return Position(self._epoch, order).packed()


def _skips(order: int, messages: Sequence[Message]) -> bool:
    """Whether a message after `order`, or between these, is gone from the stream."""
    return any(it.sequence != order + 1 + n for n, it in enumerate(messages))


def changed_of(messages: Sequence[Message], tables: Set[str]) -> list[Depend]:
    """What entries may depend on of what changed, in `tables`: each row and its table, once."""
    found: dict[Depend, None] = {}
    for message in messages:
        table, keys = keys_of(message)
        if table in tables:
            found[table, None] = None
            found |= dict.fromkeys((table, key) for key in keys)
    return list(found)
