"""Valkey and Redis: gated cache entries, sessions and rate limits, under the plane's own prefix.

An entry is a hash (`c` collection, `p` position, `d` digest, `v` JSON, `s` checksum), so that value
and stamp cannot be evicted apart. Every key has an expiry, tombstones too. Entries that belong to
tenants are in `tenants`.

The server's file has no checksums, and lacks its last second after a power cut. So an entry is
given only with its checksum; and what projectors apply leaves a mark, which tells a cache that has
lost its tail, and so may hold what is stale, from one that is merely empty here and there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Final
from zlib import crc32

import orjson
import structlog

from polyplane.errors import Misconfigured
from polyplane.model.collection import Collection
from polyplane.model.digest import canonical
from polyplane.model.items import Entry, Held, Item, Stamp
from polyplane.model.key import bucket_of
from polyplane.model.scope import Scope
from polyplane.stores.cache.channels import ValkeyChannels
from polyplane.stores.cache.limits import Limits
from polyplane.stores.cache.names import glob
from polyplane.stores.cache.requests import Requests
from polyplane.stores.cache.server import Server
from polyplane.stores.cache.sessions import Sessions
from polyplane.stores.cache.states import StatesInCache
from polyplane.stores.cache.tenants import Tenants
from polyplane.stores.cache.words import Words

_log = structlog.get_logger(__name__)

TOMBSTONE_TTL_S: Final = 24 * 3600
_SCRIPT_KEYS: Final = 250
"""Keys of one script call: the server does nothing else meanwhile."""
_PIPELINE_CALLS: Final = 8
_READ_KEYS: Final = 10_000

# KEYS the entries; ARGV the collection, the position, then of each entry: digest ('' for a
# tombstone), JSON, checksum, seconds to live. Packed positions are below 2^53: exact in Lua's
# doubles. What is there but is no hash, or has no number, is not ours, in a place that is.
_APPLY: Final = """
local position = tonumber(ARGV[2])
for i, key in ipairs(KEYS) do
  local held = redis.pcall('HGET', key, 'p')
  local foreign = type(held) == 'table' or (held and not tonumber(held))
  if foreign or not held or tonumber(held) < position then
    local at = 4 * i - 1
    local digest, value, sum, ttl_s = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    if foreign or digest == '' then redis.call('DEL', key) end
    redis.call('HSET', key, 'c', ARGV[1], 'p', ARGV[2])
    if digest ~= '' then redis.call('HSET', key, 'd', digest, 'v', value, 's', sum) end
    redis.call('EXPIRE', key, ttl_s)
  end
end
"""

# KEYS the marks; ARGV the position, then buckets. The server writes its file in the order of calls.
_MARK: Final = """
for i = 2, #ARGV do
  local held = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '')
  if not held or held < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[1]) end
end
"""

# KEYS the entries; ARGV the collection, the position, seconds to live.
_BURY: Final = """
for _, key in ipairs(KEYS) do
  redis.call('DEL', key)
  redis.call('HSET', key, 'c', ARGV[1], 'p', ARGV[2])
  redis.call('EXPIRE', key, ARGV[3])
end
"""

# KEYS names that begin as the collection's do; ARGV the collection. Others may begin alike.
_FORGET: Final = """
for _, key in ipairs(KEYS) do
  if redis.pcall('HGET', key, 'c') == ARGV[1] then redis.call('UNLINK', key) end
