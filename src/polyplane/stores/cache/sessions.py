"""Short-lived sessions under the seed's key `session:<id>`, the id being a token's hash."""

from __future__ import annotations

from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Final
from zlib import crc32

import orjson

from polyplane.stores.cache.server import Server

SESSION_TTL_S: Final = 3600
_TOKEN_BYTES: Final = 32


class Sessions:
    """Sessions that end SESSION_TTL_S seconds after they were last read or written.

    Whoever holds the token has the session. The cache holds the token's SHA-256 only, so that
    nobody who can look into the cache can take a session over.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    async def create(self, session: dict[str, Any]) -> str:
        """Keep `session`; the token that opens it (256 random bits)."""
        token = token_urlsafe(_TOKEN_BYTES)
        async with self._server.calls() as client:
            key = self._key(token)
            await client.set(key, _sealed(key, session), ex=SESSION_TTL_S)
        return token

    async def get(self, token: str) -> dict[str, Any] | None:
        """The session, whose hour begins anew, or None."""
        async with self._server.calls() as client:
            key = self._key(token)
            found: Any = await client.getex(key, ex=SESSION_TTL_S)
        return None if found is None else _opened(key, found)

    async def replace(self, token: str, session: dict[str, Any]) -> bool:
        """Keep `session` under `token` if that has not ended; whether it had not."""
        async with self._server.calls() as client:
            key = self._key(token)
            kept = await client.set(key, _sealed(key, session), ex=SESSION_TTL_S, xx=True)
        return bool(kept)

    async def delete(self, token: str) -> None:
        """End the session; nothing when it has ended."""
        async with self._server.calls() as client:
            await client.delete(self._key(token))

    def _key(self, token: str) -> str:
        return f"{self._server.prefix}session:{sha256(token.encode()).hexdigest()}"


def _sealed(key: str, session: dict[str, Any]) -> bytes:
    """The session behind a checksum: whoever has another one must not be let in by a bit."""
    body = orjson.dumps(session)
    return b"%08x" % crc32(key.encode() + body) + body


def _opened(key: str, sealed: bytes) -> dict[str, Any] | None:
    """The session, or None when it is not as it was kept: it has ended."""
    body = sealed[8:]
    if sealed[:8] != b"%08x" % crc32(key.encode() + body):
        return None
    session: dict[str, Any] = orjson.loads(body)
    return session
