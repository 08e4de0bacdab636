"""Who follows the changes: the records of what changed, the mark, and the chain.

The mark lies in the cache, beside what it speaks of: a cache that loses its tail loses both, and is
told again from where the mark then stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from polyplane.stores.cache.glances import Glances
from polyplane.stores.cache.names import CHAIN, MARK, record
from polyplane.stores.cache.server import Server
from polyplane.stores.request_protocol import Depend, Mark

VOUCHED_MS: Final = 10_000
"""For how long entries count after somebody has vouched for them."""
_MARK_MS: Final = 24 * 3_600_000
_SCRIPT_KEYS: Final = 500
_CHAIN: Final = re.compile(rb"[0-9a-f]{16}")

# KEYS chain, mark; ARGV the chain that must be there ('': none), the new one, its position, how
# long the mark lives.
_NEW: Final = """
local held = redis.pcall('HGET', KEYS[2], 'c')
if type(held) ~= 'string' or not string.match(held, '^' .. string.rep('%x', 16) .. '$') then
  held = ''
end
if held ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[2], 'c', ARGV[2], 'd', ARGV[3], 'h', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
"""

# KEYS chain, mark, records; ARGV the chain, after, upto, how long the mark lives; and, when all
# records are moved and the mark is to follow, the incarnation and for how long it is vouched for
# (0: it is not).
_APPLY: Final = """
local mark = redis.pcall('HMGET', KEYS[2], 'c', 'd', 'h')
if mark.err or mark[1] ~= ARGV[1] or not tonumber(mark[2] or '')
  or not tonumber(mark[3] or '') or tonumber(mark[2]) < tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[1])
  return 0
end
local upto = tonumber(ARGV[3])
if tonumber(mark[3]) < upto then redis.call('HSET', KEYS[2], 'h', ARGV[3]) end
for i = 3, #KEYS do
  local at = redis.pcall('GET', KEYS[i])
  if type(at) == 'table' then
    redis.call('DEL', KEYS[i])
  elseif at and (not tonumber(at) or tonumber(at) < upto) then
    redis.call('SET', KEYS[i], ARGV[3], 'KEEPTTL')
  end
end
if ARGV[5] then
  if tonumber(mark[2]) < upto then redis.call('HSET', KEYS[2], 'd', ARGV[3]) end
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  if ARGV[6] ~= '0' then
    redis.call('SET', KEYS[1], ARGV[5] .. ':' .. mark[1], 'PX', ARGV[6])
  end
end
return 1
"""


class Following:
    """The part of RequestStore for who follows the changes."""

    def __init__(self, server: Server, glances: Glances) -> None:
        self._server = server
        self._glances = glances
        self._root = server.root

    async def mark(self) -> Mark | None:
        """See the protocol."""
        async with self._server.calls() as client, client.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._root + MARK)
            (held,) = await pipe.execute(raise_on_error=False)
        found = _CHAIN.fullmatch(held.get(b"c", b"")) if isinstance(held, dict) else None
        if found is None:
            return None
        done = held.get(b"d", b"")
        tables = (name[2:].decode() for name in held if name.startswith(b"t:"))
        chain = bytes.fromhex(found[0].decode())
        return Mark(chain, int(done) if done.isdigit() else 0, frozenset(tables))

    async def begin_chain(self, chain: bytes, position: int, *, instead: bytes) -> bool:
        """See the protocol."""
        keys = (self._root + CHAIN, self._root + MARK)
        given = (instead.hex(), chain.hex(), position, _MARK_MS)
        async with self._server.calls() as client:
            return bool(await client.eval(_NEW, 2, *keys, *given))

    async def apply(
        self, chain: bytes, after: int, upto: int, changed: Sequence[Depend], *, vouch: bool
    ) -> bool:
        """See the protocol."""
        keys = (self._root + CHAIN, self._root + MARK)
        given = (chain.hex(), after, upto, _MARK_MS)
        for first in range(0, len(changed), _SCRIPT_KEYS):
            some = changed[first : first + _SCRIPT_KEYS]
            names = [record(self._root, table, key) for table, key in some]
            async with self._server.calls() as client:
                if not await client.eval(_APPLY, 2 + len(names), *keys, *names, *given):
                    return False
        incarnation = await self._incarnation() if vouch else b""
        async with self._server.calls() as client:
            vouched_ms = VOUCHED_MS if vouch else 0
            found: Any = await client.eval(_APPLY, 2, *keys, *given, incarnation, vouched_ms)
        return bool(found)

    async def disown(self) -> None:
        """See the protocol."""
        async with self._server.calls() as client:
            await client.delete(self._root + CHAIN)

    async def _incarnation(self) -> bytes:
        """Which run of the server this is: asked of it, over the connection that reads, too."""
        await self._glances.mget([self._root + CHAIN])
        return self._glances.incarnation
