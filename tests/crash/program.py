"""What the crash tests kill: a plane with embedded engines that answers on its standard output.

`python -m tests.crash.program HOME`, then a line on its input for each question: `verify`, `stop`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import polyplane as pp
from tests.flow.things import Thing, ThingSearch


class Heat(pp.Stream):
    """Points, each with a number of its own."""

    order_by = ("sensor",)
    sensor: str
    n: int


def tell(**answer: Any) -> None:
    """One line of JSON to who started us."""
    print(json.dumps(answer), flush=True)


async def drained(plane: pp.Plane) -> None:
    """Wait until every acknowledged point has left the feed."""
    feed = plane.opened.feed
    name, _ = feed.subjects.stream(Heat.name)
    async with asyncio.timeout(60):
        while (bounds := await feed.bounds(name)).first <= bounds.last:
            await asyncio.sleep(0.05)


async def main(home: Path) -> None:
    """Run until told to stop, or killed."""
    settings = pp.Settings.load(environ={}, home=home)
    plane = pp.Plane(settings=settings, models=[Thing], projections=[ThingSearch], streams=[Heat])
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with plane:
        tell(urls=dict(plane.opened.urls), namespace=plane.namespace)
        while (question := (await reader.readline()).decode().strip()) not in ("", "stop"):
            assert question == "verify"
            drift = await plane.verify()
            await drained(plane)
            series = plane.opened.stores.series
            assert series is not None
            found = await series.query("SELECT uniqExact(n) AS different FROM heat", {})
            tell(
                drift=[drift.missing, drift.stale, drift.extra],
                items=drift.parts[0].items,
                points=await plane[Heat].count(),
                different=found["different"][0].as_py(),
            )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
