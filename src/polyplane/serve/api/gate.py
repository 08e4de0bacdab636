"""The outermost layer of the API: what holds for every request, whatever answers it.

A WebSocket is a request until it is accepted: it has an id and a deadline, is refused with a
problem document, and counts as status 101. From then on it is its route's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import MutableMapping
from time import perf_counter
from traceback import format_exc
from typing import Any, Final
from uuid import uuid4

import structlog
from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polyplane.ops.metrics import Metrics
from polyplane.serve.api import problems

log = structlog.get_logger("polyplane.api")

REQUEST_TIMEOUT_S: Final = 30.0
DRAIN_MAX_BYTES: Final = 4 * problems.BODY_MAX_BYTES
DRAIN_TIMEOUT_S: Final = 5.0

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")

# A client may make up any number of methods; each label value is a time series.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_SECURITY: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_HSTS: Final = "max-age=31536000; includeSubDomains"
_SECURE: Final = frozenset({"https", "wss"})

# What a WebSocket is closed with: RFC 6455, 7.4.1.
_POLICY: Final = 1008
_DEFECT: Final = 1011
_SWITCHED: Final = 101
_GONE: Final = 499
"""The client went before there was an answer."""

# Swagger starts itself with an inline script and styles itself inline.
_DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)


class Gate:
    """Gives each request an id, a deadline, safe headers and a place in the metrics.

    With `hosts`, a request that names another host is refused: a page of a stranger whose name
    was rebound to our address could otherwise read a plane that listens on loopback only.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, hosts: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope["polyplane.request_id"] = _request_id(scope)
        exchange = _Exchange(scope, receive, send)
        started = perf_counter()
        try:
            with structlog.contextvars.bound_contextvars(request_id=scope["polyplane.request_id"]):
                await self._answer(scope, exchange)
        finally:
            latency_s = (exchange.accepted_at or perf_counter()) - started
            asked = scope.get("method", "GET")  # a WebSocket has none
            method = asked if asked in _METHODS else "other"
            self._metrics.count(method, _template(scope), exchange.status, latency_s)

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        request = HTTPConnection(scope)
        if self._hosts and _host(scope) not in self._hosts:
            response = problems.respond(request, 421, "This API does not answer to this host.")
            await response(scope, exchange.receive, exchange.send)
            return
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S) as deadline:
                scope["polyplane.deadline"] = exchange.deadline = deadline
                await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            # As text: structlog's own rendering shows variables, which may be secrets, and takes
            # seconds.
            trace = format_exc()
            method = scope.get("method", "WEBSOCKET")
            log.error("request_failed", method=method, path=scope["path"], trace=trace)
            is_late = isinstance(error, TimeoutError) and deadline.expired()
            if is_late and not exchange.has_started:
                await _late(request, exchange)(scope, exchange.receive, exchange.send)
            elif exchange.accepted_at is not None:
                await exchange.close(_DEFECT)
            elif not exchange.has_ended:  # only closing the connection tells the client
                raise


def _late(request: HTTPConnection, exchange: _Exchange) -> Response:
    if exchange.has_received_all:
        detail = "The answer was not ready within the deadline; nothing more is done for it."
        return problems.respond(request, 503, detail)
    return problems.respond(request, 408, "The body did not arrive within the deadline.")


class _Exchange:
    """One request and its response, watched as they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self.status = _GONE
        self.has_started = False
        self.has_ended = False
        headers = Headers(scope=scope)
        is_chunked = "transfer-encoding" in headers
        self.has_received_all = not is_chunked and headers.get("content-length", "0") == "0"
        self.deadline: asyncio.Timeout | None = None
        self.accepted_at: float | None = None
        self._replacement: Message | None = None

    async def receive(self) -> Message:
        """The next message of the client."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            self.has_received_all = True
        if message["type"] == "websocket.disconnect":
            self.has_ended = True
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on, with what every response carries."""
        kind = message["type"]
        if kind.startswith("websocket.http.response.") and not self._may_deny():
            if kind.endswith(".start"):  # all there is to refuse with, too late or here
                self.status = self.status if self.accepted_at else message["status"]
                await self.close(_POLICY)
            return
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.has_started = True
            self.status = message["status"]
            if kind == "http.response.start" and self.status == 413:
                await self._drain()
                message = self._as_problem(message)
            self._add_headers(message)
        elif kind in ("http.response.body", "websocket.http.response.body"):
            self.has_ended = not message.get("more_body", False)
            if self._replacement is not None:
                message, self._replacement = self._replacement, None
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self.has_ended = True
            self.status = 403 if self.status == _GONE else self.status
        await self._send(message)

    async def close(self, code: int) -> None:
        """End a WebSocket, unless it has."""
        if not self.has_ended:
            await self.send({"type": "websocket.close", "code": code})

    def _accept(self, message: Message) -> None:
        """From here on it has no deadline; what it may hold up, its route bounds."""
        self.has_started, self.status, self.accepted_at = True, _SWITCHED, perf_counter()
        if self.deadline is not None:
            self.deadline.reschedule(None)
        headers = MutableHeaders(raw=list(message.get("headers", ())))
        headers["X-Request-ID"] = self._scope["polyplane.request_id"]
        message["headers"] = headers.raw

    def _may_deny(self) -> bool:
        """Whether a WebSocket can still be refused, and the server can say it with a response."""
        extensions = self._scope.get("extensions") or {}
        return self.accepted_at is None and "websocket.http.response" in extensions

    def _as_problem(self, message: Message) -> Message:
        """The framework refuses a declared length in plain text; ours is a problem document."""
        if Headers(raw=message["headers"]).get("content-type", "").startswith("text/plain"):
            problem = problems.too_large(HTTPConnection(self._scope))
            self._replacement = {"type": "http.response.body", "body": problem.body}
            return {**message, "headers": list(problem.raw_headers)}
        return message

    async def _drain(self) -> None:
        """Read what the client is still sending; it would see a reset instead of the answer."""
        if "expect" in Headers(scope=self._scope):  # it waits for our word before it sends
            return
        drained = 0
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while not self.has_received_all and drained < DRAIN_MAX_BYTES:
                    drained += len((await self.receive()).get("body", b""))
        except TimeoutError:
            log.info("body_not_drained", drained_bytes=drained)

    def _add_headers(self, message: MutableMapping[str, Any]) -> None:
        headers = MutableHeaders(raw=list(message["headers"]))
        for name, value in _SECURITY.items():
            headers.setdefault(name, value)
        if self._scope["path"] == "/docs":
            headers["Content-Security-Policy"] = _DOCS_POLICY
        elif self._scope["path"].startswith("/swagger/"):
            headers["Cache-Control"] = "no-cache"  # kept, and asked for again by its ETag
        if self._scope.get("scheme") in _SECURE:
            headers["Strict-Transport-Security"] = _HSTS
        headers["X-Request-ID"] = self._scope["polyplane.request_id"]
        message["headers"] = headers.raw


def _request_id(scope: Scope) -> str:
    """The caller's own id when it is harmless, else a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _host(scope: Scope) -> str:
    host = Headers(scope=scope).get("host", "").lower()
    return host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]


def _template(scope: Scope) -> str:
    """The path with its parameters' names in place of their values; one name for all strangers."""
    if "endpoint" not in scope:
        return "unmatched"
    names = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    return "/".join(names.get(part, part) for part in scope["path"].split("/"))
