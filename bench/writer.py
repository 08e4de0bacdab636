"""The writers of measurement (l): a process of its own that commits single rows at a steady rate.

It reads one JSON object, `Task`, from standard input and writes a list of `[time, ms]`, one pair
for each commit, to standard output. It stops when the file `stop` appears.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, time
from typing import Final
from uuid import UUID

import psycopg

CONNECTIONS: Final = 8
LOOK_EVERY: Final = 50
"""Commits of one connection between two looks for the file."""


@dataclass(frozen=True, slots=True)
class Task:
    """Where the documents are, how many, and how many commits a second to make."""

    database_url: str
    rows: int
    commits_per_s: int
    stop: str


async def write(task: Task) -> list[tuple[float, float]]:
    """Commit until told to stop; (seconds since 1970, milliseconds) of each commit."""
    took = await asyncio.gather(*(_connection(task, first) for first in range(CONNECTIONS)))
    return sorted(pair for pairs in took for pair in pairs)


async def _connection(task: Task, first: int) -> list[tuple[float, float]]:
    """One connection's share: each commit at its time, or at once when it is late."""
    took: list[tuple[float, float]] = []
    pause_s = CONNECTIONS / task.commits_per_s
    stop, turn = Path(task.stop), 0
    async with await psycopg.AsyncConnection.connect(task.database_url, autocommit=True) as truth:
        due = perf_counter() + pause_s * first / CONNECTIONS
        while turn % LOOK_EVERY or not stop.exists():
            await asyncio.sleep(max(0.0, due - perf_counter()))
            due = max(due + pause_s, perf_counter() - 1)
            # Each connection has keys of its own, so that none waits for another's row.
            key = UUID(int=(turn * CONNECTIONS + first) % task.rows + 1)
            started = perf_counter()
            await truth.execute(
                "UPDATE document SET title = %s WHERE id = %s", (f"turn {turn}", key)
            )
            took.append((time(), (perf_counter() - started) * 1e3))
            turn += 1
    return took


def main() -> None:
    """One task in, one list out."""
    task = Task(**json.load(sys.stdin))
    json.dump(asyncio.run(write(task)), sys.stdout)


if __name__ == "__main__":
    main()
