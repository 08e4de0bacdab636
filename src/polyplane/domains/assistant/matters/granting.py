"""What is asked of an OAuth provider, and what its answer means. One request, bounded in all ways.

An answer is a grant, a refusal, or nothing one can be sure of: the request may have been heard
although no answer came. Who sent a refresh token that holds once only must not send it again then.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx
import orjson

import polyplane as pp
from polyplane.web import OAuthProvider

CALL_S: Final = 10.0
"""For the whole of a request and its answer."""
CONNECT_S: Final = 4.0
ANSWER_BYTES_MAX: Final = 256 << 10
TOKEN_MAX: Final = 64 << 10
EXPIRES_S_MAX: Final = 10 * 365 * 86_400
_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""What no proxy is asked for."""
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_NOT_HEARD: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)
"""Failures before anything was sent."""
_NOT_DONE: Final = frozenset({400, 401, 403, 404, 405, 413, 415, 429, 501, 503})
"""Statuses by which a provider says that it did not do it."""


@dataclass(frozen=True, slots=True)
class Granted:
    """Tokens, as the provider gave them; `refresh` is None when the old one stays."""

    access: str
    refresh: str | None
    expires_s: int | None
    scopes: tuple[str, ...] | None

    def __repr__(self) -> str:
        return f"Granted(expires_s={self.expires_s})"


@dataclass(frozen=True, slots=True)
class Denied:
    """No tokens. `for_good`: the provider wants the consent anew; `heard`: it may have used up what
    was sent, though it gave nothing for it.
    """

    why: str
    for_good: bool = False
    heard: bool = False


def consent_url(provider: OAuthProvider, *, state: str, challenge: str) -> str:
    """Where to send somebody so that they consent."""
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": provider.redirect_url,
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    if provider.scopes:
        asked["scope"] = " ".join(provider.scopes)
    joint = "&" if "?" in provider.authorization_url else "?"
    return f"{provider.authorization_url}{joint}{urlencode(asked)}"


async def exchange(provider: OAuthProvider, *, code: str, verifier: str) -> Granted | Denied:
    """The tokens that the `code` somebody came back with stands for."""
    return await _ask(
        provider,
        {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": provider.redirect_url,
            "code_verifier": verifier,
        },
    )


async def refresh(provider: OAuthProvider, token: str) -> Granted | Denied:
    """New tokens for a refresh token. It is sent at most once."""
    return await _ask(provider, {"grant_type": "refresh_token", "refresh_token": token})


async def _ask(provider: OAuthProvider, form: Mapping[str, str]) -> Granted | Denied:
    body, auth = dict(form), None
    if provider.client_secret is None:
        body["client_id"] = provider.client_id
    else:
        auth = httpx.BasicAuth(provider.client_id, provider.client_secret.get_secret_value())
    try:
        async with (
            asyncio.timeout(CALL_S),
            httpx.AsyncClient(
                timeout=httpx.Timeout(CALL_S, connect=CONNECT_S),
                follow_redirects=False,
                trust_env=urlsplit(provider.token_url).hostname not in _HERE,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            ) as client,
            client.stream("POST", provider.token_url, data=body, auth=auth) as response,
        ):
            status, content = response.status_code, bytearray()
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > ANSWER_BYTES_MAX:
                    return Denied("it answered more than is read", heard=True)
    except _NOT_HEARD as error:
        return Denied(f"it cannot be reached ({type(error).__name__})")
    except (httpx.HTTPError, TimeoutError, OSError) as error:
        return Denied(f"no answer came ({type(error).__name__})", heard=True)
    return understood(status, bytes(content))


def understood(status: int, content: bytes) -> Granted | Denied:
    """What an answer means. Of what the provider says only the code of its error is told on: the
    rest may hold what is secret. Pure.
    """
    try:
        told: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        told = None
    told = told if isinstance(told, dict) else {}
    if status != httpx.codes.OK:
        code = told.get("error")
        named = code if isinstance(code, str) and _CODE.fullmatch(code) else ""
        why = f"it answered {status} {named}".rstrip()
        return Denied(why, for_good=named == "invalid_grant", heard=status not in _NOT_DONE)
    access, again = told.get("access_token"), told.get("refresh_token")
    if not _is_token(access) or not (again is None or _is_token(again)):
        return Denied("its answer holds no token", heard=True)
    kind = told.get("token_type")
    if kind is not None and str(kind).lower() != "bearer":
        return Denied("its tokens are of a kind that is not used here", heard=True)
    scope = told.get("scope")
    scopes = tuple(scope.split()[:100]) if isinstance(scope, str) else None
    return Granted(str(access), again, _seconds(told.get("expires_in")), scopes)


def _is_token(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= TOKEN_MAX


def _seconds(value: object) -> int | None:
    """Some providers write the number as a text."""
    try:
        seconds = int(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None
    return None if seconds is None else max(0, min(seconds, EXPIRES_S_MAX))


def check_known(providers: Mapping[str, OAuthProvider], name: str) -> OAuthProvider:
    """The provider of that name. Raises Refused, naming those there are."""
    if (found := providers.get(name)) is None:
        raise pp.Refused(
            f"There is no provider {name[:40]!r}.",
            field="provider",
            fix=f"There are: {', '.join(sorted(providers)) or 'none; see the setting oauth'}.",
        )
    return found
