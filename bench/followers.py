"""The clients of measurement (l): a process of its own that follows over many connections.

It reads one JSON object, `Task`, from standard input; writes how late updates came, how many of
each topic, and what the last state of each was.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import orjson

LINE_BYTES_MAX: Final = 1 << 20
CONNECT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Task:
    """Follow `topics` of `operations` on each of `connections`, for `for_s`; `warm_s` do not count.

    `credentials` are used in turn. `idle` more connections follow and read nothing.
    """

    host: str
    port: int
    credentials: list[str]
    connections: int
    topics: int
    operations: int
    warm_s: float
    for_s: float
    idle: int = 0


@dataclass(slots=True)
class Heard:
    """What one connection was told."""

    late_ms: list[float] = field(default_factory=list)
    updates: int = 0
    final: dict[str, str] = field(default_factory=dict)
    lagged: int = 0


async def follow(task: Task, number: int) -> Heard:
    """One connection until its time is over."""
    heard, wanted = Heard(), topics_of(task, number)
    reader, writer = await connected(task, number, wanted)
    began = monotonic()
    try:
        async with asyncio.timeout(task.for_s):
            while line := await reader.readline():
                if line.startswith(b'data: {"updates"'):
                    note(heard, orjson.loads(line[6:]), monotonic(), began + task.warm_s)
                elif line.startswith(b"event: lagged"):
                    heard.lagged += 1
    except TimeoutError:
        pass
    finally:
        writer.close()
    return heard


def note(heard: Heard, content: Any, now: float, since: float) -> None:
    """Count what came; the progress of a state is when it was written."""
    for update in content["updates"]:
        state = update["state"]
        heard.final[update["key"]] = state["status"]
        if now >= since and state["status"] == "running":
            heard.updates += 1
            heard.late_ms.append((now - state["progress"]) * 1e3)


async def idle(task: Task, number: int) -> None:
    """One connection that reads nothing."""
    _, writer = await connected(task, number, list(range(64)))
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(task.for_s)
    writer.transport.abort()


async def connected(
    task: Task, number: int, wanted: list[int]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that follows. All come at once: who is told to come again does."""
    async with asyncio.timeout(CONNECT_S):
        while True:
            reader, writer = await asyncio.open_connection(
                task.host, task.port, limit=LINE_BYTES_MAX
            )
            query = "&".join(f"topic=laboratory.operations/{it}" for it in wanted)
            credential = task.credentials[number % len(task.credentials)]
            head = (
                f"GET /api/v1/events?{query} HTTP/1.1\r\nHost: {task.host}\r\n"
                f"Authorization: Bearer {credential}\r\n\r\n"
            )
            writer.write(head.encode())
            again_s = await _again_s(reader)
            if again_s is None:
                return reader, writer
            writer.close()
            await asyncio.sleep(again_s)


async def _again_s(reader: asyncio.StreamReader) -> float | None:
    """None when it follows from now on; else in how many seconds to come again."""
    status, again_s = (await reader.readline()).decode(), None
    while not (line := await reader.readline()).startswith(b"event: ready"):
        if line.lower().startswith(b"retry-after:"):
            again_s = float(line.partition(b":")[2])
        elif not line or (line == b"\r\n" and " 200 " not in status):
            if " 503 " in status and again_s is not None:
                return again_s
            raise RuntimeError(status or "The server hung up.")
    return None


def topics_of(task: Task, number: int) -> list[int]:
    """Every connection follows others of the operations, and every operation is followed."""
    return [(number * 7 + n * 13) % task.operations for n in range(task.topics)]


async def run(task: Task) -> dict[str, Any]:
    """All of them at once."""
    idling = [asyncio.create_task(idle(task, n)) for n in range(task.idle)]
    heard = await asyncio.gather(*(follow(task, n) for n in range(task.connections)))
    await asyncio.gather(*idling)
    missing = sum(
        it.final.get(str(topic)) != "done"
        for number, it in enumerate(heard)
        for topic in topics_of(task, number)
    )
    return {
        "late_ms": [round(late, 2) for it in heard for late in it.late_ms],
        "updates": [it.updates for it in heard],
        "missing_finals": missing,
        "lagged": sum(it.lagged for it in heard),
    }


def main() -> None:
    """Read the task, do it, write what came of it."""
    task = Task(**json.load(sys.stdin))
    sys.stdout.write(json.dumps(asyncio.run(run(task))))


if __name__ == "__main__":
    main()
