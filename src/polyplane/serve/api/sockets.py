"""Live updates by WebSocket: what to follow is the first message, the rest comes from here.

The credential is a header, a subprotocol or in the first message; never in the address, which ends
up in logs. A page of another origin is refused before anything is said.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import structlog
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from polyplane.access.door import Admitted
from polyplane.errors import Forbidden, PolyplaneError, Refused, Unavailable
from polyplane.live.follower import Ended, Follower
from polyplane.model.live import FeedPosition
from polyplane.plane import Plane
from polyplane.serve.api.watchman import (
    GONE,
    HEARTBEAT_S,
    SLOW_S,
    TOPIC_CHARS_MAX,
    Wanted,
    Watchman,
    messages_of,
    wanted,
)
from polyplane.web import SECURE_SESSION_COOKIE, SESSION_COOKIE

log = structlog.get_logger("polyplane.api")

PROTOCOL: Final = "polyplane.live"
BEARER: Final = "bearer."
"""What a subprotocol begins with that holds a credential: browsers can send no header."""
FIRST_S: Final = 10.0
_PROBLEM: Final = 4_000
"""Codes of closing are this and the status of the problem."""
_NORMAL: Final = 1_000
_RESTARTS: Final = 1_012


class Asked(BaseModel):
    """The first message."""

    model_config = ConfigDict(extra="forbid")

    topics: list[Annotated[str, StringConstraints(min_length=1, max_length=TOPIC_CHARS_MAX)]]
    after: str | None = Field(default=None, max_length=64)
    credential: str | None = Field(default=None, max_length=512)
    tenant: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")


async def live(socket: WebSocket) -> None:
    """One connection, until somebody ends it."""
    plane: Plane = socket.app.state.plane
    request_id = uuid4().hex
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        if not _is_from_here(socket):
            await socket.close(_PROBLEM + 403)  # as nothing was accepted, the answer is a 403
            return
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(PROTOCOL if PROTOCOL in offered else None)
        try:
            await _serve(socket, plane, request_id)
        except WebSocketDisconnect:
            return
        except PolyplaneError as error:
            await _refuse(socket, error, request_id)
        except TimeoutError:  # it takes nothing, or says nothing
            with suppress(Exception):
                async with asyncio.timeout(1.0):
                    await socket.close(_PROBLEM + 408)


async def _serve(socket: WebSocket, plane: Plane, request_id: str) -> None:
    asked = await _first(socket)
    credential = _credential_of(socket) or asked.credential
    client = socket.client.host if socket.client else ""
    tenant = asked.tenant or socket.headers.get("x-tenant")
    admitted: Admitted = await plane.identity.door.admit(
        credential, tenant=tenant, request_id=request_id, address=client
    )
    what = wanted(plane, admitted.caller, asked.topics)
    after = FeedPosition.parse(asked.after) if asked.after else None
    watchman = Watchman(
        plane.identity.door,
        credential or "",
        admitted.caller.tenant,
        admitted.caller,
        what.permissions,
    )
    hub = plane.opened.live.hub
    async with hub.follow(what.followed, admitted.caller, after) as follower:
        beside = [
            asyncio.create_task(watchman.watch(follower)),
            asyncio.create_task(_until_gone(socket, follower)),
        ]
        try:
            await _tell(socket, follower, what)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)


async def _first(socket: WebSocket) -> Asked:
    """The first message. Raises Refused for what is none, TimeoutError, WebSocketDisconnect."""
    async with asyncio.timeout(FIRST_S):
        message = await socket.receive()
    if message["type"] != "websocket.receive":
        raise WebSocketDisconnect(message.get("code", _NORMAL))
    try:
        return Asked.model_validate_json(message.get("text") or message.get("bytes") or b"")
    except ValidationError:
        raise Refused(
            "The first message says what to follow.",
            field="topics",
            fix='As: {"topics": ["<application>.<topic>"], "after": "<last id>"}',
        ) from None


async def _tell(socket: WebSocket, follower: Follower, what: Wanted) -> None:
    def at(position: FeedPosition) -> dict[str, str]:
        return {"id": str(position)} if follower.needs_feed else {}

    topics = sorted({it.name for it in what.followed})
    await _put(socket, {"type": "ready", **at(follower.began), "topics": topics})
    while True:
        try:
            batch = await follower.next(wait_s=HEARTBEAT_S)
        except Ended as error:
            if error.reason != GONE:
                await _put(socket, {"type": "closed", "reason": error.reason})
                await socket.close(_RESTARTS if error.reason == "stopping" else _PROBLEM + 401)
            return
        if batch is None:
            await _put(socket, {"type": "heartbeat", **at(follower.pending.position)})
            continue
        said = messages_of(batch)
        for number, (kind, content) in enumerate(said, start=1):
            position = {"id": str(batch.position)} if number == len(said) else {}
            await _put(socket, {"type": kind, **position, **content})


async def _put(socket: WebSocket, message: dict[str, Any]) -> None:
    """Send, but not for ever. TimeoutError: the client takes nothing, and is given up."""
    async with asyncio.timeout(SLOW_S):
        await socket.send_text(orjson.dumps(message).decode())


async def _until_gone(socket: WebSocket, follower: Follower) -> None:
    """Nothing is to be said after the first message: whoever does is as good as gone."""
    message = await socket.receive()
    follower.end(GONE if message["type"] != "websocket.receive" else "unexpected message")


async def _refuse(socket: WebSocket, error: PolyplaneError, request_id: str) -> None:
    """Tell what a problem document would, and close."""
    is_told = isinstance(error, Refused | Forbidden) or error.status == 401
    if not is_told:
        log.warning("live_refused", error=str(error))
    detail = error.message if is_told or isinstance(error, Unavailable) else "Something failed."
    said = {"type": "problem", "status": error.status, "detail": detail, "request_id": request_id}
    if is_told and error.fix:
        said["fix"] = error.fix
    with suppress(WebSocketDisconnect, TimeoutError, RuntimeError):
        await _put(socket, said)
        await socket.close(_PROBLEM + error.status)


def _is_from_here(socket: WebSocket) -> bool:
    """Whether it names a host of ours, and comes from a page of it or from no page at all."""
    host = socket.headers.get("host", "").lower()
    hosts: frozenset[str] = getattr(socket.app, "hosts", frozenset())
    if hosts and (urlsplit(f"//{host}").hostname or "") not in hosts:
        return False
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == host


def _credential_of(socket: WebSocket) -> str | None:
    """By header or subprotocol; a cookie only from a page of our own."""
    scheme, _, given = socket.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given:
        return given.strip()
    for offered in socket.scope.get("subprotocols", []):
        if offered.startswith(BEARER):
            return str(offered.removeprefix(BEARER))
    if "origin" not in socket.headers:
        return None
    return socket.cookies.get(SECURE_SESSION_COOKIE) or socket.cookies.get(SESSION_COOKIE)
