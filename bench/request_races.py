"""(r) A value is loaded while its row changes: 100,000 times, and never is the older one kept.

Some of them are run on a server that has no room, and evicts whatever it likes: entries, leases,
records, the mark.
"""

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
SQUEEZED: Final = 10_000
AT_ONCE: Final = 24
_FILL_BYTES: Final = 4_000
_ROOM_BYTES: Final = 16 << 20
START: Final = 1 << 40
TABLE: Final = "public.raced"


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
    chain: bytes = b"race...1"
    is_squeezed: bool = False
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
        if self.is_squeezed:
            name = f"{self.store._server.prefix}fill:{self.dice.randrange(1 << 30)}"
            await self.raw.set(name, b"x" * _FILL_BYTES, ex=600)
        told, found = self.told[row], await self.store.read(wanted)
        if found is not None and found.kept is not None and found.standing == "good":
            self.seen["kept"] += 1
            self.seen["stale"] += int(orjson.loads(found.kept.body)) < told
        held = await self.raw.get(self._naive(row))
        self.seen["stale where it is only set"] += held is not None and int(held) < told

    async def _changes(self, row: int) -> None:
        # Loads take a round trip or two to begin: a change at once would be before all of them.
        await asyncio.sleep(self.dice.choice((0, 0.001, 0.002, 0.004)))
        self.truth[row] += 1
        self.order += 1
        version, order = self.truth[row], self.order
        await self.raw.delete(self._naive(row))
        await self._dawdles()
        await self._tells(row, order)
        self.told[row] = max(self.told[row], version)

    async def _tells(self, row: int, order: int) -> None:
        """What a recorder does; it begins anew when the mark is gone."""
        changed: list[tuple[str, str | None]] = [(TABLE, None), (TABLE, str(row))]
        while True:
            chain = self.chain
            if await self.store.apply(chain, START, order, changed, vouch=True):
                return
            mark, new = await self.store.mark(), self.dice.randbytes(8)
            if chain == self.chain and (mark is None or mark.chain == chain):
                instead = b"" if mark is None else chain
                if await self.store.begin_chain(new, self.order, instead=instead):
                    self.chain = new
                    self.seen["chains begun anew"] += 1

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
        await asyncio.sleep(self.dice.choice((0, 0.001, 0.003)))
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


async def raced(url: str, races: int, seed: int, *, is_squeezed: bool = False) -> Counter[str]:
    """What came of so many races on the cache at `url`, in a namespace of their own."""
    store = Requests(Server(url, f"r{uuid4().hex[:12]}:default:", 10.0))
    async with Redis.from_url(url) as raw:
        course = Course(store, raw, Random(seed), is_squeezed=is_squeezed)
        await store.begin_chain(course.chain, START, instead=b"")
        await store.apply(course.chain, START, START, [], vouch=True)
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
    url = ground.engines.admins["valkey"]
    found = _figures("", await raced(url, size.scaled(RACES), seed=24))
    async with Redis.from_url(url) as raw:
        used, before = await raw.info("memory"), await raw.info("stats")
        await raw.config_set("maxmemory-policy", "allkeys-random")
        await raw.config_set("maxmemory", used["used_memory"] + _ROOM_BYTES)
        try:
            seen = await raced(url, size.scaled(SQUEEZED), seed=25, is_squeezed=True)
        finally:
            await raw.config_set("maxmemory", 0)
        evicted = (await raw.info("stats"))["evicted_keys"] - before["evicted_keys"]
    told = "without room: "
    return [
        *found,
        *_figures(told, seen),
        Figure(f"{told}keys evicted", "keys", (float(evicted),), required=1),
    ]


def _figures(before: str, seen: Counter[str]) -> list[Figure]:
    stale = float(seen["stale"] + seen["overwritten by an older one"])
    counted = sorted(seen.items())
    return [
        *(Figure(f"{before}{name}", "races", (float(count),)) for name, count in counted),
        Figure(f"{before}stale overwrites", "races", (stale,), 0, at_most=True),
    ]
