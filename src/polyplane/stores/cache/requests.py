"""Entries of the request cache: read by one MGET, filled behind a gate in one script.

Names, behind the namespace and the tenant (`%-`: nobody's):

    <tenant>:cache:<key>              an entry; of what one owner alone sees <tenant>:of:<owner>:...
    <tenant>:cache-load:<key>         the lease of whoever loads it: a token that ends by itself
    %-:cache-changed:<table>[:<key>]  a record: the position of the last change
    %-:cache-mark                     the chain, and how far the changes are applied to the records
    %-:cache-chain                    who vouches for the chain, for a few seconds at a time

All may vanish by themselves. Without its records an entry does not count, and without a chain none
does. A record that is put back says at least how far the changes are applied (`h` of the mark, in
the same script), so that no load from before gets past it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Final, get_args

import orjson

from polyplane.model.requests import TOKEN_AT, Kept, Wanted, is_entry, standing
from polyplane.model.scope import segment
from polyplane.stores.cache.following import Following
from polyplane.stores.cache.glances import Glances
from polyplane.stores.cache.names import CHAIN, MARK, NOBODY, glob, is_entry_name, record
from polyplane.stores.cache.server import Server
from polyplane.stores.request_protocol import Begun, Found, KeptEntry, ServerFigures, Verdict

LEASE_MS: Final = 3_000
"""How long a load that tells nothing any more keeps others waiting."""
_RECORD_MS: Final = 1_000
"""How much longer than its entry a record lives."""
_SCRIPT_KEYS: Final = 250
_VERDICTS: Final = get_args(Verdict)

# KEYS chain, mark, entry, lease, the records; ARGV the incarnation, the token, the token seen, how
# long the lease and the records live, then the tables.
_BEGIN: Final = f"""
local mark = redis.pcall('HMGET', KEYS[2], 'c', 'h')
if mark.err or not mark[1] or not mark[2]
  or redis.pcall('GET', KEYS[1]) ~= ARGV[1] .. ':' .. mark[1] then return {{'unattended'}} end
local held = redis.pcall('GETRANGE', KEYS[3], {TOKEN_AT[0]}, {TOKEN_AT[1]})
if type(held) == 'string' and held ~= '' and held ~= ARGV[3] then return {{'again'}} end
if not redis.call('SET', KEYS[4], ARGV[2], 'NX', 'PX', ARGV[4]) then return {{'busy'}} end
for i = 6, #ARGV do redis.call('HSETNX', KEYS[2], 't:' .. ARGV[i], 1) end
for i = 5, #KEYS do
  local at = redis.pcall('GET', KEYS[i])
  if type(at) ~= 'string' or not tonumber(at) then
    redis.call('SET', KEYS[i], mark[2], 'PX', ARGV[5])
  elseif redis.call('PTTL', KEYS[i]) < tonumber(ARGV[5]) then
    redis.call('PEXPIRE', KEYS[i], ARGV[5])
  end
end
return {{'begun', mark[1], mark[2]}}
"""

# KEYS mark, entry, lease, the records; ARGV the token, the chain, the position, the entry, how long
# it and the records live.
_FILL: Final = """
if redis.pcall('GET', KEYS[3]) ~= ARGV[1] then return 'lost' end
redis.call('DEL', KEYS[3])
if redis.pcall('HGET', KEYS[1], 'c') ~= ARGV[2] then return 'unattended' end
for i = 4, #KEYS do
  local at = redis.pcall('GET', KEYS[i])
  if type(at) ~= 'string' or not tonumber(at) then return 'evicted' end
  if tonumber(at) > tonumber(ARGV[3]) then return 'changed' end
end
for i = 4, #KEYS do
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[6]) then
    redis.call('PEXPIRE', KEYS[i], ARGV[6])
  end
end
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
return 'filled'
"""

# KEYS the lease; ARGV the token, and for how long, or nothing: to let go of it.
_LEASE: Final = """
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) else redis.call('DEL', KEYS[1]) end
return 1
"""

# KEYS entries; ARGV of each the token it must have, or '': any.
_DROP: Final = f"""
local dropped = 0
for i, key in ipairs(KEYS) do
  local held = redis.pcall('GETRANGE', key, 0, {TOKEN_AT[1]})
  if type(held) == 'string' and string.sub(held, 1, 3) == 'pq1'
    and (ARGV[i] == '' or string.sub(held, {TOKEN_AT[0] + 1}) == ARGV[i]) then
    dropped = dropped + redis.call('UNLINK', key)
  end
