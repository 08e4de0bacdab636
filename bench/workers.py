"""(j) A projection to Valkey whose `derive` waits 2 ms: four processes against one."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Final

from bench.assistant import SlowCache
from bench.documents import Note
from bench.figures import Figure, rates, ratio
from bench.ground import Ground, Size, execute
from bench.program import ROOT, given
from polyplane import Plane

ROWS: Final = 8_000
WORKERS: Final = 4
TIMES: Final = 3.0
READY_S: Final = 60.0


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """All rows change at once, and are applied by this process alone; then with three more."""
    rows = ROWS // 4 if size.quick else ROWS
    url = await ground.database()
    alone, shared = [], []
    async with ground.plane(url, models=[Note], projections=[SlowCache]) as plane:
        await execute(
            url, [f"INSERT INTO note (owner, body) SELECT 'o', 'b' FROM generate_series(1, {rows})"]
        )
        await plane.caught_up(timeout_s=300)
        for _ in range(size.runs):
            await ground.calm()
            alone.append(await _changed(plane, url))
            async with _helpers(plane, WORKERS - 1):
                await ground.calm()
                shared.append(await _changed(plane, url))
            drift = await plane.verify()
            assert drift.clean and drift.parts[0].items == rows, drift
    one = rates("by one process", "rows/s", rows, alone)
    four = rates(f"by {WORKERS} processes", "rows/s", rows, shared)
    return [one, four, ratio("four / one", four, one, required=TIMES)]


async def _changed(plane: Plane, url: str) -> float:
    """Seconds from the change of all rows until they are applied."""
    started = perf_counter()
    await execute(url, [f"UPDATE note SET body = '{started}'"])
    await plane.caught_up(timeout_s=300)
    return perf_counter() - started


@asynccontextmanager
async def _helpers(plane: Plane, count: int) -> AsyncIterator[None]:
    """So many more workers; each has its share when the block begins."""
    started = [await _helper(plane) for _ in range(count)]
    try:
        async with asyncio.timeout(READY_S):
            while await _shares(plane) != [8 // (count + 1)] * (count + 1):
                await asyncio.sleep(0.1)
        yield
    finally:
        for process in started:
            assert process.stdin is not None
            process.stdin.close()
        await asyncio.gather(*(process.wait() for process in started))


async def _helper(plane: Plane) -> Process:
    values = given(plane.settings)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.assistant"), cwd=ROOT, stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(values, default=str).encode() + b"\n")
    await process.stdin.drain()
    return process


async def _shares(plane: Plane) -> list[int]:
    standing = await plane.opened.journal.leases.standing()
    held = Counter(it.holder for it in standing if it.alive and it.name.startswith("projection:"))
    return sorted(held.values())
