"""(l) Rate limits: checks a second through asyncio, and what one takes, next to the bare client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Final
from uuid import uuid4

from redis.asyncio import Redis

from bench.figures import Figure, rates, ratio
from bench.ground import Ground, Size
from polyplane.stores.cache.valkey import connect

CHECKS: Final = 40_000
ALONE: Final = 4_000
AT_ONCE: Final = 64
CLIENTS: Final = 50
REQUIRED: Final = 10_000
_LIMIT: Final = 1_000_000
_SCRIPT: Final = """
local due = tonumber(redis.call('GET', KEYS[1])) or 0
redis.call('SET', KEYS[1], string.format('%.0f', due + 1), 'PX', 60000)
return due
"""
"""About as much as a check does, called once for each."""

Check = Callable[[int], Awaitable[object]]


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Fifty clients, 64 checks under way at any time; then one after the other."""
    url, prefix = ground.engines.admins["valkey"], f"bench{uuid4().hex[:8]}:default:"
    cache = await connect(url, prefix=prefix)
    raw: Redis = Redis.from_url(url, max_connections=AT_ONCE)
    script = raw.register_script(_SCRIPT)

    async def ours(n: int) -> object:
        said = await cache.limits.check(f"c{n % CLIENTS}", limit=_LIMIT, period_s=60)
        assert said.allowed
        return said

    async def bare(n: int) -> object:
        return await script(keys=[f"{prefix}raw:{n % CLIENTS}"])

    took: dict[str, list[float]] = {"ours": [], "bare": [], "ours alone": [], "bare alone": []}
    many, few = size.scaled(CHECKS), size.scaled(ALONE)
    try:
        for _ in range(size.runs):
            for name, check in (("ours", ours), ("bare", bare)):
                took[name].append(await _timed(check, many, AT_ONCE))
                took[f"{name} alone"].append(await _timed(check, few, 1) / few * 1e6)
    finally:
        await cache.close()
        await raw.aclose()
    checks = rates("checks", "/s", many, took["ours"], required=REQUIRED)
    calls = rates("calls of a script by the bare client", "/s", many, took["bare"])
    one = Figure("one check", "us", tuple(took["ours alone"]))
    call = Figure("one call by the bare client", "us", tuple(took["bare alone"]))
    return [checks, calls, ratio("checks to calls", checks, calls), one, call]


async def _timed(check: Check, count: int, at_once: int) -> float:
    """Seconds for so many, so many at a time."""
    waiting = iter(range(count))

    async def work() -> None:
        for n in waiting:
            await check(n)

    await check(0)
    began = perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return perf_counter() - began
