"""A process of the benchmarks' own: many callers who ask the request cache for one value."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import Any

import structlog
import uvloop

from bench.request_cache import DECLARED, Shown, Task
from polyplane import Plane, Settings


async def run(task: Task, home: Path) -> dict[str, Any]:
    """How often it was loaded here, and what callers were told of where it came from."""
    settings = Settings.load(
        environ={},
        home=home,
        namespace=task.namespace,
        database_url=task.database_url,
        nats_url=task.nats_url,
        cache_url=task.cache_url,
    )
    loads = 0

    async def load() -> Any:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0.05)
        return {"by": task.key}

    async with Plane(settings=settings, flows=False, **DECLARED) as plane:
        await plane.request_cache.get_or_load("warm", load, ttl_s=60, depends=[(Shown, 1)])
        loads, late = 0, time() > task.at
        await asyncio.sleep(max(0.0, task.at - time()))
        cache = plane.request_cache
        answers = await asyncio.gather(
            *(
                cache.get_or_load(task.key, load, ttl_s=60, depends=[(Shown, 1)])
                for _ in range(task.callers)
            )
        )
    return {"loads": loads, "late": late, "origins": Counter(it.origin for it in answers)}


def main() -> None:
    """Read the task, do it, tell."""
    logging.disable(logging.INFO)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    task = Task(**json.load(sys.stdin))
    with TemporaryDirectory(prefix="polyplane-bench-") as home:
        print(json.dumps(uvloop.run(run(task, Path(home)))))


if __name__ == "__main__":
    main()
