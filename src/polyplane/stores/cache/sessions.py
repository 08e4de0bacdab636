"""Short-lived sessions under the seed's key `session:<id>`, the id being a token's hash."""

from __future__ import annotations

from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Final

import orjson
from redis.asyncio import Redis

SESSION_TTL_S: Final = 3600
_TOKEN_BYTES: Final = 32


class Sessions:
    """Sessions that live SESSION_TTL_S seconds after their last renewal.

    Whoever holds the token has the session; the cache holds only the token's SHA-256, so a look
    into the cache gives no session away.
    """

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def _key(self, token: str) -> str:
        return f"{self._prefix}session:{sha256(token.encode()).hexdigest()}"

    async def create(self, session: dict[str, Any]) -> str:
        """Keep `session`; the token that opens it (256 random bits)."""
        token = token_urlsafe(_TOKEN_BYTES)
        await self._client.set(self._key(token), orjson.dumps(session), ex=SESSION_TTL_S)
        return token

    async def get(self, token: str) -> dict[str, Any] | None:
        """The session, renewed, or None."""
        found = await self._client.getex(self._key(token), ex=SESSION_TTL_S)
        session: dict[str, Any] | None = None if found is None else orjson.loads(found)
        return session

    async def delete(self, token: str) -> None:
        """End the session; nothing when it has ended."""
        await self._client.delete(self._key(token))
