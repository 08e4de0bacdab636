"""Uvicorn, in a loop and with signals that are the caller's."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from polyplane.errors import Misconfigured
from polyplane.live.hub import Hub
from polyplane.serve.api.connection import Connection
from polyplane.serve.api.wire import wire_of

CONNECTIONS_MAX: Final = 500
BACKLOG: Final = 256
KEEP_ALIVE_S: Final = 15
DRAIN_TIMEOUT_S: Final = 10
FAREWELL_S: Final = 2.0
SOCKET_MESSAGE_BYTES: Final = 16 << 10
UNREAD_S: Final = 60
"""A connection whose client takes nothing of what was sent to it for so long is given up."""
HEAD_MAX_BYTES: Final = 64 * 2**10
"""What is read of a head at all: of less, but too much, `Front` says so."""


class Server(uvicorn.Server):
    """Serves until `should_exit`; then finishes the requests at hand, for 10 s at most."""

    def __init__(self, app: ASGIApp, *, proxies: str = "", hub: Hub | None = None) -> None:
        """Believes X-Forwarded-For of `proxies` (addresses, comma-separated), and of nobody else:
        who may choose their address is locked out of nothing. Those who follow `hub` are told when
        it stops.
        """
        self._hub = hub
        state = getattr(app, "state", None)
        is_bounded = hasattr(state, "places")
        config = uvicorn.Config(
            app,
            http=wire_of(state.places, state.metrics) if state and is_bounded else Connection,
            lifespan="off",
            ws="websockets-sansio",
            ws_max_size=SOCKET_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # its memory, and secrets beside what a stranger chose
            h11_max_incomplete_event_size=HEAD_MAX_BYTES,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=DRAIN_TIMEOUT_S,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell those who follow that it is over, and why; then as uvicorn does."""
        if self._hub is not None:
            self._hub.end()
            await self._hub.gone(FAREWELL_S)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def bind(host: str, port: int, *, or_any: bool) -> socket.socket:
    """A socket that listens on `port`, or, with `or_any` when it is taken, on a free one. Two that
    are only bound may have the same port, and the second finds out when it is too late. Who
    connects before it is served waits.

    Raises Misconfigured when there is no such address or the port cannot be had.
    """
    try:
        return _bound(host, port)
    except OSError as error:
        if or_any and error.errno == errno.EADDRINUSE:
            return _bound(host, 0)
        raise Misconfigured(
            f"The API cannot listen on {host}:{port}: {error.strerror}.",
            fix="Choose another one with --port, or leave it out to take a free one.",
        ) from error


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # inherited by what it accepts
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1_000)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
