"""Live updates, states and pub/sub of an open plane, in the hands of one caller or tenant."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from polyplane.errors import Misconfigured, Refused, TooLarge, Unavailable
from polyplane.feed.jetstream import JetStream
from polyplane.live.follower import Ended, Follower
from polyplane.live.hub import Hub
from polyplane.model.caller import Caller
from polyplane.model.channel import (
    MESSAGE_BYTES_MAX,
    Channel,
    Listener,
    Transport,
    check_channel,
)
from polyplane.model.live import Batch, FeedPosition, Followed, Source, StateKind, Topic
from polyplane.runtime.declared import Declared
from polyplane.runtime.targets import Stores
from polyplane.settings import Settings
from polyplane.stores.states import StateStore
from polyplane.truth.database import Database
from polyplane.truth.visible import Visibility

QUEUE_MAX: Final = 1_000
"""Messages that wait for one who listens to a channel; the oldest are dropped, and counted."""
_HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Live:
    """What all verbs share."""

    hub: Hub
    topics: Mapping[str, Topic]
    states: StateStore | None
    transports: Mapping[str, Transport]
    transport: str
    """The one that is used unless another is named."""

    async def close(self) -> None:
        """End all who follow."""
        await self.hub.close()


def live_of(
    declared: Declared,
    settings: Settings,
    databases: tuple[Database, Database],
    feed: JetStream,
    stores: Stores,
    epoch: Callable[[], int],
) -> Live:
    """On what a plane has opened; `databases`: the plane's own, and that of callers."""
    models = {it.model for it in declared.projections} | {*declared.followed_models()}
    tables = {it.captured.name: it for it in map(Visibility.of, models)}
    transports: dict[str, Transport] = {"nats": feed.channels}
    cache = None
    if stores.cache is not None:
        transports["valkey"] = stores.cache.channels
        cache = (stores.cache.states, stores.cache.channels)
    hub = Hub(feed, feed.subjects, tables, databases, epoch, cache)
    return Live(hub, declared.topics, cache[0] if cache else None, transports, settings.pubsub)


class News:
    """What a follower is told, batch by batch: `async for batch in news`.

    Raises Unavailable when it is over for another reason than the end of the block.
    """

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self.position = follower.began
        """Up to where all was told; to go on from later, as `after`."""

    async def next(self, *, wait_s: float) -> Batch | None:
        """What there is, or None when nothing comes within `wait_s` seconds."""
        try:
            batch = await self._follower.next(wait_s=wait_s)
        except Ended as error:
            raise Unavailable(f"Live updates have ended: {error.reason}.") from None
        if batch is not None:
            self.position = batch.position
        else:
            self.position = self._follower.pending.position
        return batch

    def __aiter__(self) -> News:
        return self

    async def __anext__(self) -> Batch:
        while (batch := await self.next(wait_s=_HOUR_S)) is None:
            continue
        return batch


class LiveEvents:
    """What happens, as one caller may see it."""

    def __init__(self, live: Live, caller: Caller) -> None:
        self._live = live
        self._caller = caller

    @asynccontextmanager
    async def follow(
        self, *wanted: Source | Followed, after: FeedPosition | str | None = None
    ) -> AsyncIterator[News]:
        """Follow rows, events and states while the block lasts: from now on, or from `after` on.

        Raises Refused for what cannot be followed, TooOften and Unavailable when too many follow.
        """
        since = FeedPosition.parse(after) if isinstance(after, str) else after
        followed = [it if isinstance(it, Followed) else Followed.plain(it) for it in wanted]
        async with self._live.hub.follow(followed, self._caller, since) as follower:
            yield News(follower)


