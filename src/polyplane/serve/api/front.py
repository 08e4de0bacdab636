"""What is refused before anything looks at a request: too large a head, or another site's page.

A browser sends what any page asks it to, with this API's cookies and from inside the network of who
sits before it. So whatever changes something, opens a WebSocket, or asks whether it might, is taken
from pages of our own origin and of those in `origins` alone. Programs name no origin.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from polyplane.serve.api import problems
from polyplane.web import TOKEN_HEADER

URL_MAX_BYTES: Final = 8 * 2**10
HEADERS_MAX: Final = 100
HEAD_MAX_BYTES: Final = 32 * 2**10
PREFLIGHT_S: Final = 600

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ONCE: Final = frozenset({b"authorization", b"content-length", b"content-type", b"host", b"origin"})
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_ASKED: Final = (
    "Authorization",
    "Content-Digest",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    TOKEN_HEADER,
    "Range",
    "X-Request-ID",
    "X-Tenant",
)
_TOLD: Final = ("ETag", "Location", TOKEN_HEADER, "Retry-After", "X-Request-ID")


class Front:
    """Lets a request through to `app`, or answers with what is wrong with its head.

    `origins` are those of other sites whose pages may call, as browsers write them.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)
        self._app = app if not origins else _shared(app, origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        refusal = _too_much(scope) or _ambiguous(scope) or self._foreign(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        response = problems.respond(HTTPConnection(scope), *refusal)
        await response(scope, receive, send)

    def _foreign(self, scope: Scope) -> tuple[int, str] | None:
        """Why a page of another site may not, if it asks for something that it may not."""
        headers = Headers(scope=scope)
        is_preflight = "access-control-request-method" in headers
        if scope["type"] == "http" and scope["method"] in _SAFE and not is_preflight:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin is None:
            is_ours = site in ("none", "same-origin")
        else:
            is_ours = origin in self._origins or _is_own(origin, headers.get("host", ""))
        return None if is_ours else (403, "The request comes from a page of another origin.")


def _is_own(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    except ValueError:
        return False


def _too_much(scope: Scope) -> tuple[int, str] | None:
    path = len(scope.get("raw_path") or scope["path"].encode())
    if path + len(scope.get("query_string", b"")) > URL_MAX_BYTES:
        return 414, f"The URL has more than {URL_MAX_BYTES:,} bytes."
    headers = scope["headers"]
    if len(headers) > HEADERS_MAX:
        return 431, f"There are more than {HEADERS_MAX} headers."
    if sum(len(name) + len(value) for name, value in headers) > HEAD_MAX_BYTES:
        return 431, f"The headers have more than {HEAD_MAX_BYTES:,} bytes."
    return None


def _ambiguous(scope: Scope) -> tuple[int, str] | None:
    """Two of what there is one of: who is before us may have believed the other."""
    names = [name for name, _ in scope["headers"] if name in _ONCE]
    if len(names) == len(set(names)):
        return None
    twice = next(name for name in names if names.count(name) > 1)
    return 400, f"The header {twice.decode()} is there twice."


def _shared(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """`app` for pages of `origins`, too. They show a credential of their own: no cookie goes."""
    return CORSMiddleware(
        app,
        allow_origins=sorted(origins),
        allow_methods=_METHODS,
        allow_headers=_ASKED,
        expose_headers=_TOLD,
        max_age=PREFLIGHT_S,
    )
