"""(l) Live updates: many who follow over HTTP, states that change a thousand times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, Final

from bench import followers, state_writer
from bench.figures import Figure, percentile
from bench.ground import Ground, Size
from bench.http import served
from bench.memory import watched
from bench.program import ask
from polyplane import Caller, Plane
from polyplane.domains.laboratory import application

CONNECTIONS: Final = 100
TOPICS: Final = 10
OPERATIONS: Final = 100
RATE: Final = 1_000
IDLE: Final = 1
FOR_S: Final = 40.0
WARM_S: Final = 3.0
AFTER_S: Final = 4.0
KEYS: Final = 10
LATE_MS_MAX: Final = 500.0
A_SECOND_MAX: Final = 5.5
GROWTH_MIB_MAX: Final = 64.0


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """One process serves, one follows, one writes; one connection never reads."""
    for_s = 14.0 if size.quick else FOR_S
    late: list[float] = []
    middle: list[float] = []
    often: list[float] = []
    rates: list[float] = []
    growths: list[float] = []
    url = await ground.database()
    async with ground.plane(url, applications=[application], flows=False) as plane:
        keys = await _keys(plane)
        async with served(plane) as at:
            for _ in range(size.runs):
                await ground.calm()
                with watched() as growth:
                    heard, wrote = await _run(ground, plane, at, keys, for_s)
                if heard["missing_finals"] or heard["lagged"]:
                    raise AssertionError(f"{heard['missing_finals']} last states were not told.")
                late.append(percentile(heard["late_ms"], 0.99))
                middle.append(median(heard["late_ms"]))
                counted_s = for_s - WARM_S - AFTER_S / 2
                often.append(max(heard["updates"]) / TOPICS / counted_s)
                rates.append(wrote["rate"])
                growths.append(max(growth))
    return [
        Figure("updates coming in", "1/s", tuple(rates), RATE * 0.95),
        Figure("write to receipt, p99", "ms", tuple(late), LATE_MS_MAX, at_most=True),
        Figure("write to receipt, median", "ms", tuple(middle)),
        Figure("told of a topic, the most", "1/s", tuple(often), A_SECOND_MAX, at_most=True),
        Figure("memory of the server, grown", "MiB", tuple(growths), GROWTH_MIB_MAX, at_most=True),
    ]


async def _run(
    ground: Ground, plane: Plane, at: str, keys: list[str], for_s: float
) -> tuple[Any, Any]:
    host, _, port = at.removeprefix("http://").partition(":")
    following = followers.Task(
        host, int(port), keys, CONNECTIONS, TOPICS, OPERATIONS, WARM_S, for_s, IDLE
    )
    writing = state_writer.Task(
        ground.engines.admins["valkey"],
        f"{plane.namespace}:default:",
        "default",
        OPERATIONS,
        RATE,
        1.0,
        for_s - AFTER_S,
    )
    timeout_s = for_s + 60
    heard, wrote = await asyncio.gather(
        ask("bench.followers", asdict(following), timeout_s=timeout_s),
        ask("bench.state_writer", asdict(writing), timeout_s=timeout_s),
    )
    return heard, wrote


async def _keys(plane: Plane) -> list[str]:
    """What programs show that may read."""
    operator = Caller("operator", "default", None, plane.identity.permissions.everything)
    made = [
        await plane.identity.keys.make(
            operator, f"bench {n}", role="service_reader", expires_s=3600
        )
        for n in range(KEYS)
    ]
    return [it.text for it in made]
