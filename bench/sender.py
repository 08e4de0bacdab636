"""The clients of measurement (f) over HTTP: a process of its own that posts telemetry.

It reads one JSON object, `Task`, from standard input and writes the seconds it took.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Final

import httpx

REQUEST_TIMEOUT_S: Final = 30.0
EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Task:
    """Post `batches` batches of `points` points of one experiment, over so many connections."""

    url: str
    batches: int
    points: int
    connections: int
    credential: str


async def send(task: Task) -> float:
    """Seconds until the last batch is acknowledged; raises when one is not."""
    async with httpx.AsyncClient(
        base_url=task.url,
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {task.credential}",
        },
        limits=httpx.Limits(max_connections=task.connections),
        timeout=REQUEST_TIMEOUT_S,
    ) as client:
        draft = {"name": "bench", "hypothesis": "HTTP is fast enough for telemetry"}
        created = await client.post("experiments", json=draft)
        created.raise_for_status()
        experiment_id = created.json()["id"]
        waiting = iter([_body(task, experiment_id, number) for number in range(task.batches)])

        async def post() -> None:
            for body in waiting:
                response = await client.post("telemetry", content=body)
                if response.status_code != 202 or response.json()["points"] != task.points:
                    raise RuntimeError(f"{response.status_code}: {response.text[:500]}")

        started = perf_counter()
        await asyncio.gather(*(post() for _ in range(task.connections)))
        return perf_counter() - started


def _body(task: Task, experiment_id: str, number: int) -> bytes:
    """Columns, as a controller without Arrow sends them; a point a millisecond."""
    rows = range(number * task.points, (number + 1) * task.points)
    columns: dict[str, Sequence[object]] = {
        "time": [(EPOCH + timedelta(milliseconds=n)).isoformat() for n in rows],
        "experiment_id": [experiment_id] * task.points,
        "activity_id": [f"activity-{n % 20}" for n in rows],
        "controller_id": ["controller-1"] * task.points,
        "metric_name": [("throughput", "ratio", "cpu", "memory")[n % 4] for n in rows],
        "value": [100 + n % 977 / 7 for n in rows],
        "unit": ["MB/s"] * task.points,
        "tags": [{"level": n % 9} for n in rows],
    }
    return json.dumps(columns).encode()


def main() -> None:
    """Read the task, do it, say how long it took."""
    task = Task(**json.load(sys.stdin))
    json.dump(asyncio.run(send(task)), sys.stdout)


if __name__ == "__main__":
    main()
