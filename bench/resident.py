"""The process of measurement (g): what `polyplane up` keeps running, doing nothing.

It reads one JSON object, `Task`, from standard input and writes one, `Idle`, to standard output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Final

import psutil
import structlog

from bench.documents import Note, NoteCache
from bench.http import served
from polyplane import Plane, Settings
from polyplane.domains.laboratory import application
from polyplane.stores.catalog import open_store

SETTLE_S: Final = 5.0
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Task:
    """Which plane to open in `home`, and how long to look at it.

    The laboratory's has LanceDB and chdb in this process; the other one has neither, only the
    embedder.
    """

    home: str
    laboratory: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Idle:
    """Share of one core in percent, and resident memory in MiB, of this process alone."""

    cpu_percent: float
    rss_mib: float


async def rest(task: Task) -> Idle:
    """Open the plane with its engines, flows and API, let it settle, and look."""
    declared: dict[str, Any] = {"models": [Note], "projections": [NoteCache]}
    if task.laboratory:
        declared = {"applications": [application]}
    settings = Settings.load(environ={}, home=task.home)
    async with Plane(settings=settings, **declared) as plane, served(plane):
        embedder = plane.opened.stores.embedder or await open_store("embedder", "wordllama://")
        await embedder.embed(["the kettle is broken"])
        await plane.caught_up()
        await asyncio.sleep(SETTLE_S)
        process = psutil.Process()
        before, started = process.cpu_times(), perf_counter()
        await asyncio.sleep(task.seconds)
        after, took_s = process.cpu_times(), perf_counter() - started
        busy_s = after.user + after.system - before.user - before.system
        rss_mib = process.memory_info().rss / MIB
        if not task.laboratory:
            engines = {"lancedb", "chdb"} & sys.modules.keys()
            assert not engines, engines
            await embedder.close()
    return Idle(100 * busy_s / took_s, rss_mib)


def main() -> None:
    """Read the task, do it, say what was seen."""
    logging.disable(logging.INFO)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    json.dump(asdict(asyncio.run(rest(Task(**json.load(sys.stdin))))), sys.stdout)


if __name__ == "__main__":
    main()
