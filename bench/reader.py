"""Reads one URL over HTTP, over and over, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import httpx

REQUEST_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Task:
    """GET `url` so many times over so many connections, with a credential or none."""

    url: str
    credential: str
    calls: int
    connections: int


async def read(task: Task) -> float:
    """Seconds it takes; raises when one is refused."""
    headers = {"Authorization": f"Bearer {task.credential}"} if task.credential else {}
    async with httpx.AsyncClient(
        headers=headers,
        limits=httpx.Limits(max_connections=task.connections),
        timeout=REQUEST_TIMEOUT_S,
        trust_env=False,
    ) as client:
        waiting = iter(range(task.calls))

        async def ask() -> None:
            for _ in waiting:
                (await client.get(task.url)).raise_for_status()

        (await client.get(task.url)).raise_for_status()
        started = perf_counter()
        await asyncio.gather(*(ask() for _ in range(task.connections)))
        return perf_counter() - started


def main() -> None:
    """Read the task, do it, say how long it took."""
    task = Task(**json.load(sys.stdin))
    json.dump(asyncio.run(read(task)), sys.stdout)


if __name__ == "__main__":
    main()
