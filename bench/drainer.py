"""The process of measurement (m): a plane that opens with a million changes before it.

It reads one JSON object, `Task`, from standard input and writes one, `Drained`, to standard output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Final

import structlog

from bench.documents import Document, DocumentSearch
from bench.memory import watched
from polyplane import Plane, Settings

TIMEOUT_S: Final = 800.0


@dataclass(frozen=True, slots=True)
class Task:
    """The settings of the plane, and how many rows have changed."""

    settings: dict[str, Any]
    rows: int


@dataclass(frozen=True, slots=True)
class Drained:
    """Seconds until all is applied, the opening included; growth of memory since the start."""

    seconds: float
    rss_growth_mib: float


async def drain(task: Task) -> Drained:
    """Open, wait until all is applied, prove it."""
    settings = Settings.load(environ={}, **task.settings)
    with watched() as growth:
        started = perf_counter()
        async with Plane(
            models=[Document], projections=[DocumentSearch], settings=settings
        ) as plane:
            await plane.caught_up(timeout_s=TIMEOUT_S)
            seconds = perf_counter() - started
            drained = max(growth)
            drift = await plane.verify(timeout_s=TIMEOUT_S)
            assert drift.clean and drift.parts[0].items == task.rows, drift
    return Drained(seconds, drained)


def main() -> None:
    """Read the task, do it, say what was measured."""
    logging.disable(logging.INFO)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    json.dump(asdict(asyncio.run(drain(Task(**json.load(sys.stdin))))), sys.stdout)


if __name__ == "__main__":
    main()
