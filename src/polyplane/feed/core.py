"""Pub/sub over NATS core, on the connection of the feed: at most once, and never stored."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from polyplane.errors import FeedDown
from polyplane.feed.protocol import token
from polyplane.model.channel import CHANNELS_MAX, Channel, Listener

_CONFIRMED_S: Final = 5.0
_PENDING_MESSAGES: Final = 4_096
_FIX: Final = "Check that NATS runs and that NATS_URL names it; then try again."


class CoreChannels:
    """Transport. NATS itself subscribes again after a lost connection."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._subscriptions: dict[tuple[str, int], Subscription] = {}

    def subject(self, channel: Channel) -> str:
        """What a channel is called: the tenant is one token of it."""
        return f"{self._namespace}.{channel.room}.{token(channel.tenant)}.{channel.name}"

    async def publish(self, channel: Channel, body: bytes) -> None:
        """See `Transport.publish`."""
        self._check()
        try:
            await self._client.publish(self.subject(channel), body)
        except (nats.errors.Error, OSError) as error:
            raise FeedDown(f"NATS does not answer ({type(error).__name__}).", fix=_FIX) from error

    async def listen(self, channel: Channel, listener: Listener) -> None:
        """See `Transport.listen`."""
        self._check()
        if len(self._subscriptions) >= CHANNELS_MAX:
            raise FeedDown(f"This process listens to {CHANNELS_MAX} channels already.")
        connected = self._client.stats["reconnects"]

        async def heard(message: Msg) -> None:
            nonlocal connected
            if self._client.stats["reconnects"] != connected:
                connected = self._client.stats["reconnects"]
                listener.interrupted()
            listener.receive(message.data)

        try:
            subscription = await self._client.subscribe(
                self.subject(channel), cb=heard, pending_msgs_limit=_PENDING_MESSAGES
            )
            self._subscriptions[self.subject(channel), id(listener)] = subscription
            await self._client.flush(timeout=int(_CONFIRMED_S))
        except (nats.errors.Error, OSError, TimeoutError) as error:
            await self.leave(channel, listener)
            raise FeedDown(f"NATS does not answer ({type(error).__name__}).", fix=_FIX) from error
        except asyncio.CancelledError:
            await self.leave(channel, listener)
            raise

    async def leave(self, channel: Channel, listener: Listener) -> None:
        """See `Transport.leave`."""
        subscription = self._subscriptions.pop((self.subject(channel), id(listener)), None)
        if subscription is not None and not self._client.is_closed:
            with suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    def _check(self) -> None:
        """Raise FeedDown rather than keep what would be sent whenever the connection is back."""
        if not self._client.is_connected:
            raise FeedDown("NATS is not connected.", fix=_FIX)
