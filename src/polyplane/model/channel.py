"""Channels: where something is said to whoever listens at that moment, and how it gets there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from polyplane.errors import Refused

CHANNELS_MAX: Final = 4_096
"""To which one process listens at most, in each transport."""
MESSAGE_BYTES_MAX: Final = 64 << 10
CHANNEL_CHARS_MAX: Final = 128
_FORM: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class Channel(NamedTuple):
    """Where it is said: in a `room` of the plane's, within a tenant."""

    room: str
    tenant: str
    name: str


class Listener(NamedTuple):
    """Who listens: `receive` gets each message, and may not wait; `interrupted` is called when
    messages may have been missed.
    """

    receive: Callable[[bytes], None]
    interrupted: Callable[[], None]


class Transport(Protocol):
    """Messages to all who listen at that moment, at most once each."""

    async def publish(self, channel: Channel, body: bytes) -> None:
        """Say `body`. Raises StoreDown or FeedDown when nobody can be reached."""
        ...

    async def listen(self, channel: Channel, listener: Listener) -> None:
        """Hear everything that is said from now on. Raises StoreDown or FeedDown."""
        ...

    async def leave(self, channel: Channel, listener: Listener) -> None:
        """Hear no more. Never fails."""
        ...


def check_channel(name: str) -> str:
    """`name`, if it can be that of a channel. Raises Refused."""
    if len(name) > CHANNEL_CHARS_MAX or not _FORM.fullmatch(name):
        raise Refused(
            f"A channel is called by letters, digits, _ and -, in parts between dots,"
            f" {CHANNEL_CHARS_MAX} characters at most.",
            field="channel",
        )
    return name