end
return dropped
"""


class Requests(Following):
    """RequestStore."""

    def __init__(self, server: Server) -> None:
        super().__init__(server, Glances(server))

    def place(self, wanted: Wanted) -> str:
        """See the protocol."""
        return f"{self._tenant(wanted)}cache:{wanted.key}"

    def now_ms(self) -> float:
        """See the protocol."""
        return self._glances.now_ms()

    async def close(self) -> None:
        """Close the connection of its own. Safe to call twice."""
        await self._glances.close()

    async def read(self, wanted: Wanted) -> Found | None:
        """See the protocol."""
        root, name = self._root, self.place(wanted)
        names = [name, root + CHAIN]
        names += [record(root, table, key) for table, key in wanted.depends]
        raw, followed, *records = await self._glances.mget(names)
        if raw is None:
            return None
        kept, seen = Kept.opened(name, raw), raw[TOKEN_AT[0] : TOKEN_AT[1] + 1]
        if kept is None or kept.depends != orjson.dumps(wanted.depends):
            return Found(kept, seen, "changed", 0.0)
        counts = standing(kept, followed, self._glances.incarnation, records)
        return Found(kept, seen, counts, self._glances.now_ms() - kept.expires_ms)

    async def begin(self, wanted: Wanted, token: bytes, *, seen: bytes, keep_ms: int) -> Begun:
        """See the protocol."""
        root = self._root
        keys = [root + CHAIN, root + MARK, self.place(wanted), self._lease(wanted)]
        keys += [record(root, table, key) for table, key in wanted.depends]
        tables = sorted({table for table, _ in wanted.depends})
        given: tuple[Any, ...] = (
            self._glances.incarnation,
            token,
            seen,
            LEASE_MS,
            keep_ms,
            *tables,
        )
        async with self._server.calls() as client:
            found: Any = await client.eval(_BEGIN, len(keys), *keys, *given)
        state, *more = [it.decode() for it in found]
        if not more:
            return Begun(state)
        return Begun(state, bytes.fromhex(more[0]), int(more[1]))

    async def renew(self, wanted: Wanted, token: bytes) -> bool:
        """See the protocol."""
        async with self._server.calls() as client:
            kept: Any = await client.eval(_LEASE, 1, self._lease(wanted), token, LEASE_MS)
        return bool(kept)

    async def fill(
        self, wanted: Wanted, begun: Begun, kept: Kept, *, ttl_ms: int, stale_ms: int
    ) -> Verdict:
        """See the protocol."""
        root, name = self._root, self.place(wanted)
        keys = [root + MARK, name, self._lease(wanted)]
        keys += [record(root, table, key) for table, key in wanted.depends]
        live_ms = ttl_ms + stale_ms
        given = (kept.token, begun.chain.hex(), begun.position, kept.sealed(name), live_ms)
        async with self._server.calls() as client:
            found: Any = await client.eval(_FILL, len(keys), *keys, *given, live_ms + _RECORD_MS)
        return next(it for it in _VERDICTS if it == found.decode())

    async def give_up(self, wanted: Wanted, token: bytes) -> None:
        """See the protocol."""
        async with self._server.calls() as client:
            await client.eval(_LEASE, 1, self._lease(wanted), token)

    async def forget(self, wanted: Wanted) -> None:
        """See the protocol."""
        async with self._server.calls() as client:
            await client.unlink(self._lease(wanted), self.place(wanted))

    async def entries(self) -> AsyncIterator[list[KeptEntry]]:
        """See the protocol."""
        async for names in self._names():
            found = await self._glances.mget([self._root + CHAIN, *names])
            followed, raws = found[0], found[1:]
            entries = []
            for name, raw in zip(names, raws, strict=True):
                if raw is None or not is_entry(raw):
                    continue
                kept = Kept.opened(name, raw)
                if kept is None:
                    entries.append(KeptEntry(name, len(raw), None, None))
                    continue
                wanted = [record(self._root, table, key) for table, key in kept.dependencies]
                records = await self._glances.mget(wanted) if wanted else []
                counts = standing(kept, followed, self._glances.incarnation, records)
                entries.append(KeptEntry(name, len(raw), kept, counts))
            if entries:
                yield entries

    async def drop(self, entries: Sequence[KeptEntry]) -> int:
        """See the protocol."""
        pairs = [(it.name, it.kept.token if it.kept else b"") for it in entries]
        return await self._dropped(pairs)

    async def clear(self) -> int:
        """See the protocol."""
        dropped = 0
        async for names in self._names():
            dropped += await self._dropped([(name, b"") for name in names])
        return dropped

    async def figures(self) -> ServerFigures:
        """See the protocol."""
        async with self._server.calls() as client:
            told: Any = {}
            for section in ("server", "memory", "stats"):
                told |= await client.info(section)
        return ServerFigures(
            float(told["uptime_in_seconds"]),
            int(told["evicted_keys"]),
            int(told["used_memory"]),
            int(told["keyspace_hits"]),
            int(told["keyspace_misses"]),
        )

    async def _dropped(self, pairs: list[tuple[str, bytes]]) -> int:
        dropped = 0
        for first in range(0, len(pairs), _SCRIPT_KEYS):
            names, tokens = zip(*pairs[first : first + _SCRIPT_KEYS], strict=True)
            async with self._server.calls() as client:
                found: Any = await client.eval(_DROP, len(names), *names, *tokens)
            dropped += int(found)
        return dropped

    async def _names(self) -> AsyncIterator[list[str]]:
        """The names that entries of this namespace have, each once, some at a time."""
        seen: set[Any] = set()
        cursor = -1
        while cursor != 0:
            async with self._server.calls() as client:
                pattern = f"{glob(self._root)}*:cache:*"
                cursor, found = await client.scan(max(cursor, 0), pattern, 1_000)
            names: list[str] = []
            new: set[Any] = set(found) - seen
            for raw in new:
                with suppress(UnicodeDecodeError):  # nobody has an entry of that name
                    if is_entry_name(self._root, name := raw.decode()):
                        names.append(name)
            seen |= new
            for first in range(0, len(names), _SCRIPT_KEYS):
                yield names[first : first + _SCRIPT_KEYS]

    def _lease(self, wanted: Wanted) -> str:
        return f"{self._tenant(wanted)}cache-load:{wanted.key}"

    def _tenant(self, wanted: Wanted) -> str:
        """What names begin with, of one tenant, or of one of their owners."""
        place = NOBODY if wanted.tenant is None else segment(wanted.tenant)
        owner = "" if wanted.owner is None else f"of:{segment(wanted.owner)}:"
        return f"{self._root}{place}:{owner}"
