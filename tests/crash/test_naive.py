"""Negative controls: without the gate, the fence or the cursor harm is done, and it is seen.

Each scene is played with the product as it is, which must come out right, and with what people
build first in its place, which must not; else the ring would prove nothing.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import nats
import psycopg
import pytest

from polyplane import Settings
from polyplane.flow.packing import place_of
from polyplane.model.message import Message
from tests.crash.children import Child
from tests.crash.nursery import Nursery
from tests.crash.order import Watch
from tests.crash.raw import Vectors
from tests.flow.things import becomes

WAIT_S = 30.0
INSERT = "INSERT INTO public.thing VALUES (%s, %s, %s)"


@pytest.fixture(scope="module")
async def nursery() -> AsyncIterator[Nursery]:
    """One for all scenes."""
    nursery = Nursery(Path(mkdtemp(prefix="polyplane-naive-")))
    await nursery.start()
    yield nursery
    await nursery.stop()


class Scene:
    """Two programs on engines that nobody harms."""

    def __init__(self, settings: Settings, nursery: Nursery, naive: str) -> None:
        self._nursery = nursery
        self._order = {
            "home": str(settings.home),
            "role": "worker",
            "namespace": settings.namespace,
            "naive": naive,
            "cards": False,  # the one projector is the one that is paused
            "urls": {
                "postgres": settings.url("database_url"),
                "nats": settings.url("nats_url"),
                "valkey": settings.url("cache_url"),
            },
        }
        self.namespace = settings.namespace
        self.urls: dict[str, str] = self._order["urls"]  # type: ignore[assignment]
        self.vectors = Vectors(settings.home / "lancedb")

    async def program(self) -> Child:
        """One more, open."""
        child = await self._nursery.bear()
        child.say(json.dumps(self._order))
        await child.hear("open", WAIT_S)
        return child

    async def versions(self) -> dict[str, int | None]:
        """What the vector store holds."""
        held = await self.vectors.held("thing_search")
        return {key: item.version for key, item in held.items()}

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
        """In autocommit."""
        url = self.urls["postgres"]
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            yield connection

    async def settled(self, program: Child) -> None:
        """A first row is there, and what keeps the table fast has done its work."""
        async with self.connection() as connection:
            await connection.execute(INSERT, [0, "first", 1])
        await self.holds(0, 1)
        await program.ask('caught_up {"timeout_s": 20}', "answer", WAIT_S)
        await asyncio.sleep(1)  # a process that is paused while it merges keeps the others out

    async def holds(self, key: int, version: int) -> None:
        """Wait until the store does."""

        async def look() -> int | None:
            return (await self.versions()).get(str(key))

        await becomes(look, version, within_s=WAIT_S)


async def without_gate(scene: Scene) -> bool:
    """A worker reads a row, is paused, and writes it when another has written a newer one."""
    slow = await scene.program()
    await scene.settled(slow)
    await slow.ask(
        'arm {"step": "projector.derived", "by": "SIGSTOP", "then": "projector.applied"}',
        "answer",
        WAIT_S,
    )
    async with scene.connection() as connection:
        await connection.execute(INSERT, [1, "old", 1])
        while (await slow.hear("blown", WAIT_S))["signal"] != "SIGSTOP":
            continue
        fast = await scene.program()
        await connection.execute("UPDATE public.thing SET body = 'new', version = 2 WHERE id = 1")
        await scene.holds(1, 2)
        # Else the change of the update, not yet applied, would mend what the slow one does.
        await fast.ask('caught_up {"timeout_s": 20}', "answer", WAIT_S)
    slow.send(signal.SIGCONT)
    await asyncio.wait_for(slow.gone.wait(), WAIT_S)
    found = await scene.versions()
    await fast.end()
    return found["1"] == 2


async def without_fence(scene: Scene) -> bool:
    """A relay has read a page, is paused, and publishes when another leads."""
    first = await scene.program()
    await scene.settled(first)
    async with scene.connection() as connection:
        await first.ask('arm {"step": "relay.read", "by": "SIGSTOP"}', "answer", WAIT_S)
        await connection.execute(INSERT, [2, "a", 1])
        await first.hear("blown", WAIT_S)
        second = await scene.program()
        await scene.holds(2, 1)
        first.send(signal.SIGCONT)
        await connection.execute(INSERT, [3, "a", 1])
        await scene.holds(3, 1)
    for child in (first, second):
        await child.ask('caught_up {"timeout_s": 20}', "answer", WAIT_S)
    watch = Watch()
    client = await nats.connect(scene.urls["nats"])
    try:
        js, stream = client.jetstream(), f"{scene.namespace}-changes"
        for number in range(1, (await js.stream_info(stream)).state.last_seq + 1):
            raw = await js.get_msg(stream, seq=number)
            place = place_of(Message(raw.subject or "", raw.data or b"", {}, number))
            assert place is not None
            watch.message(stream, place, gap=False)
    finally:
        await client.close()
    for child in (first, second):
        await child.end()
    return watch.inversions == 0


async def without_cursor(scene: Scene) -> bool:
    """A transaction takes its number early and commits late."""
    program = await scene.program()
    await scene.settled(program)
    async with scene.connection() as early, scene.connection() as late:
        await early.execute("BEGIN")
        await early.execute(INSERT, [1, "a", 1])
        await late.execute(INSERT, [2, "a", 1])
        await scene.holds(2, 1)
        await early.execute("COMMIT")
        await late.execute(INSERT, [3, "a", 1])
        await scene.holds(3, 1)
    await program.ask('caught_up {"timeout_s": 20}', "answer", WAIT_S)
    found = await scene.versions()
    await program.end()
    return found == {"0": 1, "1": 1, "2": 1, "3": 1}


SCENES: dict[str, Callable[[Scene], Awaitable[bool]]] = {
    "gate": without_gate,
    "fence": without_fence,
    "cursor": without_cursor,
}


@pytest.mark.parametrize("what", SCENES)
@pytest.mark.parametrize(
    "is_naive",
    [pytest.param(False, marks=pytest.mark.long, id="ours"), pytest.param(True, id="naive")],
)
async def test_what_is_naive_is_seen(
    own_settings: Settings, nursery: Nursery, what: str, is_naive: bool
) -> None:
    scene = Scene(own_settings, nursery, what if is_naive else "")
    assert await SCENES[what](scene) is not is_naive
