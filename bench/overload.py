"""(o) Ten times what the API can do: what is accepted is done in time, the rest is told at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from bench.figures import Figure
from bench.flood import Task
from bench.ground import Ground, Size
from bench.http import served
from bench.program import ask
from polyplane.domains.laboratory import application
from polyplane.serve.token import ops_token

TIMES: Final = 10.0
FLOOD_S: Final = 60
CALM_S: Final = 4.0
AFTER_S: Final = 10.0
CONNECTIONS: Final = 300
DONE_P99_S: Final = 1.0
NORMAL_S: Final = 10.0
TIMEOUT_S: Final = 300.0
DRAFT: Final = {"name": "bench", "hypothesis": "Too much at once is refused"}


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Rows written over sockets by a program that does not wait for answers."""
    found: list[dict[str, Any]] = []
    url = await ground.database()
    async with ground.plane(url, applications=[application]) as plane, served(plane) as at:
        for _ in range(size.runs):
            await ground.calm()
            task = Task(
                f"{at}/api/v1/laboratory/experiments",
                ops_token(plane.settings.home),
                json.dumps(DRAFT),
                CONNECTIONS,
                CALM_S,
                TIMES,
                max(3, size.scaled(FLOOD_S)),
                AFTER_S if not size.quick else 3.0,
            )
            found.append(await ask("bench.flood", asdict(task), timeout_s=TIMEOUT_S))
    check(found)
    return figures(found)


def check(found: Sequence[dict[str, Any]]) -> None:
    """What is not done is refused as it should be. RuntimeError otherwise."""
    for run in found:
        statuses = {int(status) for status in run["flood"]["statuses"]}
        if not statuses <= {201, 429, 503} or run["flood"]["without_retry_after"]:
            raise RuntimeError(f"Answered strangely: {run['flood']}")


def figures(found: Sequence[dict[str, Any]]) -> list[Figure]:
    """What the runs say."""

    def each(name: str, unit: str, numbers: list[float], most: float | None = None) -> Figure:
        return Figure(name, unit, tuple(numbers), most, at_most=most is not None)

    floods = [run["flood"] for run in found]
    return [
        each("done without a flood", "/s", [run["rate"] for run in found]),
        each("p50 one at a time", "ms", [run["one"]["done_p50_s"] * 1e3 for run in found]),
        each(
            "wanted in the flood",
            "/s",
            [(it["sent"] + it["unsent"]) / it["took_s"] for it in floods],
        ),
        each("sent in the flood", "/s", [it["sent"] / it["took_s"] for it in floods]),
        each(
            "done in the flood",
            "/s",
            [it["statuses"].get("201", 0) / it["took_s"] for it in floods],
        ),
        each("p50 of what is done", "ms", [it["done_p50_s"] * 1e3 for it in floods]),
        each(
            "p99 of what is done", "ms", [it["done_p99_s"] * 1e3 for it in floods], DONE_P99_S * 1e3
        ),
        each("p99 of what is refused", "ms", [it["refused_p99_s"] * 1e3 for it in floods]),
        each(
            "refused or slow afterwards, until",
            "s",
            [run["after"]["slow_at_s"] for run in found],
            NORMAL_S,
        ),
        each(
            "p50 one at a time, afterwards",
            "ms",
            [run["after"]["done_p50_s"] * 1e3 for run in found],
        ),
    ]
