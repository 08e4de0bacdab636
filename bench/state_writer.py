"""The writer of measurement (l): a process of its own that changes states, so many a second.

It reads one JSON object, `Task`, from standard input; writes how many it wrote, and at what rate.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from time import monotonic
from typing import Final

from polyplane.live import OPERATION
from polyplane.stores.cache.valkey import connect

TICK_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Task:
    """Write `rate` a second to so many `operations` for `for_s`, then end each of them."""

    url: str
    prefix: str
    tenant: str
    operations: int
    rate: int
    wait_s: float
    for_s: float


async def write(task: Task) -> dict[str, float]:
    """Each state says when it was written."""
    cache = await connect(task.url, prefix=task.prefix)
    written = 0

    async def put(operation: int, status: str) -> None:
        fields = OPERATION.checked({"status": status, "progress": monotonic()})
        await cache.states.put(task.tenant, OPERATION, str(operation), fields, merge=True)

    try:
        await asyncio.sleep(task.wait_s)
        began = monotonic()
        while (now := monotonic() - began) < task.for_s:
            due = int(now * task.rate) - written
            await asyncio.gather(
                *(put((written + n) % task.operations, "running") for n in range(due))
            )
            written += due
            await asyncio.sleep(TICK_S)
        took_s = monotonic() - began
        await asyncio.gather(*(put(n, "done") for n in range(task.operations)))
    finally:
        await cache.close()
    return {"written": written, "rate": written / took_s}


def main() -> None:
    """Read the task, do it, write what came of it."""
    sys.stdout.write(json.dumps(asyncio.run(write(Task(**json.load(sys.stdin))))))


if __name__ == "__main__":
    main()
