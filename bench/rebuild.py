"""(l) A collection of 100,000 is built anew beside 500 commits a second, and switched to.

A reader looks at some items all the time: each must be there in every look, and none may ever go
back to an older state, as it would if a look showed a mixture of both collections.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from time import perf_counter, time
from typing import Final
from uuid import UUID

from bench.documents import Document, DocumentSearch, filled_database
from bench.figures import Figure, percentile, ratio
from bench.ground import Ground, Size
from bench.program import ask
from bench.writer import Task
from polyplane import Plane

ROWS: Final = 100_000
COMMITS_PER_S: Final = 500
NORMAL_S: Final = 10.0
WARM_S: Final = 2.0
LOOKED_AT: Final = 200
P99_RATIO_MAX: Final = 1.5
TIMEOUT_S: Final = 600.0


@dataclass(slots=True)
class Seen:
    """What one run found."""

    normal_ms: list[float]
    beside_ms: list[float]
    rebuild_s: float
    looks: int
    commits_per_s: float


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Commits in a process of their own; the same ones before the rebuild and beside it."""
    rows, normal_s = size.scaled(ROWS), 3.0 if size.quick else NORMAL_S
    seen: list[Seen] = []
    for _ in range(size.runs):
        url = await filled_database(ground, rows)
        async with ground.plane(url, models=[Document], projections=[DocumentSearch]) as plane:
            await plane.caught_up(timeout_s=300)
            await ground.calm()
            seen.append(await _run(ground, plane, url, rows, normal_s))
            drift = await plane.verify(timeout_s=TIMEOUT_S)
            assert drift.clean and drift.parts[0].items == rows, drift
            assert drift.parts[0].collection.endswith("_g2")
    normal = _figure("commit p99, nothing is built", [run.normal_ms for run in seen])
    beside = _figure("commit p99, beside the rebuild", [run.beside_ms for run in seen])
    return [
        normal,
        beside,
        Figure(
            "p99: beside / normal",
            "ratio",
            ratio("", beside, normal).runs,
            P99_RATIO_MAX,
            at_most=True,
        ),
        Figure("rebuild", "s", tuple(run.rebuild_s for run in seen)),
        Figure("commits beside it", "commits/s", tuple(run.commits_per_s for run in seen)),
        Figure("looks, all whole", "looks", tuple(float(run.looks) for run in seen)),
    ]


async def _run(ground: Ground, plane: Plane, url: str, rows: int, normal_s: float) -> Seen:
    stop = ground.folder / f"stop-{plane.namespace}"
    task = Task(url, rows, COMMITS_PER_S, str(stop))
    writing = asyncio.create_task(ask("bench.writer", asdict(task), timeout_s=TIMEOUT_S))
    try:
        await asyncio.sleep(WARM_S)
        began = time()
        async with _looking(plane) as looks:
            await asyncio.sleep(normal_s)
            started, clock = time(), perf_counter()
            await plane.rebuild(DocumentSearch, timeout_s=TIMEOUT_S)
            ended, rebuild_s = time(), perf_counter() - clock
            await asyncio.sleep(1)
    finally:
        stop.touch()
        took = await writing
    beside = [ms for at, ms in took if started <= at < ended]
    return Seen(
        normal_ms=[ms for at, ms in took if began <= at < started],
        beside_ms=beside,
        rebuild_s=rebuild_s,
        looks=looks[0],
        commits_per_s=len(beside) / rebuild_s,
    )


@asynccontextmanager
async def _looking(plane: Plane) -> AsyncIterator[list[int]]:
    """Look over and over until the block ends; AssertionError when a look is not whole."""
    keys = [UUID(int=number + 1) for number in range(LOOKED_AT)]
    turns: dict[str, int] = {}
    looks, go_on = [0], True

    async def look() -> None:
        while go_on:
            hits = await plane[DocumentSearch].get(keys)
            assert len(hits) == len(keys), f"{len(hits)} of {len(keys)}"
            for hit in hits:
                word, turn = hit.tags["title"].split()
                found = int(turn) if word == "turn" else -1
                assert found >= turns.get(hit.key, -1), f"{hit.key} went back to {turn}"
                turns[hit.key] = found
            looks[0] += 1
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    try:
        yield looks
    finally:
        go_on = False
        await looking


def _figure(name: str, runs: list[list[float]]) -> Figure:
    return Figure(name, "ms", tuple(percentile(run, 0.99) for run in runs), at_most=True)
