"""The one reader of the feed in a process, for all who follow.

Both streams are read whole: so the reader knows how far it is, also where nothing concerns anybody.
What is found is told in rounds, at most so many a second: what changes more often is told once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from traceback import format_exc
from typing import Final, Literal

import structlog

from polyplane.errors import PolyplaneError, Unavailable
from polyplane.feed.protocol import Feed, Reader, Subjects
from polyplane.flow.packing import epoch_of
from polyplane.live.follower import NOWHERE, Follower
from polyplane.live.telling import Tell, Telling
from polyplane.model.live import FeedPosition
from polyplane.model.message import Message

_log = structlog.get_logger("polyplane.live")

ROUND_S: Final = 0.2
"""Between two rounds of a stream: five a second."""
_PULL: Final = 128
_ROUND_MESSAGES: Final = 512
_TURN_FOLLOWERS: Final = 16
"""After so many, others have their turn."""
_WAIT_S: Final = 20.0
_MORE_S: Final = 0.002
_AGAIN_S: Final = 0.25
_CATCH_UP_S: Final = 10.0
_CATCH_UP_MESSAGES: Final = 20_000
_CATCHING_UP_MAX: Final = 4

Kind = Literal["changes", "events"]


class Cannot(Exception):
    """A follower cannot go on from where it was; says why."""


class Feeding:
    """Reads both streams while anybody follows anything of them."""

    def __init__(
        self,
        feed: Feed,
        subjects: Subjects,
        telling: Telling,
        epoch: Callable[[], int],
        followers: Callable[[], Collection[Follower]],
    ) -> None:
        self._feed = feed
        self._streams: dict[Kind, tuple[str, str]] = {
            "changes": (subjects.changes, subjects.all_changes),
            "events": (subjects.events, subjects.all_events),
        }
        self._telling = telling
        self._epoch = epoch
        self._all = followers
        self._lock = asyncio.Lock()
        self._catching_up = asyncio.Semaphore(_CATCHING_UP_MAX)
        self._tasks: list[asyncio.Task[None]] = []
        self._created: dict[Kind, str] = {}
        self.position = NOWHERE
        """Up to where all followers were told."""

    # Who comes and goes

    async def join(
        self, follower: Follower, after: FeedPosition | None, add: Callable[[], None]
    ) -> None:
        """Let `follower` be told from now on, or from `after` on; `add` puts it among all.

        Nobody may take what it is told before this returns: then, what happened before is there.
        Raises FeedDown when the streams cannot be read.
        """
        async with self._lock:  # between two rounds: nothing is half told
            if not self._tasks:
                await self._start()
            why = await self._why_not(after) if after is not None else ""
            now = self.position
            follower.began = now if after is None else after
            if after is None or why:
                follower.pending.position = follower.floor = now
            else:
                follower.pending.position = follower.floor = after
            add()
        if why:
            follower.reset(why, now)
        elif after is not None:
            await self._catch_up(follower, after, now)

    async def rest(self) -> None:
        """Stop reading, if nobody follows any more."""
        async with self._lock:  # somebody may be joining
            if not any(it.needs_feed for it in self._all()):
                await self.close()

    async def close(self) -> None:
        """Stop reading. Safe to call twice."""
        tasks, self._tasks = self._tasks, []
        while running := [task for task in tasks if not task.done()]:
            for task in running:  # libraries swallow a cancellation now and then
                task.cancel()
            await asyncio.wait(running, timeout=1.0)

    async def _start(self) -> None:
        self.position = await self._ends()
        self._tasks = [
            asyncio.create_task(self._run(it), name=f"live {it}") for it in self._streams
        ]

    async def _ends(self) -> FeedPosition:
        ends = {}
        for kind, (stream, _) in self._streams.items():
            bounds = await self._feed.bounds(stream)
            ends[kind], self._created[kind] = bounds.last, bounds.created
        return FeedPosition(
            max(self._epoch(), self.position.epoch), ends["changes"], ends["events"]
        )

    # What happened before

    async def _why_not(self, after: FeedPosition) -> str:
        """Why nobody can go on from `after`; empty when they can."""
        if after.epoch != self.position.epoch:
            return "another epoch has begun"
        for kind, (stream, _) in self._streams.items():
            bounds, done, now = await self._feed.bounds(stream), _of(after, kind), self._at(kind)
            if done > bounds.last:
                return "the position is ahead of what there is"
            if done + 1 < bounds.first:
                return "the position is no longer in the stream"
            if now - done > _CATCH_UP_MESSAGES:
                return "too much has happened since"
        return ""

    async def _catch_up(self, follower: Follower, after: FeedPosition, now: FeedPosition) -> None:
        """Have `follower` told first what happened in (after, now]."""
        before = Follower(follower.followed, follower.caller)
        before.pending.position = before.floor = after
        try:
            async with asyncio.timeout(_CATCH_UP_S), self._catching_up:
                for kind in self._streams:
                    await self._again(before, kind, _of(after, kind), _of(now, kind))
        except (PolyplaneError, TimeoutError, Cannot) as error:
            _log.info("live.cannot_catch_up", error=str(error) or type(error).__name__)
            follower.reset("what happened since could not be read", self.position)
        else:
            batch = before.pending.take()
            for topic in batch.lagged:
                follower.lag(topic)
            follower.pending.put_before([(it, _size(it.event)) for it in batch.updates])
            follower.move(changes=now.changes, events=now.events)

    async def _again(self, follower: Follower, kind: Kind, after: int, upto: int) -> None:
        if after >= upto:
            return
        stream, subject = self._streams[kind]
        reader = self._feed.reader(stream, [subject], after + 1)
        try:
            while after < upto:
                messages = await reader.batch(_PULL, wait_s=_CATCH_UP_S)
                if not messages:
                    raise Cannot("the stream gives nothing")
                after = messages[-1].sequence
                due = [it for it in messages if it.sequence <= upto]
                (await self._prepared(kind, due, [follower]))(follower)
        finally:
            await reader.close()

    # The rounds

    async def _run(self, kind: Kind) -> None:
        """Read and tell, for ever; whatever fails is begun again."""
        while True:
            try:
                await self._rounds(kind)
            except (PolyplaneError, TimeoutError) as error:
                _log.warning("live.waiting", stream=kind, error=str(error) or type(error).__name__)
                await asyncio.sleep(_AGAIN_S)
                await self._look_again(kind)
            except Exception:  # of a message that nobody foresaw: it must not come again for ever
                _log.error("live.failed", stream=kind, trace=format_exc())
                await asyncio.sleep(_AGAIN_S)
                await self._skip()

    async def _rounds(self, kind: Kind) -> None:
        loop = asyncio.get_running_loop()
        stream, subject = self._streams[kind]
        reader = self._feed.reader(stream, [subject], self._at(kind) + 1)
        try:
            while True:
                messages = await _some(reader)
                if messages:
                    began = loop.time()
                    async with self._lock:
                        await self._round(kind, messages)
                    await asyncio.sleep(max(0.0, began + ROUND_S - loop.time()))
        finally:
            await reader.close()

    async def _round(self, kind: Kind, messages: list[Message]) -> None:
        epochs = [epoch for it in messages if (epoch := epoch_of(it)) is not None]
        if epochs and max(epochs) > self.position.epoch:
            self._reset("another epoch has begun", self.position._replace(epoch=max(epochs)))
        followers = [it for it in self._all() if it.needs_feed]
        tell = await self._prepared(kind, messages, followers)
        order = messages[-1].sequence
        for number, follower in enumerate(followers, start=1):
            tell(follower)  # and moved in the same breath: what it takes then is whole
            follower.move(**{kind: order})
            if number % _TURN_FOLLOWERS == 0:
                await asyncio.sleep(0)
        self.position = self.position._replace(**{kind: order})

    async def _prepared(
        self, kind: Kind, messages: list[Message], followers: Collection[Follower]
    ) -> Tell:
        prepare = self._telling.changes if kind == "changes" else self._telling.events
        return await prepare(messages, followers)

    async def _look_again(self, kind: Kind) -> None:
        """Have everybody begin anew if the stream is not the one that was read."""
        try:
            async with self._lock:
                bounds = await self._feed.bounds(self._streams[kind][0])
                if bounds.created != self._created[kind] or bounds.last < self._at(kind):
                    self._reset("the stream was made anew", await self._ends())
        except Unavailable as error:
            _log.info("live.unknown", error=error.message)

    async def _skip(self) -> None:
        """Leave everything out that there is by now, and say so."""
        try:
            async with self._lock:
                self._reset("what happened could not be read", await self._ends())
        except Unavailable as error:
            _log.info("live.unknown", error=error.message)

    def _reset(self, why: str, position: FeedPosition) -> None:
        self.position = position
        for follower in self._all():
            if follower.needs_feed:
                follower.reset(why, position)

    def _at(self, kind: Kind) -> int:
        return _of(self.position, kind)


def _of(position: FeedPosition, kind: Kind) -> int:
    return position.changes if kind == "changes" else position.events


def _size(event: object) -> int:
    """About what an event takes that was counted once already."""
    return 0 if event is None else 1_024


async def _some(reader: Reader) -> list[Message]:
    """What has come, when something has; what comes with it, too, within bounds."""
    messages = await reader.batch(_PULL, wait_s=_WAIT_S)
    while messages and len(messages) < _ROUND_MESSAGES:
        more = await reader.batch(_PULL, wait_s=_MORE_S)
        if not more:
            break
        messages += more
    return messages
