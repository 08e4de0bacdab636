"""What was said a moment ago, for as long as a moment lasts by the server's clock."""

from __future__ import annotations

from typing import Any, Final

from polyplane.stores.cache.server import Server
from polyplane.stores.visitors import Heard

# The time and the word in one round trip, so that nothing is between them.
_HEAR: Final = """
local time = redis.call('TIME')
return {time[1], time[2], redis.call('GET', KEYS[1])}
"""
_NOTHING: Final = b""
"""Stands where a word was taken back."""


class Words:
    """WordStore, under the names it is given behind the plane's prefix."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def hear(self, name: str) -> Heard:
        """What was said under `name`, and what time it is. Raises StoreDown."""
        async with self._server.calls() as client:
            found: Any = await client.register_script(_HEAR)(keys=[self._server.prefix + name])
        seconds, microseconds, word = found
        return Heard(int(seconds) * 1_000_000 + int(microseconds), word or None)

    async def say(self, name: str, word: bytes, *, until_us: int) -> None:
        """Keep `word` until then, unless there is one or it was just taken back."""
        async with self._server.calls() as client:
            await client.set(self._server.prefix + name, word, nx=True, pxat=until_us // 1_000)

    async def take_back(self, names: list[str], *, for_ms: int) -> None:
        """Forget the words under `names`, and keep none for `for_ms`."""
        if not names:
            return
        async with self._server.calls() as client, client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.set(self._server.prefix + name, _NOTHING, px=for_ms)
            await pipe.execute()
