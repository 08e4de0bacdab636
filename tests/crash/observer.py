"""A reader from outside, in a process of its own: it looks at stores and streams all the time.

`python -m tests.crash.observer`, one line of JSON on its input (URLs past every proxy, home,
namespace), then questions for its `report`, or `stop`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
import redis.exceptions
from nats.js import JetStreamContext

from polyplane.flow.packing import place_of
from polyplane.model.message import Message
from tests.crash.ground import heard
from tests.crash.order import Watch
from tests.crash.points import tell
from tests.crash.raw import Vectors, cards

LOOK_EVERY_S = 1.0
AT_ONCE = 100
OUT_OF_REACH = (
    nats.errors.Error,
    nats.js.errors.Error,
    redis.exceptions.RedisError,
    TimeoutError,
    OSError,
    RuntimeError,
)


class Observer:
    """What it has seen, and how often it looked."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.watch = Watch()
        self.looks = {"vectors": 0, "cards": 0, "changes": 0, "events": 0}
        self._told = told
        self._next: dict[str, int] = {}
        self._created: dict[str, str] = {}

    async def look_at_vectors(self) -> None:
        """Every table of the vector store, again and again."""
        store = Vectors(Path(self._told["home"]) / "lancedb")
        while True:
            try:
                for table in await store.tables():
                    self.watch.items(table, await store.held(table))
                    self.looks["vectors"] += 1
            except OUT_OF_REACH:
                pass  # a table in the making, or a full disk: it looks again
            except ValueError as error:
                self.watch.inversions += "items under" in str(error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def look_at_cards(self) -> None:
        """The cache."""
        start = f"{self._told['namespace']}:default:thing:"
        while True:
            try:
                async with asyncio.timeout(5):
                    held = await cards(self._told["valkey"], start)
                self.watch.items("cards", held)
                self.looks["cards"] += 1
            except OUT_OF_REACH:
                pass
            await asyncio.sleep(LOOK_EVERY_S)

    async def look_at_streams(self) -> None:
        """Every message of both transport streams."""
        client = await nats.connect(
            self._told["nats"], max_reconnect_attempts=-1, reconnect_time_wait=0.2, error_cb=heard
        )
        js = client.jetstream(timeout=2)
        while True:
            for kind in ("changes", "events"):
                with suppress(*OUT_OF_REACH):
                    await self._read_on(js, kind)
            await asyncio.sleep(0.05)

    async def _read_on(self, js: JetStreamContext, kind: str) -> None:
        stream = f"{self._told['namespace']}-{kind}"
        info = await js.stream_info(stream)
        first, last = info.state.first_seq, info.state.last_seq
        created = str(info.created)
        known = self._created.get(kind) == created
        start = self._next.get(kind, 1) if known else 1
        gap = not known or first > start
        self._created[kind] = created
        self._next[kind] = start = max(start, first)
        until = min(last, start + AT_ONCE - 1)
        found = await asyncio.gather(
            *(js.get_msg(stream, seq=n, direct=True) for n in range(start, until + 1))
        )
        for number, raw in enumerate(found, start):
            message = Message(raw.subject or "", raw.data or b"", dict(raw.headers or {}), number)
            self._see(kind, message, gap=gap)
            gap = False
            self._next[kind] = number + 1
            self.looks[kind] += 1

    def _see(self, kind: str, message: Message, *, gap: bool) -> None:
        place = place_of(message)
        if place is None:
            self.watch.inversions += 1
            self.watch.examples.append(f"{kind}: a message of nobody: {message.subject}")
            return
        self.watch.message(kind, place, gap=gap)
        if kind == "events":
            self.watch.event(place.epoch, json.loads(message.body)["data"]["tx"])


async def main() -> None:
    """Look until told to stop."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    observer = Observer(json.loads(await reader.readline()))
    looking = [observer.look_at_vectors(), observer.look_at_cards(), observer.look_at_streams()]
    tasks = [asyncio.create_task(it) for it in looking]
    while (line := (await reader.readline()).decode().strip()) not in ("", "stop"):
        for task in tasks:
            if task.done():
                task.result()
        number, _, _ = line.partition(" ")
        tell(report={**observer.watch.report(), "looks": observer.looks}, to=int(number))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=10)


if __name__ == "__main__":
    asyncio.run(main())
