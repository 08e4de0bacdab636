"""What is more than can be done is refused at once, so that the rest is done in time."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polyplane.edge.limits import LIMITS, fields_of
from polyplane.edge.places import PLACE, Place, Places
from polyplane.errors import Overloaded
from polyplane.ops.metrics import Metrics
from polyplane.serve.api import problems
from polyplane.settings import Settings

PATIENCE_S: Final = 0.3
"""For how long a request waits for a place: what is left of a second is for being done."""
EXEMPT: Final = ("/healthz", "/readyz", "/metrics", "/health/")
"""What a monitor asks, the more so when there is too much to do."""


class Overload:
    """Lets so many requests in at once; the others wait for a moment or are told to come again.

    A place is for what takes work: it is left when the answer begins, and by what waits long.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, settings: Settings) -> None:
        self._app = app
        self._metrics = metrics
        self._places = Places(settings.api_at_work, settings.api_waiting, PATIENCE_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(EXEMPT):
            await self._app(scope, receive, send)
            return
        place = await self._places.take()
        if place is None:
            self._metrics.refuse()
            error = Overloaded("More requests than can be done at once.", fix="Come again.")
            response = await problems.of_error(Request(scope), error)
            await response(scope, receive, send)
            return
        scope[PLACE] = place
        try:
            await self._app(scope, receive, _leaving(scope, place, send))
        finally:
            place.leave()


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
