"""Sends requests at a rate, whatever becomes of them, in a process of its own.

It reads one JSON object, `Task`, from standard input and writes a `Told` for each of its phases.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, deque
from dataclasses import dataclass, field, fields
from time import perf_counter
from typing import Any, Final, cast
from urllib.parse import urlsplit

import uvloop

from bench.figures import percentile

TICK_S: Final = 0.002
GIVE_UP_S: Final = 30.0
_LENGTH: Final = b"content-length:"


@dataclass(frozen=True, slots=True)
class Task:
    """POST `body` to `url`: first as fast as it goes over a few connections, then `times` as often
    whatever becomes of it, then one after the other.
    """

    url: str
    credential: str
    body: str
    connections: int
    calm_s: float
    times: float
    flood_s: float
    after_s: float


@dataclass(slots=True)
class Told:
    """What became of the requests of one phase; latencies in seconds."""

    took_s: float = 0.0
    sent: int = 0
    unsent: int = 0
    """There was no connection left to send them on: all of them waited for an answer."""
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0
    done_s: list[float] = field(default_factory=list)
    """Of those that were done."""
    refused_s: list[float] = field(default_factory=list)
    slow_at_s: float = 0.0
    """When the last one was refused, or took more than a second."""

    def plain(self) -> dict[str, Any]:
        """In numbers, without the many."""
        found: dict[str, Any] = {it.name: getattr(self, it.name) for it in fields(self)}
        for name in ("done_s", "refused_s"):
            taken = found.pop(name)
            for share in (0.5, 0.99):
                shown = percentile(taken, share) if taken else 0.0
                found[f"{name[:-2]}_p{share * 100:.0f}_s"] = round(shown, 4)
            found[f"{name[:-2]}_max_s"] = round(max(taken, default=0.0), 4)
        return found


class Wire(asyncio.Protocol):
    """One connection that is kept, and one request on it at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._came = b""
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast(asyncio.Transport, transport)

    def send(self) -> None:
        """Send the request."""
        assert self._transport is not None
        self._since = perf_counter()
        self._transport.write(self._client.request)

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self._came += data
        head, ends, body = self._came.partition(b"\r\n\r\n")
        if not ends:
            return
        lowered = head.lower()
        at = lowered.find(_LENGTH)
        size = int(lowered[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) >= size:
            self._came = b""
            latency_s = perf_counter() - self._since
            self._client.answered(int(head[9:12]), latency_s, b"retry-after:" in lowered)
            self._client.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It was closed: 500 connections are the most a server takes."""
        self._client.lost(self)


class Client:
    """All connections to one address."""

    def __init__(self, task: Task) -> None:
        parts = urlsplit(task.url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self.request = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {task.credential}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(task.body)}\r\n\r\n{task.body}"
        ).encode()
        self._idle: deque[Wire] = deque()
        self._busy = 0
        self._freed = asyncio.Event()
        self.told = Told()
        self._began = 0.0

    async def connect(self, count: int) -> None:
        """Have so many more connections."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, wire = await loop.create_connection(lambda: Wire(self), self._host, self._port)
            self._idle.append(wire)

    def begin(self) -> None:
        """A phase begins."""
        self.told, self._began = Told(), perf_counter()

    def answered(self, status: int, latency_s: float, has_retry_after: bool) -> None:
        """One request came back."""
        told = self.told
        told.statuses[status] += 1
        is_done = status < 400
        (told.done_s if is_done else told.refused_s).append(latency_s)
        if not is_done:
            told.without_retry_after += not has_retry_after
        if not is_done or latency_s > 1:
            told.slow_at_s = perf_counter() - self._began

    def free(self, wire: Wire) -> None:
        """A connection may be used again."""
        self._busy -= 1
        self._idle.append(wire)
        self._freed.set()

    def lost(self, wire: Wire) -> None:
        """A connection is gone."""
        if wire in self._idle:
            self._idle.remove(wire)
        else:
            self._busy -= 1
            self.told.statuses[0] += 1
        self._freed.set()

    def send(self) -> bool:
        """Send one request, if there is a connection for it."""
        if not self._idle:
            return False
        self._busy += 1
        self.told.sent += 1
        self._idle.popleft().send()
        return True

    async def closed(self, for_s: float, at_once: int) -> Told:
        """As fast as it goes, so many at a time."""
        self.begin()
        while perf_counter() - self._began < for_s:
            while self._busy < at_once and self.send():
                pass
            self._freed.clear()
            await self._freed.wait()
        return await self._ended()

    async def open(self, for_s: float, a_second: float) -> Told:
        """So many a second, whatever becomes of them."""
        self.begin()
        due = 0.0
        while (gone_s := perf_counter() - self._began) < for_s:
            while due < gone_s * a_second:
                due += 1
                if not self.send():
                    self.told.unsent += 1
            await asyncio.sleep(TICK_S)
        return await self._ended()

    async def _ended(self) -> Told:
        self.told.took_s = perf_counter() - self._began
        async with asyncio.timeout(GIVE_UP_S):
            while self._busy:
                self._freed.clear()
                await self._freed.wait()
        return self.told


async def run(task: Task) -> dict[str, Any]:
    """All phases, one after the other."""
    client = Client(task)
    await client.connect(16)
    await client.closed(task.calm_s / 2, 16)  # warm
    calm = await client.closed(task.calm_s, 16)
    rate = len(calm.done_s) / calm.took_s
    one = await client.closed(min(2.0, task.calm_s), 1)
    await client.connect(task.connections - 16)
    flood = await client.open(task.flood_s, rate * task.times)
    after = await client.closed(task.after_s, 1)
    phases = {"calm": calm, "one": one, "flood": flood, "after": after}
    return {"rate": rate, **{name: told.plain() for name, told in phases.items()}}


def main() -> None:
    """Read the task, do it, say what became of it."""
    task = Task(**json.load(sys.stdin))
    json.dump(uvloop.run(run(task)), sys.stdout)


if __name__ == "__main__":
    main()
