"""A home with a little of everything in it, to be copied and damaged: at rest, and older, too."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nats
import psycopg

from polyplane.stores.disk import sync
from tests.crash.children import Child
from tests.crash.declared import NAMESPACE
from tests.crash.loop import users_of
from tests.crash.nursery import Nursery
from tests.crash.objects import BUCKET, content_of
from tests.flow.embedded_s3 import client_of

ENGINES: Final = ("postgres", "nats", "valkey", "seaweedfs")
ROWS: Final = 400
POINTS: Final = 200
MESSAGES: Final = 10
OBJECTS: Final = 12
QUIET_S: Final = 4.0
"""After so long what is durable is noted, too."""
WAIT_S: Final = 60.0

PUT: Final = """
INSERT INTO public.thing (id, body, version)
SELECT n, n || ' ' || %(v)s, %(v)s FROM generate_series(%(a)s::bigint, %(b)s::bigint) n
ON CONFLICT (id) DO UPDATE SET body = excluded.body, version = excluded.version
"""


@dataclass(frozen=True)
class Homes:
    """Copies of one home: as it was half-way, as it is at rest, and killed at the same state."""

    older: Path
    clean: Path
    killed: Path
    heap: str
    index: str
    """Where PostgreSQL keeps the table and its key, below its data directory."""


class Stage:
    """One folder in which a home always has the same place, so that copies of it work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.nursery = Nursery(folder)
        self._number = 0

    async def program(self) -> Child:
        """A plane on the home, which may not have opened yet."""
        self._number += 1
        child = await self.nursery.bear()
        order = {"home": str(self.home), "notes": str(self.folder), "engines": ENGINES}
        child.say(json.dumps({**order, "number": self._number}))
        return child

    async def opened(self) -> tuple[Child, dict[str, str]]:
        """A plane that is open; its URLs."""
        child = await self.program()
        told = await child.hear("open", WAIT_S)
        return child, told["admins"]

    def kill(self, child: Child) -> None:
        """kill -9 of a plane and of all its engines."""
        users = users_of(self.home)
        for process in users:
            process.send_signal(signal.SIGSTOP)
        child.send(signal.SIGKILL)
        for process in users:
            process.kill()
        for process in users:
            process.wait(10)

    def end(self) -> None:
        """Leave nobody behind."""
        for process in users_of(self.home):
            process.kill()

    def copy(self, to: Path) -> Path:
        """A copy of the home, times and owners included."""
        _copy(self.home, to)
        return to

    def put_back(self, copy: Path) -> None:
        """The copy in the place of the home."""
        shutil.rmtree(self.home, ignore_errors=True)
        _copy(copy, self.home)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True, timeout=120)


async def golden(stage: Stage) -> Homes:
    """Make the homes."""
    child, urls = await stage.opened()
    await _write(child, urls, 1)
    await child.end()
    older = stage.copy(stage.folder / "older")
    child, urls = await stage.opened()
    await _write(child, urls, 2)
    heap, index = await _paths(urls["postgres"])
    await child.end()
    clean = stage.copy(stage.folder / "clean")
    child, urls = await stage.opened()
    await _rows(urls["postgres"], 3)
    await _caught_up(child)
    await asyncio.sleep(QUIET_S)
    sync(stage.home)
    stage.kill(child)
    killed = stage.copy(stage.folder / "killed")
    return Homes(older, clean, killed, heap, index)


async def at_rest(stage: Stage) -> Homes:
    """Only the home at rest, for a few quick looks."""
    child, urls = await stage.opened()
    await _write(child, urls, 1)
    await _write(child, urls, 2)
    heap, index = await _paths(urls["postgres"])
    await child.end()
    clean = stage.copy(stage.folder / "clean")
    return Homes(clean, clean, clean, heap, index)


async def _write(child: Child, urls: dict[str, str], version: int) -> None:
    await _rows(urls["postgres"], version)
    await _points(urls["nats"], (version - 1) * MESSAGES)
    await _caught_up(child)
    await asyncio.to_thread(_objects, urls["s3"], (version - 1) * OBJECTS)
    sync(Path("/"))


async def _caught_up(child: Child) -> None:
    found: dict[str, Any] = await child.ask('caught_up {"timeout_s": 30}', "answer", WAIT_S)
    assert found == {"caught_up": True}, found


async def _rows(url: str, version: int) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for first in range(0, ROWS, 50):
            last = first + (49 if version < 3 else 4)
            await connection.execute(PUT, {"v": version, "a": first + 10, "b": last + 10})


async def _paths(url: str) -> tuple[str, str]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("ANALYZE public.thing")
        cursor = await connection.execute(
            "SELECT pg_relation_filepath(indrelid), pg_relation_filepath(indexrelid)"
            " FROM pg_index WHERE indrelid = 'public.thing'::regclass AND indisprimary"
        )
        row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1]


def expected(killed: bool) -> dict[str, tuple[str, int]]:
    """Key -> (body, version) of a copy at rest, or of the killed one."""
    newest = (
        {n for first in range(0, ROWS, 50) for n in range(first, first + 5)} if killed else set()
    )
    versions = {n + 10: 3 if n in newest else 2 for n in range(ROWS)}
    return {str(key): (f"{key} {version}", version) for key, version in versions.items()}


async def _points(url: str, first: int) -> None:
    client = await nats.connect(url)
    js = client.jetstream()
    for number in range(first, first + MESSAGES):
        ns = list(range(number * POINTS, (number + 1) * POINTS))
        times = [f"2026-01-01T00:00:{n % 60:02}.{n:06}Z" for n in ns]
        columns = {"time": times, "sensor": ["s"] * POINTS, "n": ns}
        headers = {"Nats-Msg-Id": f"golden {number}"}
        await js.publish(f"{NAMESPACE}.streams.heat", json.dumps(columns).encode(), headers=headers)
    await client.close()


def _objects(url: str, first: int) -> None:
    client = client_of(url)
    if first == 0:
        client.create_bucket(Bucket=BUCKET)
    for number in range(first, first + OBJECTS):
        client.put_object(Bucket=BUCKET, Key=f"o{number}", Body=content_of(number))
