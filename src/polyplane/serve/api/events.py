"""Live updates over HTTP: Server-Sent Events, and where the WebSocket is."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.responses import Response
from pydantic import StringConstraints
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from polyplane import web
from polyplane.access.door import Admitted
from polyplane.live.follower import Ended, Follower
from polyplane.model.live import FeedPosition
from polyplane.plane import Plane
from polyplane.serve.api import sockets
from polyplane.serve.api.watchman import (
    ENDED,
    GONE,
    HEARTBEAT_S,
    SLOW_S,
    TOPIC_CHARS_MAX,
    Wanted,
    Watchman,
    frame,
    frames_of,
    wanted,
)
from polyplane.web import PlaneOf, problem_responses

FOR_S_MAX: Final = 86_400.0
_RETRY: Final = b"retry: 1000\n\n"
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),
]

log = structlog.get_logger("polyplane.api")
router = APIRouter(tags=["live"])

_Topic = Annotated[str, StringConstraints(min_length=1, max_length=TOPIC_CHARS_MAX)]


class EventStream(Response):
    """An answer that lasts: one follower of the plane's hub."""

    media_type = "text/event-stream"

    def __init__(
        self,
        plane: Plane,
        asked: Wanted,
        after: FeedPosition | None,
        watchman: Watchman,
        for_s: float | None,
    ) -> None:
        super().__init__()
        self._hub = plane.opened.live.hub
        self._asked, self._after = asked, after
        self._watchman, self._for_s = watchman, for_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer until somebody ends it. Raises, before it begins, what `Hub.follow` does."""
        deadline: asyncio.Timeout | None = scope.get("polyplane.deadline")
        follow = self._hub.follow(self._asked.followed, self._watchman.caller, self._after)
        async with follow as follower:
            if deadline is not None:
                deadline.reschedule(None)
            beside = [
                asyncio.create_task(self._watchman.watch(follower)),
                asyncio.create_task(_until_gone(receive, follower)),
            ]
            if self._for_s is not None:
                asyncio.get_running_loop().call_later(self._for_s, follower.end, ENDED)
            try:
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await self._tell(follower, send)
            except TimeoutError:  # closing the connection is all that can still be said
                log.info("live_reader_given_up", taken_nothing_s=SLOW_S)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.wait(beside)

    async def _tell(self, follower: Follower, send: Send) -> None:
        said = {"topics": sorted({it.name for it in self._asked.followed})}
        position = str(follower.began) if follower.needs_feed else ""
        await _put(send, _RETRY + frame("ready", said, position))
        while True:
            try:
                batch = await follower.next(wait_s=HEARTBEAT_S)
            except Ended as error:
                if error.reason != GONE:
                    await _put(send, frame("closed", {"reason": error.reason}), more=False)
                return
            if batch is not None:
                await _put(send, frames_of(batch))
            elif follower.needs_feed:  # nothing waits: it was told everything up to there
                await _put(send, f"id: {follower.pending.position}\n\n".encode())
            else:
                await _put(send, b":\n\n")


async def _put(send: Send, body: bytes, *, more: bool = True) -> None:
    """Send, but not for ever. TimeoutError: the client takes nothing, and is given up."""
    async with asyncio.timeout(SLOW_S):
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _until_gone(receive: Receive, follower: Follower) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    follower.end(GONE)


@router.get(
    "",
    summary="Live updates, as Server-Sent Events",
    status_code=200,
    response_class=EventStream,
    responses=problem_responses(401, 403, 404, 429),
)
async def events(
    request: Request,
    plane: PlaneOf,
    admitted: Annotated[Admitted, Depends(web.admitted)],
    topic: Annotated[
        list[_Topic],
        Query(min_length=1, max_length=64, description="`<application>.<topic>[/<key>]`."),
    ],
    after: Annotated[str | None, Query(max_length=64, description="The last id received.")] = None,
    last_event_id: Annotated[
        str | None, Header(max_length=64, description="The same, as browsers send it.")
    ] = None,
    for_s: Annotated[
        float | None, Query(ge=0, le=FOR_S_MAX, description="End after so many seconds.")
    ] = None,
) -> Response:
    """Rows that change, events and states, as far as the caller may see them.

    Goes on until the caller leaves, the credential does not hold any more, or the process stops.
    """
    asked = wanted(plane, admitted.caller, topic)
    since = last_event_id or after
    watchman = Watchman(
        plane.identity.door,
        web.credential_of(request) or "",
        admitted.caller.tenant,
        admitted.caller,
        asked.permissions,
    )
    position = FeedPosition.parse(since) if since else None
    return EventStream(plane, asked, position, watchman, for_s)


def install(app: FastAPI, path: str) -> None:
    """Let `app` offer live updates at `path`, and by WebSocket below it."""
    app.include_router(router, prefix=path)
    # Past FastAPI, whose dependencies of all routes read bodies, which this has none of.
    app.router.routes.append(WebSocketRoute(f"{path}/ws", sockets.live))
