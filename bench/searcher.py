"""The client of measurement (v) over HTTP: a process of its own that asks one question at a time.

It reads one JSON object, `Task`, from standard input and writes the milliseconds of each answer.
"""

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
    """Ask these questions in one mode."""

    url: str
    credential: str
    mode: str
    questions: list[str]


async def ask(task: Task) -> list[float]:
    """What each answer took; raises when one is none, or a poorer one."""
    took_ms = []
    headers = {"Authorization": f"Bearer {task.credential}"}
    async with httpx.AsyncClient(headers=headers, timeout=REQUEST_TIMEOUT_S) as client:
        for question in task.questions:
            asked = {"question": question, "mode": task.mode}
            began_s = perf_counter()
            answer = await client.post(task.url, json=asked)
            took_ms.append((perf_counter() - began_s) * 1e3)
            answer.raise_for_status()
            if answer.json()["degraded"]:
                raise RuntimeError(answer.text[:500])
    return took_ms


def main() -> None:
    """Read the task, do it, say how long it took."""
    print(json.dumps(asyncio.run(ask(Task(**json.load(sys.stdin))))))


if __name__ == "__main__":
    main()
