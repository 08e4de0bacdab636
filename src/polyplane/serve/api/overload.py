"""What is more than can be done is refused at once, so that the rest is done in time."""

from __future__ import annotations

from typing import Final

import orjson
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polyplane.edge.limits import LIMITS, fields_of
from polyplane.edge.places import PLACE, Place, Places
from polyplane.errors import Overloaded
from polyplane.ops.metrics import Metrics
from polyplane.serve.api import problems
from polyplane.settings import Settings
from polyplane.web import PROBLEM_TYPE

PATIENCE_S: Final = 0.25
"""For how long a request waits for a place: what is left of a second is for being done."""
TARGET_S: Final = 0.2
"""What requests at work may take, before there are to be fewer at the same time."""
EXEMPT: Final = frozenset({"/healthz", "/readyz", "/metrics"})
EXEMPT_BELOW: Final = "/health/"
"""What a monitor asks, the more so when there is too much to do."""

_PROBLEM: Final = {
    "type": f"urn:polyplane:problem:{problems.kind_of(Overloaded)}",
    "title": (Overloaded.__doc__ or "").partition(";")[0],
    "status": Overloaded.status,
    "detail": "More requests came at once than can be done; nothing was done of this one.",
    "fix": "Send it again after Retry-After.",
}
PROBLEM_BODY: Final = orjson.dumps(_PROBLEM)
HEADERS: Final = [
    (b"content-type", PROBLEM_TYPE.encode()),
    (b"retry-after", str(problems.RETRY_AFTER_S).encode()),
]


def places_of(settings: Settings) -> Places:
    """Places as the settings say."""
    waiting = settings.api_waiting
    return Places(settings.api_at_work, waiting, patience_s=PATIENCE_S, target_s=TARGET_S)


class Overload:
    """Lets so many requests in at once; the others wait for a moment or are told to come again.

    A place is for what takes work: it is left when the answer begins, and by what waits long.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, places: Places) -> None:
        self._app = app
        self._metrics = metrics
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_exempt(scope["path"]):
            await self._app(scope, receive, send)
            return
        place = await self._places.take()
        if place is None:
            self._metrics.refuse()
            await _refuse(scope, send)
            return
        scope[PLACE] = place
        try:
            await self._app(scope, receive, _leaving(scope, place, send))
        finally:
            place.leave()


def is_exempt(path: str) -> bool:
    """Whether a path is a monitor's."""
    return path in EXEMPT or path.startswith(EXEMPT_BELOW)


async def _refuse(scope: Scope, send: Send) -> None:
    """Answer with the problem of Overloaded, at a fifth of what any other problem costs: when there
    are many of these, there is no time.
    """
    problem = _PROBLEM | {
        "instance": scope["path"],
        "request_id": scope.get("polyplane.request_id", ""),
    }
    body = orjson.dumps(problem)
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": Overloaded.status}
    await send({**start, "headers": [*HEADERS, length]})
    await send({"type": "http.response.body", "body": body})


def _leaving(scope: Scope, place: Place, send: Send) -> Send:
    """`send`, which leaves the place when an answer begins, and adds what was said of limits."""

    async def send_and_leave(message: Message) -> None:
        if message["type"] == "http.response.start":
            place.leave()
            if LIMITS in scope:
                headers = MutableHeaders(raw=list(message["headers"]))
                headers.update(fields_of(scope[LIMITS]))
                message = {**message, "headers": headers.raw}
        await send(message)

    return send_and_leave
