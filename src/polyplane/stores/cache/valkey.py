"""Valkey and Redis: gated cache entries, sessions and rate limits, under the plane's own prefix.

An entry is a hash (p position, d digest, v JSON) so that value and stamp cannot be evicted apart.
Every write is one Lua script and every key has an expiry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from polyplane.errors import Misconfigured, StoreDown
from polyplane.model.collection import Collection
from polyplane.model.digest import canonical
from polyplane.model.items import Item, Stamp
from polyplane.stores.cache.limits import Limits
from polyplane.stores.cache.sessions import Sessions

TOMBSTONE_TTL_S: Final = 24 * 3600
_PIPELINE: Final = 1_000

_PUT: Final = """
local held = redis.call('HGET', KEYS[1], 'p')
if held and tonumber(held) >= tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] == '' then
  redis.call('HSET', KEYS[1], 'p', ARGV[1])
else
  redis.call('HSET', KEYS[1], 'p', ARGV[1], 'd', ARGV[2], 'v', ARGV[3])
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""
"""KEYS[1] the entry; ARGV position, digest ('' for a tombstone), JSON, seconds to live. Packed
positions are below 2^53, so Lua's doubles compare them exactly."""


@contextmanager
def answering() -> Iterator[None]:
    """Faults of the client and of the server become `StoreDown`, wrong secrets `Misconfigured`."""
    try:
        yield
    except AuthenticationError as error:
        raise Misconfigured("The cache refuses the password.", fix="Check REDIS_URL.") from error
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreDown(
            f"The cache does not answer ({type(error).__name__}).",
            fix="Check that Valkey or Redis runs and that REDIS_URL names it.",
        ) from error


async def connect(url: str, *, prefix: str, timeout_s: float = 5.0, **options: Any) -> ValkeyCache:
    """Connect to `redis://`, `rediss://` or `valkey://`; every key begins with `prefix`.

    Raises Misconfigured for a URL that cannot work; a server that is down is noticed by `ping`.
    """
    if options:
        raise Misconfigured(f"The cache has no option {min(options)!r}.")
    if not prefix:
        raise Misconfigured("The cache needs a prefix for its keys.")
    try:
        client = Redis.from_url(
            url.replace("valkey://", "redis://", 1),
            socket_timeout=timeout_s,
            socket_connect_timeout=min(2.0, timeout_s),
            health_check_interval=30,
            max_connections=32,
        )
    except ValueError as error:
        raise Misconfigured("REDIS_URL is not a URL of a cache.") from error
    return ValkeyCache(client, prefix)


class ValkeyCache:
    """CacheStore: what it holds may vanish at any time, and is never older than it says."""

    multi_process = True
    durable = False

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._put = client.register_script(_PUT)
        self.sessions = Sessions(client, prefix)
        self.limits = Limits(client, prefix)

    async def ping(self) -> None:
        """Return when the server answers."""
        with answering():
            await self._client.ping()

    async def barrier(self) -> None:
        """A cache is not waited for: what a power cut takes from it is derived again."""

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._client.aclose()

    async def prepare(self, collection: Collection) -> None:
        """Nothing to create."""

    async def maintain(self, collection: Collection, *, full: bool = False) -> None:
        """Nothing to compact: the server expires entries by itself."""

    def _key(self, collection: Collection, key: str) -> str:
        return f"{self._prefix}{collection.key_prefix or collection.name + ':'}{key}"

    async def apply(
        self, collection: Collection, puts: Sequence[Item], drops: Sequence[str], position: int
    ) -> None:
        """See the protocol; one pipelined script call per item."""
        calls = [
            (item.key, item.digest, canonical(item.content.value), item.content.ttl_s)
            for item in puts
        ] + [(key, "", b"", TOMBSTONE_TTL_S) for key in drops]
        with answering():
            for start in range(0, len(calls), _PIPELINE):
                async with self._client.pipeline(transaction=False) as pipe:
                    for key, digest, value, ttl_s in calls[start : start + _PIPELINE]:
                        await self._put(
                            keys=[self._key(collection, key)],
                            args=[position, digest, value, ttl_s or collection.ttl_s],
                            client=pipe,
                        )
                    await pipe.execute()

    async def get(self, collection: Collection, key: str) -> Any | None:
        """The JSON value under `key`, or None."""
        with answering():
            value = await self._client.hget(self._key(collection, key), "v")
        return None if value is None else orjson.loads(value)

    async def scan(
        self, collection: Collection, *, batch_size: int = 10_000
    ) -> AsyncIterator[list[Stamp]]:
        """See the protocol. All keys of the collection are held at once, to be given in order."""
        start = self._key(collection, "")
        with answering():
            names = {
                name.decode()
                async for name in self._client.scan_iter(match=f"{_glob(start)}*", count=1_000)
            }
        keys = sorted(name.removeprefix(start) for name in names)
        for index in range(0, len(keys), batch_size):
            piece = keys[index : index + batch_size]
            with answering():
                async with self._client.pipeline(transaction=False) as pipe:
                    for key in piece:
                        await pipe.hmget(start + key, "p", "d")
                    found = await pipe.execute()
            yield [
                Stamp(key, int(position), digest.decode() if digest else None)
                for key, (position, digest) in zip(piece, found, strict=True)
                if position is not None  # expired between the two calls
            ]


def _glob(text: str) -> str:
    """`text` with what SCAN's patterns mean specially escaped."""
    return "".join(f"\\{c}" if c in "*?[]^-\\" else c for c in text)