end
"""


async def connect(url: str, *, prefix: str, timeout_s: float = 5.0, **options: Any) -> ValkeyCache:
    """The cache at `redis://`, `rediss://` or `valkey://`; every key begins with `prefix`.

    Raises Misconfigured for what cannot work; a server that is down is noticed by `ping`.
    """
    if options:
        raise Misconfigured(f"The cache has no option {min(options)!r}.")
    return ValkeyCache(Server(url, prefix, timeout_s))


class ValkeyCache:
    """CacheStore: what it holds may vanish at any time, and is never older than it says."""

    multi_process = True
    durable = False

    def __init__(self, server: Server) -> None:
        self.sessions = Sessions(server)
        self.limits = Limits(server)
        self.words = Words(server)
        self.states = StatesInCache(server)
        self.channels = ValkeyChannels(server)
        self.requests = Requests(server)
        self._server = server
        self._tenants = Tenants(server)

    async def ping(self) -> None:
        """Return when the server answers; StoreDown when it does not."""
        async with self._server.calls() as client:
            await client.ping()

    async def barrier(self) -> None:
        """A cache is not waited for: what a power cut takes from it is derived again."""

    async def inspect(self) -> list[str]:
        """Its files are the server's own affair."""
        return []

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await self.channels.close()
        await self.requests.close()
        await self._server.close()

    async def prepare(self, collection: Collection) -> None:
        """There is nothing to create. Raises Misconfigured for a time to live below a second."""
        _check_ttl(collection.name, collection.ttl_s)

    async def maintain(self, collection: Collection, *, full: bool = False) -> None:
        """There is nothing to compact: the server lets entries go by itself."""

    async def apply(
        self, collection: Collection, puts: Sequence[Item], drops: Sequence[str], position: int
    ) -> None:
        """See the protocol. Raises Misconfigured for a time to live below a second."""
        await self.offer(collection, puts, position, drops)
        buckets = {bucket_of(key) for key in (*(item.key for item in puts), *drops)}
        if buckets:
            async with self._server.calls() as client:
                await client.eval(_MARK, 1, self._marks(collection), position, *sorted(buckets))

    async def offer(
        self,
        collection: Collection,
        puts: Sequence[Item],
        position: int,
        drops: Sequence[str] = (),
    ) -> None:
        """See the protocol. Raises Misconfigured for a time to live below a second."""
        timed: list[tuple[Item, int]] = []
        for item in puts:
            ttl_s = collection.ttl_s if item.content.ttl_s is None else item.content.ttl_s
            _check_ttl(item.key, ttl_s)
            timed.append((item, ttl_s))
        if collection.marks:
            await self._tenants.offer(collection, timed, drops, position, TOMBSTONE_TTL_S)
            return
        entries = [(it.key, it.digest, canonical(it.content.value), ttl_s) for it, ttl_s in timed]
        entries += [(key, "", b"", TOMBSTONE_TTL_S) for key in drops]
        start = self._start(collection)
        calls = [entries[i : i + _SCRIPT_KEYS] for i in range(0, len(entries), _SCRIPT_KEYS)]
        for first in range(0, len(calls), _PIPELINE_CALLS):
            async with self._server.calls() as client, client.pipeline(transaction=False) as pipe:
                for call in calls[first : first + _PIPELINE_CALLS]:
                    keys = [start + key for key, _, _, _ in call]
                    parts: list[str | bytes | int] = [collection.target, position]
                    for key, digest, value, ttl_s in call:
                        parts += (digest, value, _sum(start + key, str(position), value), ttl_s)
                    pipe.eval(_APPLY, len(keys), *keys, *parts)
                await pipe.execute()

    async def marks(self, collection: Collection) -> dict[int, int]:
        """See the protocol."""
        async with self._server.calls() as client:
            held = await client.hgetall(self._marks(collection))
        pairs = ((int(bucket), position) for bucket, position in held.items() if bucket.isdigit())
        return {bucket: int(position) for bucket, position in pairs if position.isdigit()}

    async def get(self, collection: Collection, scope: Scope, key: str) -> Entry | None:
        """The entry under `key`; None when there is none, or not as it was put."""
        if collection.marks:
            return await self._tenants.get(collection, scope, key)
        name = self._start(collection) + key
        async with self._server.calls() as client:
            found: list[Any] = await client.hmget(name, ["p", "v", "s"])
        position, value, held = found
        if position is None or value is None:
            return None
        if held != _sum(name, position.decode(errors="replace"), value):
            _log.warning("cache.damaged", collection=collection.target, key=key)
            return None
        return Entry(orjson.loads(value))

    async def scan(
        self, collection: Collection, *, after: str | None = None, batch_size: int = 10_000
    ) -> AsyncIterator[list[Stamp]]:
        """See the protocol. All keys of the collection are held at once, to be given in order."""
        start = self._tenants.gates(collection) if collection.marks else self._start(collection)
        names = [name.removeprefix(start) async for name in self._names(f"{glob(start)}*")]
        keys = sorted(key for key in names if after is None or key > after)
        for index in range(0, len(keys), batch_size):
            if stamps := await self._stamps(collection, keys[index : index + batch_size]):
                yield stamps

    async def stamps(self, collection: Collection, keys: Sequence[str]) -> list[Stamp]:
        """See the protocol."""
        found: list[Stamp] = []
        for index in range(0, len(keys), _READ_KEYS):
            found += await self._stamps(collection, keys[index : index + _READ_KEYS])
        return found

    async def contents(self, collection: Collection, keys: Sequence[str]) -> list[Held]:
        """See the protocol."""
        start, found = self._start(collection), []
        for index in range(0, len(keys), _READ_KEYS):
            some = keys[index : index + _READ_KEYS]
            if collection.marks:
                found += await self._tenants.held(collection, some)
                continue
            for key, held in zip(some, await self._fields(start, some, "cpdv"), strict=True):
                if _is_of(collection, held):
                    found.append(Held(_stamp(key, held), _entry(held[3])))
        return found

    async def bury(self, collection: Collection, keys: Sequence[str], position: int) -> None:
        """See the protocol."""
        if collection.marks:
            await self._tenants.bury(collection, keys, position, TOMBSTONE_TTL_S)
            return
        start = self._start(collection)
        for index in range(0, len(keys), _SCRIPT_KEYS):
            names = [start + key for key in keys[index : index + _SCRIPT_KEYS]]
            parts = (collection.target, position, TOMBSTONE_TTL_S)
            async with self._server.calls() as client:
                await client.eval(_BURY, len(names), *names, *parts)

    async def _stamps(self, collection: Collection, keys: Sequence[str]) -> list[Stamp]:
        if collection.marks:
            return [held.stamp for held in await self._tenants.held(collection, keys)]
        found = await self._fields(self._start(collection), keys, "cpd")
        pairs = zip(keys, found, strict=True)
        return [_stamp(key, held) for key, held in pairs if _is_of(collection, held)]

    async def _fields(self, start: str, keys: Sequence[str], names: str) -> list[Any]:
        """These fields of each entry."""
        async with self._server.calls() as client, client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(start + key, list(names))
            return await pipe.execute(raise_on_error=False)

    async def _names(self, pattern: str) -> AsyncIterator[str]:
        """Every key that is like `pattern`, once."""
        seen: set[Any] = set()
        cursor = -1
        while cursor != 0:
            async with self._server.calls() as client:
                cursor, names = await client.scan(max(cursor, 0), pattern, 1_000)
            new: set[Any] = set(names) - seen
            seen |= new
            for name in new:
                with suppress(UnicodeDecodeError):  # no key is called so: nobody can read it
                    yield name.decode()

    async def forget(self, collection: Collection) -> None:
        """Delete every entry of the collection, tombstones included; nothing else."""
        patterns = [f"{glob(self._start(collection))}*"]
        if collection.marks:  # the gates too: their tenant is empty
            before, behind = self._tenants.places(collection)
            patterns = [f"{glob(before)}*{glob(behind)}*"]
        names = [name for pattern in patterns async for name in self._names(pattern)]
        for first in range(0, len(names), _SCRIPT_KEYS):
            keys = names[first : first + _SCRIPT_KEYS]
            async with self._server.calls() as client:
                await client.eval(_FORGET, len(keys), *keys, collection.target)
        async with self._server.calls() as client:
            await client.delete(self._marks(collection))

    def _marks(self, collection: Collection) -> str:
        """Where the marks are: bucket -> the newest position that was applied in it."""
        return f"{self._server.prefix}:marks:{collection.target}"

    def _start(self, collection: Collection) -> str:
        """What the keys of `collection` begin with: two generations may stand side by side."""
        generation = "" if collection.generation == 1 else f"g{collection.generation}:"
        named = collection.key_prefix or f"{collection.name}:"
        return f"{self._server.prefix}{generation}{named}"


def _is_of(collection: Collection, held: Any) -> bool:
    """Whether it is there; else it has expired, is of a longer prefix, or is no entry at all."""
    if not isinstance(held, list) or held[0] != collection.target.encode():
        return False
    return held[1] is not None and bool(held[1].isdigit())


def _stamp(key: str, held: list[Any]) -> Stamp:
    return Stamp(key, int(held[1]), held[2].decode(errors="replace") if held[2] else None)


def _entry(value: bytes | None) -> Entry | None:
    """What is held, damaged or not; None in a tombstone."""
    if value is None:
        return None
    try:
        return Entry(orjson.loads(value))
    except orjson.JSONDecodeError:
        return Entry(value.hex())


def _sum(name: str, position: str, value: bytes) -> bytes:
    """A checksum of an entry, its name included, so that a flipped bit is never an answer."""
    return b"%08x" % crc32(b"\0".join((name.encode(), position.encode(), value)))


def _check_ttl(name: str, ttl_s: int) -> None:
    if ttl_s < 1:
        raise Misconfigured(f"{name} would live {ttl_s} s.", fix="Give it a second at least.")