class LiveStates:
    """Short-lived states of one tenant, in the cache: they end by themselves."""

    def __init__(self, live: Live, tenant: str) -> None:
        self._live = live
        self._tenant = tenant

    async def set(self, kind: StateKind, id: str, **fields: Any) -> None:
        """Give a state exactly these fields. Its time to live begins anew.

        Raises Refused for a field or an id that cannot be, StoreDown when the cache is down.
        """
        await self._put(kind, id, fields, merge=False)

    async def merge(self, kind: StateKind, id: str, **fields: Any) -> None:
        """Give a state these fields and leave the others, all at once. Raises as `set`."""
        await self._put(kind, id, fields, merge=True)

    async def get(self, kind: StateKind, id: str) -> dict[str, Any] | None:
        """The state, or None when there is none (any more)."""
        return (await self.get_many(kind, [id])).get(id)

    async def get_many(self, kind: StateKind, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Those that there are, by id."""
        for id in ids:
            kind.key_of(id)
        return await self._store.get(self._tenant, kind, list(ids))

    async def end(self, kind: StateKind, id: str) -> None:
        """Forget a state before its time."""
        kind.key_of(id)
        await self._store.drop(self._tenant, kind, id)

    async def _put(
        self, kind: StateKind, id: str, given: Mapping[str, Any], *, merge: bool
    ) -> None:
        kind.key_of(id)
        fields = kind.checked(given)
        if not fields:
            raise Refused(f"No field of {kind.name} is given.", field=kind.name)
        if kind.stamp:
            fields[kind.stamp] = orjson.dumps(datetime.now(UTC).isoformat())
        await self._store.put(self._tenant, kind, id, fields, merge=merge)

    @property
    def _store(self) -> StateStore:
        if self._live.states is None:
            raise Misconfigured("This plane has no cache.", fix="Set REDIS_URL or a home.")
        if not self._tenant:
            raise Refused("Nobody in particular has no states.", field="tenant")
        return self._live.states


class Said(NamedTuple):
    """A message. `missed`: how many before it were dropped, since they were not read in time;
    `interrupted`: whether the connection was lost before it, and with it unknown ones.
    """

    body: bytes
    missed: int
    interrupted: bool


class Messages:
    """What is said in a channel: `async for said in messages`."""

    def __init__(self, queue_max: int) -> None:
        self._waiting: deque[Said] = deque()
        self._queue_max = queue_max
        self._missed = 0
        self._interrupted = False
        self._news = asyncio.Event()

    def receive(self, body: bytes) -> None:
        """Note one; the oldest makes room."""
        self._waiting.append(Said(body, 0, self._interrupted))
        self._interrupted = False
        if len(self._waiting) > self._queue_max:
            dropped = self._waiting.popleft()
            self._missed += 1
            if dropped.interrupted:
                self._waiting[0] = self._waiting[0]._replace(interrupted=True)
        self._news.set()

    def interrupt(self) -> None:
        """The connection was lost meanwhile."""
        self._interrupted = True

    async def next(self, *, wait_s: float) -> Said | None:
        """The next one, or None when none comes within `wait_s` seconds."""
        try:
            async with asyncio.timeout(wait_s):
                while not self._waiting:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return None
        missed, self._missed = self._missed, 0
        return self._waiting.popleft()._replace(missed=missed)

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> Said:
        while (said := await self.next(wait_s=_HOUR_S)) is None:
            continue
        return said


class LivePubSub:
    """Messages within one tenant, to whoever listens at that moment: at most once."""

    def __init__(self, live: Live, tenant: str) -> None:
        self._live = live
        self._tenant = tenant

    async def publish(self, channel: str, body: bytes, *, transport: str | None = None) -> None:
        """Say `body` in `channel`. `transport`: `nats` or `valkey`; else as the settings have it.

        Raises Refused for a name that cannot be, TooLarge above 64 KiB, StoreDown or FeedDown.
        """
        if len(body) > MESSAGE_BYTES_MAX:
            raise TooLarge(f"A message has at most {MESSAGE_BYTES_MAX} bytes.", field="body")
        await self._transport(transport).publish(self._channel(channel), body)

    @asynccontextmanager
    async def subscribe(
        self, channel: str, *, transport: str | None = None, queue_max: int = QUEUE_MAX
    ) -> AsyncIterator[Messages]:
        """Hear all that is said in `channel` while the block lasts. Raises as `publish`."""
        chosen, at = self._transport(transport), self._channel(channel)
        messages = Messages(max(1, min(queue_max, QUEUE_MAX)))
        listener = Listener(messages.receive, messages.interrupt)
        await chosen.listen(at, listener)
        try:
            yield messages
        finally:
            await asyncio.shield(chosen.leave(at, listener))

    def _channel(self, name: str) -> Channel:
        if not self._tenant:
            raise Refused("Nobody in particular has no channels.", field="tenant")
        return Channel("pubsub", self._tenant, check_channel(name))

    def _transport(self, name: str | None) -> Transport:
        name = name or self._live.transport
        found = self._live.transports.get(name)
        if found is None:
            raise Misconfigured(
                f"This plane has no transport {name!r}.", fix="Set REDIS_URL, or use nats."
            )
        return found
