"""(r) A value is loaded while its row changes: 100,000 times, and never is the older one kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from uuid import uuid4

import orjson
from redis.asyncio import Redis

from bench.figures import Figure
from bench.ground import Ground, Size
from polyplane.model.requests import Kept, Wanted
from polyplane.stores.cache.requests import Requests
from polyplane.stores.cache.server import Server
from polyplane.stores.request_protocol import Found

RACES: Final = 100_000
AT_ONCE: Final = 24
START: Final = 1 << 40
TABLE: Final = "public.raced"
CHAIN: Final = b"race...1"


@dataclass(slots=True)
class Course:
    """The truth that is raced about, the order of its changes, and what was counted."""

    store: Requests
    raw: Redis
    dice: Random
    truth: Counter[int] = field(default_factory=Counter)
    told: Counter[int] = field(default_factory=Counter)
    """The version that the cache has been told of, by row."""
    order: int = START
    seen: Counter[str] = field(default_factory=Counter)

    async def races(self, row: int, times: int) -> None:
        """So many of them, about one row."""
        for _ in range(times):
            await self._race(row)

    async def _race(self, row: int) -> None:
        """One writer, and two who load; what they meet in between is left to chance."""
        wanted = Wanted("acme", None, f"raced {row}", ((TABLE, str(row)),))
        if self.dice.random() < 0.5:
            await self.store.forget(wanted)
        await asyncio.gather(self._loads(wanted, row), self._changes(row), self._loads(wanted, row))
        self.seen["races"] += 1
        told, found = self.told[row], await self.store.read(wanted)
        if found is not None and found.kept is not None and found.standing == "good":
            self.seen["kept"] += 1
            self.seen["stale"] += int(orjson.loads(found.kept.body)) < told
        held = await self.raw.get(self._naive(row))
        self.seen["stale where it is only set"] += held is not None and int(held) < told

    async def _changes(self, row: int) -> None:
        await self._dawdles()
        self.truth[row] += 1
        self.order += 1
        version, order = self.truth[row], self.order
        await self.raw.delete(self._naive(row))
        await self._dawdles()
        changed = [(TABLE, None), (TABLE, str(row))]
        if not await self.store.apply(CHAIN, START, order, changed, vouch=True):
            raise RuntimeError("The chain is gone.")
        self.told[row] = max(self.told[row], version)

    async def _loads(self, wanted: Wanted, row: int) -> None:
        await self._dawdles()
        found, token = await self.store.read(wanted), self.dice.randbytes(12)
        if self.dice.random() < 0.3:  # the lease of the other is lost, as if it had ended
            await self.store._server._client.delete(self.store._lease(wanted))
        seen = found.seen if found else b""
        begun = await self.store.begin(wanted, token, seen=seen, keep_ms=60_000)
        if begun.state != "begun":
            self.seen[begun.state] += 1
            return
        version = self.truth[row]
        await self._dawdles()
        await self.raw.set(self._naive(row), version, ex=600)
        depends, body = orjson.dumps(wanted.depends), str(version).encode()
        kept = Kept(token, begun.chain, begun.position, 2**50, 1, depends, body)
        before = await self.store.read(wanted)
        verdict = await self.store.fill(wanted, begun, kept, ttl_ms=600_000, stale_ms=0)
        self.seen[verdict] += 1
        if verdict == "filled":
            self.seen["overwritten by an older one"] += _version(before) > version

    async def _dawdles(self) -> None:
        for _ in range(self.dice.choice((0, 0, 1, 3))):
            await asyncio.sleep(0)

    def _naive(self, row: int) -> str:
        return f"{self.store._server.prefix}naive:{row}"


def _version(found: Found | None) -> int:
    return int(orjson.loads(found.kept.body)) if found is not None and found.kept else -1


async def raced(url: str, races: int, seed: int) -> Counter[str]:
    """What came of so many races on the cache at `url`, in a namespace of their own."""
    store = Requests(Server(url, f"r{uuid4().hex[:12]}:default:", 10.0))
    async with Redis.from_url(url) as raw:
        course = Course(store, raw, Random(seed))
        await store.begin_chain(CHAIN, START, instead=b"")
        await store.apply(CHAIN, START, START, [], vouch=True)
        times = -(-races // AT_ONCE)
        await asyncio.gather(*(course.races(row, times) for row in range(AT_ONCE)))
        await store.clear()
        names: list[Any] = await raw.keys(f"{store._server.root}*")
        await raw.delete(*names)
    await store.close()
    await store._server.close()
    return course.seen


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """All races once, whatever the number of runs."""
    seen = await raced(ground.engines.urls["valkey"], size.scaled(RACES), seed=24)
    stale = seen["stale"] + seen["overwritten by an older one"]
    counted = [
        Figure(f"races: {name}", "races", (float(count),)) for name, count in sorted(seen.items())
    ]
    return [*counted, Figure("stale overwrites", "races", (float(stale),), 0, at_most=True)]
