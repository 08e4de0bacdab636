"""Pub/sub over Valkey: one connection of a process listens for all who do.

Whenever it had to be made anew, all are told that they may have missed something.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from polyplane.errors import StoreDown
from polyplane.model.channel import CHANNELS_MAX, Channel, Listener
from polyplane.model.scope import segment
from polyplane.stores.cache.server import Server

_log = structlog.get_logger(__name__)

_SILENCE_S: Final = 2.0
"""After so long without a message the server is asked if it is there, and has as long again."""
_PAUSES_S: Final = (0.1, 0.25, 0.5, 1.0)
_CONFIRMED_S: Final = 5.0


def name_of(root: str, channel: Channel) -> str:
    """What a channel is called on the server."""
    return f"{root}{segment(channel.tenant)}:{channel.room}:{channel.name}"


class ValkeyChannels:
    """Transport. Listens from the first `listen` on; `close` when done."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._heard: dict[str, list[Listener]] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        self._pubsub: PubSub | None = None
        self._task: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()

    async def publish(self, channel: Channel, body: bytes) -> None:
        """See `Transport.publish`."""
        async with self._server.calls() as client:
            await client.publish(name_of(self._server.root, channel), body)

    async def listen(self, channel: Channel, listener: Listener) -> None:
        """See `Transport.listen`."""
        name = name_of(self._server.root, channel)
        if name not in self._heard and len(self._heard) >= CHANNELS_MAX:
            raise StoreDown(f"This process listens to {CHANNELS_MAX} channels already.")
        self._heard.setdefault(name, []).append(listener)
        confirmed = self._confirmed.setdefault(name, asyncio.Event())
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="channels")
        try:
            async with asyncio.timeout(_CONFIRMED_S):
                async with self._sending:
                    if self._pubsub is not None and not confirmed.is_set():
                        with suppress(RedisError, OSError):  # `_run` notices, and begins anew
                            await self._pubsub.subscribe(name)
                await confirmed.wait()
        except TimeoutError:
            await self.leave(channel, listener)
            raise StoreDown("The cache does not let us listen in time.") from None
        except BaseException:
            await self.leave(channel, listener)
            raise

    async def leave(self, channel: Channel, listener: Listener) -> None:
        """See `Transport.leave`."""
        name = name_of(self._server.root, channel)
        listeners = self._heard.get(name, [])
        if listener in listeners:
            listeners.remove(listener)
        if listeners or name not in self._heard:
            return
        del self._heard[name]
        self._confirmed.pop(name, None)
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_CONFIRMED_S), self._sending:
                if self._pubsub is not None and name not in self._heard:
                    await self._pubsub.unsubscribe(name)

    async def close(self) -> None:
        """Stop listening. Safe to call twice."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1.0)

    async def _run(self) -> None:
        """Listen, on one connection after the other."""
        is_first, failures = True, 0
        while True:
            client = self._server.listening()
            pubsub = client.pubsub()
            try:
                await self._begin(pubsub, is_first=is_first)
                is_first, failures = False, 0
                await self._hear(pubsub)
            except (RedisError, OSError, TimeoutError) as error:
                if not failures:
                    _log.warning("channels.lost", error=type(error).__name__)
                await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
                failures += 1
            finally:
                self._pubsub = None
                await _closed(pubsub, client)

    async def _begin(self, pubsub: PubSub, *, is_first: bool) -> None:
        for event in self._confirmed.values():
            event.clear()
        async with self._sending:
            # One of our own, so that there is always one; no await between the list and `_pubsub`.
            names = [f"{self._server.root}:channels", *self._heard]
            self._pubsub = pubsub
            await pubsub.subscribe(*names)
        if not is_first:
            for listeners in list(self._heard.values()):
                for listener in list(listeners):
                    listener.interrupted()

    async def _hear(self, pubsub: PubSub) -> None:
        """Until the connection fails. Raises TimeoutError for a server that stands still."""
        is_asked = False
        while True:
            message: Any = await pubsub.get_message(timeout=_SILENCE_S)
            if message is None:
                if is_asked:
                    raise TimeoutError
                is_asked = True
                await pubsub.ping()
                continue
            is_asked = False
            name = (message.get("channel") or b"").decode(errors="replace")
            if message["type"] == "message":
                for listener in list(self._heard.get(name, ())):
                    listener.receive(message["data"])
            elif message["type"] == "subscribe" and name in self._confirmed:
                self._confirmed[name].set()
            elif message["type"] == "unsubscribe" and name in self._heard:
                await pubsub.subscribe(name)  # somebody came while the last one left


async def _closed(pubsub: PubSub, client: Redis) -> None:
    with suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            await client.aclose()
