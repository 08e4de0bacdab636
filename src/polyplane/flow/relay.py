"""The relay: the outbox's changes and events, published in order, once, by one leader.

The tail of the stream is the cursor. Every message says where in its page it stands and every
publish names the last sequence it expects, so a relay that died anywhere is resumed without loss
or repetition, and two relays can never interleave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import uuid4

import structlog

from polyplane.errors import Fenced, Unavailable
from polyplane.feed.protocol import Feed, Outgoing, Subjects
from polyplane.flow.packing import (
    Place,
    chained,
    change_messages,
    done_of,
    event_messages,
    place_of,
    tails_of,
)
from polyplane.flow.resuming import End, follows, why_over
from polyplane.model.message import Message
from polyplane.steps import step
from polyplane.truth import outbox
from polyplane.truth.database import Connection, Database
from polyplane.truth.journal import Journal, Relayed
from polyplane.truth.outbox import BEFORE_EVERYTHING, Page

_log = structlog.get_logger(__name__)

LEASE: Final = "relay"
LEASE_TTL_S: Final = 3.0
BUSY_POLL_S: Final = 0.02
IDLE_POLL_S: Final = 0.1
BUSY_FOR_S: Final = 1.0
_UPKEEP_S: Final = 30.0
_STANDBY_S: Final = 1.0
_FENCED_S: Final = 0.1
_CALL_S: Final = 30.0


class Over(NamedTuple):
    """Why the epoch is over; `went_back`: because PostgreSQL is an older copy.

    `within`: it is not, but everything that moves data must begin again in it.
    """

    why: str
    went_back: bool
    within: bool = False


class _EpochOver(Exception):
    """What a relay finds when it would resume."""

    def __init__(self, why: str, *, went_back: bool = False) -> None:
        super().__init__(why)
        self.over = Over(why, went_back)


@dataclass(slots=True)
class _Cursor:
    """Where the relay stands: everything visible in `snapshot` is published; stream ends."""

    snapshot: str
    changes_end: int
    events_end: int


def _done(page: Page, cursor: _Cursor) -> Relayed:
    """What is published when `page` is, and the streams end there."""
    ends = (cursor.changes_end, cursor.events_end)
    return Relayed(page.cur, *ends) if page.last else Relayed(page.prev, *ends, page.cur, page.upto)


def _check_length(published: int, last: int) -> None:
    """Raise _EpochOver when the changes end before what is known to be published."""
    if last < published:
        raise _EpochOver(f"the changes stream ends at {last}, but {published} was published")


class Relay:
    """Moves the outbox to the feed. `run` until cancelled; only the leader publishes."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        feed: Feed,
        subjects: Subjects,
        *,
        epoch: int,
        all_applied: Callable[[], Awaitable[bool]],
    ) -> None:
        self._database = database
        self._journal = journal
        self._feed = feed
        self._subjects = subjects
        self._epoch = epoch
        self._all_applied = all_applied
        self._holder = uuid4()
        self._wake = asyncio.Event()
        self._renew_at = 0.0
        self._ends: dict[str, int] = {}
        self.leading = False
        self.over: Over | None = None
        self.published_keys = 0
        self.published_events = 0

    async def run(self) -> None:
        """Lead when nobody else does; resume after any fault. Returns only by cancellation."""
        async with self._feed.hints(self._wake.set):
            while True:
                try:
                    if await self._has_lease():
                        await self._lead()
                    else:
                        await asyncio.sleep(_STANDBY_S)
                except _EpochOver as error:
                    _log.warning("relay.epoch_over", why=error.over.why)
                    self.over = error.over
                    await self.stop()
                    return
                except Fenced as error:
                    _log.warning("relay.fenced", error=error.message)
                    await asyncio.sleep(_FENCED_S)
                except (Unavailable, TimeoutError) as error:
                    _log.warning("relay.waiting", error=str(error) or type(error).__name__)
                    await asyncio.sleep(_STANDBY_S)
                finally:
                    self.leading = False
                    self._renew_at = 0.0

    async def stop(self) -> None:
        """Give the lease up, so that another relay need not wait for its end."""
        await self._journal.release(LEASE, self._holder)

    async def _has_lease(self) -> bool:
        """Take or renew the lease, when it is time to."""
        now = asyncio.get_running_loop().time()
        if now >= self._renew_at:
            fence = await self._journal.lease(LEASE, self._holder, LEASE_TTL_S, self._epoch)
            if fence is None:
                return False
            self._renew_at = now + LEASE_TTL_S / 3
        return True

    async def _lead(self) -> None:
        """Publish windows until the lease is lost; raises on any fault."""
        loop = asyncio.get_running_loop()
        async with self._database.connection() as connection:
            cursor = await self._resume(connection)
            self.leading = True
            upkept = busy = loop.time()
            await outbox.keep_partitions(connection, drop=False)
            while await self._has_lease():
                worked = await self._window(connection, cursor)
                busy = loop.time() if worked else busy
                if loop.time() - upkept > _UPKEEP_S:
                    await outbox.keep_partitions(connection, drop=await self._all_applied())
                    upkept = loop.time()
                if not worked:
                    await self._rest(loop.time() - busy < BUSY_FOR_S)

    async def _rest(self, busy: bool) -> None:
        """Wait for the next poll, or for a hint."""
        try:
            async with asyncio.timeout(BUSY_POLL_S if busy else IDLE_POLL_S):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    async def _window(self, connection: Connection, cursor: _Cursor) -> bool:
        """Publish one window, page by page; whether there was anything."""
        async with asyncio.timeout(_CALL_S):
            page = await outbox.first_page(connection, cursor.snapshot)
        if page.rows:
            await self._finish(connection, cursor, page)
        cursor.snapshot = page.cur
        return bool(page.rows)

    async def _finish(
        self, connection: Connection, cursor: _Cursor, page: Page, events_done: int = 0
    ) -> None:
        """Publish `page` (but for the events already there) and the rest of its window."""
        await self._publish(cursor, page, events_done)
        await self._go_on(connection, cursor, page)

    async def _go_on(self, connection: Connection, cursor: _Cursor, page: Page) -> None:
        """Publish what follows `page` in its window."""
        async with aclosing(outbox.pages_after(connection, page)) as pages:
            while not page.last:
                if not await self._has_lease():
                    raise Fenced("Another relay has the lease.")
                async with asyncio.timeout(_CALL_S):
                    page = await anext(pages)
                await self._publish(cursor, page)
        cursor.snapshot = page.cur

    async def _publish(
        self, cursor: _Cursor, page: Page, events_done: int = 0, last: Message | None = None
    ) -> None:
        """Publish a page's events, then its changes, but for what is there; and note their ends.

        `last` is the last change that is there, if it is of this page.
        """
        events = event_messages(self._subjects, self._epoch, page)[events_done:]
        changes = change_messages(self._subjects, self._epoch, page)
        changes_done = done_of(changes, last)
        first = cursor.changes_end + 1 - changes_done
        ends = dict(self._ends)
        changes = chained(changes, first, ends)
        step("relay.read")
        cursor.events_end = await self._send(self._subjects.events, events, cursor.events_end)
        if events:
            step("relay.events_published")
        cursor.changes_end = await self._send(
            self._subjects.changes, changes[changes_done:], cursor.changes_end
        )
        step("relay.changes_published")
        self._ends = ends
        await self._journal.relayed(self._epoch, _done(page, cursor), tails_of(changes, first))
        step("relay.noted")
        self.published_events += len(events)
        self.published_keys += sum(len(row.keys) for row in page.rows)

    async def _send(self, stream: str, messages: Sequence[Outgoing], after: int) -> int:
        return await self._feed.publish_fenced(stream, messages, after) if messages else after

    async def _resume(self, connection: Connection) -> _Cursor:
        """Learn from the streams' tails what is published, and finish what was begun.

        A page's events go out before its changes. So the tail of the changes says where the relay
        is, and the tail of the events whether it had begun the next page.
        """
        noted = await self._journal.last_relayed(self._epoch) or Relayed(BEFORE_EVERYTHING, 0, 0)
        published = await self._journal.published_order(self._epoch)
        # Later: a relay that was paused may publish more meanwhile, and never less.
        changes = await self._end(self._subjects.changes)
        events = await self._end(self._subjects.events)
        _check_length(published, changes.bounds.last)
        if why := why_over(noted, changes, events):
            raise _EpochOver(why)
        at, begun = self._place(changes), self._place(events)
        tails = await self._journal.tails()
        self._ends = {self._subjects.change(*at): order for at, order in tails.items()}
        start = at.cur if at else noted.snapshot
        cursor = _Cursor(start, changes.bounds.last, events.bounds.last)
        page: Page | None = None
        if at:
            # Again, also when it is complete: the journal may not have heard of it.
            page = await self._again(connection, at)
            self._check_history(noted.snapshot, at, page, changes.message)
            events_there = sum(row.op == "E" for row in page.rows)
            if events.has_lost(noted.events_end, events_there):
                raise _EpochOver("what was published last is gone from the events stream")
            await self._publish(cursor, page, events_there, changes.message)
        elif events.has_lost(noted.events_end):
            raise _EpochOver("what was published last is gone from the events stream")
        elif noted.cur and noted.upto is not None:
            page = Page(noted.snapshot, noted.cur, noted.upto, noted.upto, False, ())
        if begun and follows(begun, at, noted):
            _log.info("relay.finishes_page", events_there=begun.index + 1)
            page = await self._again(connection, begun)
            await self._finish(connection, cursor, page, begun.index + 1)
        elif page and not page.last:
            _log.info("relay.finishes_window", upto=page.upto)
            await self._go_on(connection, cursor, page)
        return cursor

    def _check_history(self, noted: str, at: Place, page: Page, last: Message | None) -> None:
        """Raise _EpochOver when PostgreSQL does not know the page that was published last.

        Each page is noted before the next one goes out. So the last one is noted, or is still to
        be read from the outbox, and is packed as it was: unless PostgreSQL is an older copy.
        """
        messages = change_messages(self._subjects, self._epoch, page)
        if noted != at.cur and not done_of(messages, last):
            raise _EpochOver("PostgreSQL does not know what was published", went_back=True)

    async def _again(self, connection: Connection, place: Place) -> Page:
        """Exactly the page that `place` is in."""
        async with asyncio.timeout(_CALL_S):
            return await outbox.same_page(
                connection, place.prev, place.cur, place.after, place.upto, place.last
            )

    async def _end(self, stream: str) -> End:
        bounds = await self._feed.bounds(stream)
        return End(bounds, await self._feed.get(stream, bounds.last) if bounds.last else None)

    def _place(self, end: End) -> Place | None:
        """Where a stream's last message stands, if it is there and a relay's of this epoch."""
        place = place_of(end.message)
        return place if place and place.epoch == self._epoch else None
