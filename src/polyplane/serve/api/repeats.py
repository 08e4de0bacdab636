"""Requests under an Idempotency-Key: committed with their answer, and answered alike ever after."""

from __future__ import annotations

from typing import Final

from fastapi import Request, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polyplane.edge.repeats import HEADER, REPEAT
from polyplane.serve.api import problems
from polyplane.truth.repeats import BODY_BYTES_MAX, Answer, Repeat, Repeated
from polyplane.web import TOKEN_HEADER

REPLAYED: Final = "Idempotency-Replayed"
_KEPT: Final = ("content-type", "etag", "location", TOKEN_HEADER.lower())
"""What of an answer is about what was done, and not about this request."""
_ERRORS_FROM: Final = 400


async def replay(request: Request, error: Exception) -> Response:
    """What was answered the first time."""
    assert isinstance(error, Repeated)
    answer = error.answer
    headers = {**answer.headers, REPLAYED: "true"}
    return Response(answer.body, answer.status, headers=headers)


class Repeats:
    """Commits what a request under a key has written, before its answer is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or HEADER.lower() not in Headers(scope=scope):
            await self._app(scope, receive, send)
            return
        held = _Held(scope, receive, send)
        try:
            await self._app(scope, receive, held.send)
        finally:
            repeat = scope.get(REPEAT)
            if repeat is not None:
                await repeat.give_up()


class _Held:
    """An answer that is held back until what it tells of is committed."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()
        self._is_replaced = False

    async def send(self, message: Message) -> None:
        """Pass a message on, in its time."""
        if message["type"] == "http.response.start":
            repeat: Repeat | None = self._scope.get(REPEAT)
            if repeat is not None and repeat.session is not None:
                if message["status"] < _ERRORS_FROM:
                    self._start = message
                    return
                await repeat.give_up()
        elif message["type"] == "http.response.body" and self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body") and len(self._body) <= BODY_BYTES_MAX:
                return
            await self._commit(self._start)
            message = {**message, "body": bytes(self._body)}
            self._start = None
        if not self._is_replaced:
            await self._send(message)

    async def _commit(self, start: Message) -> None:
        """Commit, and begin to answer; with a problem when it could not be committed."""
        repeat: Repeat = self._scope[REPEAT]
        headers = Headers(raw=start["headers"])
        kept = {name: headers[name] for name in _KEPT if name in headers}
        try:
            await repeat.commit(Answer(start["status"], kept, bytes(self._body)))
        except Exception as error:
            # Not raised: the layers inside take this answer for sent, and would send no other.
            self._is_replaced = True
            problem = await problems.of_error(Request(self._scope), error)
            await problem(self._scope, self._receive, self._send)
        else:
            await self._send(start)
