"""Short-lived sessions under the seed's key `session:<id>`, the id being a token's hash."""

from __future__ import annotations

from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Final

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
            await client.set(self._key(token), orjson.dumps(session), ex=SESSION_TTL_S)
        return token

    async def get(self, token: str) -> dict[str, Any] | None:
        """The session, whose hour begins anew, or None."""
        async with self._server.calls() as client:
            found = await client.getex(self._key(token), ex=SESSION_TTL_S)
        session: dict[str, Any] | None = None if found is None else orjson.loads(found)
        return session

    async def replace(self, token: str, session: dict[str, Any]) -> bool:
        """Keep `session` under `token` if that has not ended; whether it had not."""
        async with self._server.calls() as client:
            kept = await client.set(
                self._key(token), orjson.dumps(session), ex=SESSION_TTL_S, xx=True
            )
        return bool(kept)

    async def delete(self, token: str) -> None:
        """End the session; nothing when it has ended."""
        async with self._server.calls() as client:
            await client.delete(self._key(token))

    def _key(self, token: str) -> str:
        return f"{self._server.prefix}session:{sha256(token.encode()).hexdigest()}"
