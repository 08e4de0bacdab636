"""What a browser keeps between leaving for a provider and coming back: pure.

It holds nothing that is secret from its browser. What the provider is told, and what proves to it
that who comes back is who left, are keyed hashes of it that only a plane can make: so nothing is
kept here of people who never come back, and no other browser can come in their place.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import asdict, dataclass
from secrets import token_urlsafe
from typing import Final
from uuid import UUID

import orjson

from polyplane.security.tokens import keyed

GOOD_FOR_S: Final = 600
"""How long signing in at a provider may take."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """A sign-in that was begun. `until` is in seconds since 1970.

    With `user` and `session` it is theirs: who comes back is to be linked to them.
    """

    provider: str
    redirect_uri: str
    return_to: str
    until: int
    nonce: str
    user: UUID | None = None
    session: UUID | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """What goes to the provider: `state` and `nonce` come back, `verifier` proves the rest."""

    state: str
    nonce: str
    verifier: str


def begun(
    provider: str,
    redirect_uri: str,
    return_to: str,
    now: float,
    *,
    user: UUID | None = None,
    session: UUID | None = None,
) -> Handshake:
    """One that begins `now` (seconds since 1970)."""
    until = int(now) + GOOD_FOR_S
    return Handshake(provider, redirect_uri, return_to, until, token_urlsafe(32), user, session)


def sealed(secret: bytes, handshake: Handshake) -> str:
    """What the browser keeps: signed, so that it can change nothing in it."""
    body = urlsafe_b64encode(orjson.dumps(asdict(handshake))).decode().rstrip("=")
    return f"{body}.{_keyed(secret, 'cookie', body)}"


def opened(secret: bytes, shown: str, now: float) -> Handshake | None:
    """The handshake that a browser shows; None when it is not ours, or too old."""
    body, _, signature = shown.partition(".")
    wanted = _keyed(secret, "cookie", body)
    if not hmac.compare_digest(wanted.encode(), signature.encode()):
        return None
    found = orjson.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    for name in ("user", "session"):
        found[name] = None if found[name] is None else UUID(found[name])
    handshake = Handshake(**found)
    return handshake if now < handshake.until else None


def words_of(secret: bytes, handshake: Handshake) -> Words:
    """What goes to the provider with it."""
    text = sealed(secret, handshake)
    return Words(*(_keyed(secret, what, text) for what in ("state", "nonce", "verifier")))


def _keyed(secret: bytes, what: str, text: str) -> str:
    """43 characters, as many as a verifier of PKCE must have."""
    made = keyed(secret, f"handshake {what}", text)
    return urlsafe_b64encode(made).decode().rstrip("=")
