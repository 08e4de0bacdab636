"""One connection: h11's, with bounds for clients that are slow on purpose.

Uvicorn has a bound for the time between two requests. It has none for a head that never ends, nor
for an answer that nobody reads.
"""

from __future__ import annotations

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S: Final = 10.0
UNREAD_TIMEOUT_S: Final = 60.0
LINGER_S: Final = 5.0


class Connection(H11Protocol):
    """Cuts who has not sent a head within 10 s, or read nothing for a minute of what waits."""

    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; it has to say what it wants."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Bytes came; maybe a head has begun, or ended."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._stop_head()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """More is to be sent than the client reads."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(UNREAD_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """No further request came: closed, and cut if the last answer is not read, either."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _watch(self) -> None:
        """A head is awaited while h11 has none: between requests uvicorn's own bound holds."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._stop_head()
        elif self._head is None and self.timeout_keep_alive_task is None:
            self._head = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def _stop_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
