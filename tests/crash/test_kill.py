"""kill -9 of the whole process, again and again, under load; then: is anything lost or invented?

The writers live in this process and write to the engines themselves, which outlive their owner.
They keep a journal of their own: what they were about to do, and what was acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import nats
import nats.errors
import psutil
import psycopg
import pytest

from tests.crash.program import Heat

KILLS = ("at work", "starting", "at work", "starting", "starting")
READY_S = 60.0
VERIFY_S = 60.0


class Journal:
    """One line per intention and per acknowledgement, synced before the writer goes on."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def note(self, **entry: Any) -> None:
        """Write it down, durably."""
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def entries(self) -> list[dict[str, Any]]:
        """All of it, as a reader after a crash finds it."""
        return [json.loads(line) for line in Path(self._file.name).read_text().splitlines()]


@pytest.fixture
def home() -> Any:
    """Not below pytest's own folder, which other users may not enter; PostgreSQL runs as one."""
    path = Path(mkdtemp(prefix="polyplane-crash-"))
    yield path
    for process in of_home(path):  # nothing is left when a test passes
        process.kill()
    rmtree(path, ignore_errors=True)


def of_home(home: Path) -> list[psutil.Process]:
    """Every process that works for this home."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.pid != os.getpid() and str(home) in " ".join(process.info["cmdline"] or ())
    ]


async def start(home: Path) -> Process:
    """The program; it says where its engines are once it is open."""
    with (home / "program.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.crash.program", home, stdin=PIPE, stdout=PIPE, stderr=log
        )


async def hear(process: Process, home: Path, timeout_s: float) -> dict[str, Any]:
    """The next line of JSON it says; with its log when there is none."""
    assert process.stdout is not None
    async with asyncio.timeout(timeout_s):
        while line := await process.stdout.readline():
            if line.startswith(b"{"):
                found: dict[str, Any] = json.loads(line)
                return found
    raise AssertionError((home / "program.log").read_text()[-4000:])


async def ask(process: Process, home: Path, question: str) -> dict[str, Any]:
    """Its answer."""
    assert process.stdin is not None
    process.stdin.write(f"{question}\n".encode())
    return await hear(process, home, VERIFY_S)


async def write_rows(url: str, journal: Journal, writer: int, seed: int) -> None:
    """Inserts, updates, deletes and re-inserts of the writer's own keys, until it is cancelled."""
    chance = random.Random(seed)
    turn = 0
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                while True:
                    turn += 1
                    key = writer * 1_000 + chance.randrange(40)
                    body = None if chance.random() < 0.25 else f"{writer} {turn}"
                    journal.note(key=key, body=body, ok=False)
                    if body is None:
                        await connection.execute("DELETE FROM public.thing WHERE id = %s", [key])
                    else:
                        await connection.execute(
                            "INSERT INTO public.thing VALUES (%s, %s)"
                            " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                            [key, body],
                        )
                    journal.note(key=key, body=body, ok=True)
                    await asyncio.sleep(chance.random() * 0.01)
        except psycopg.OperationalError:
            await asyncio.sleep(0.05)  # its engine is being restarted


async def publish_points(url: str, namespace: str, journal: Journal) -> None:
    """Batches of points; each is sent until it is acknowledged."""
    n = 0
    client = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=1)
    try:
        while True:
            numbers = list(range(n, n + 20))
            times = [f"2026-01-01T00:00:00.{number % 1_000_000:06}Z" for number in numbers]
            columns = {"time": times, "sensor": ["s"] * 20, "n": numbers}
            subject, body = f"{namespace}.streams.{Heat.name}", json.dumps(columns).encode()
            headers = {"Nats-Msg-Id": f"batch {n}"}
            try:
                await client.jetstream().publish(subject, body, headers=headers, timeout=2)
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.05)
                continue
            n += 20
            journal.note(points=n)
            await asyncio.sleep(0.01)
    finally:
        await client.close()


@asynccontextmanager
async def load(told: dict[str, Any], journal: Journal, seed: int) -> AsyncIterator[None]:
    """Three writers of rows and one of points work until the block ends."""
    postgres, feed = told["urls"]["postgres"], told["urls"]["nats"]
    work = [write_rows(postgres, journal, n, seed + n) for n in range(3)]
    tasks = [asyncio.create_task(it) for it in work]
    tasks.append(asyncio.create_task(publish_points(feed, told["namespace"], journal)))
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        while tasks:
            for task in tasks:
                task.cancel()
            _, still = await asyncio.wait(tasks, timeout=3)
            tasks = list(still)


def check_truth(entries: list[dict[str, Any]], rows: dict[int, str]) -> None:
    """Each key is as it was last acknowledged, or as somebody was about to make it since."""
    may_be: dict[int, set[str | None]] = {}
    for entry in entries:
        if "key" in entry and entry["ok"]:
            may_be[entry["key"]] = {entry["body"]}
        elif "key" in entry:
            may_be.setdefault(entry["key"], {None}).add(entry["body"])
    assert {key for key, found in may_be.items() if rows.get(key) not in found} == set()
    assert set(rows) <= set(may_be)


async def test_nothing_is_lost_or_invented_by_killing_the_process(home: Path) -> None:
    """At work and while it starts, at random moments."""
    seed = int(os.environ.get("CRASH_SEED", random.randrange(1 << 30)))
    print(f"CRASH_SEED={seed}")
    chance = random.Random(seed)
    journal = Journal(home / "writers.jsonl")
    process = await start(home)
    told = await hear(process, home, READY_S)
    async with load(told, journal, seed):
        for moment in KILLS:
            if moment == "starting":
                process = await start(home)
                await asyncio.sleep(chance.uniform(0.5, 4))
            elif process.returncode is not None:
                process = await start(home)
                assert (await hear(process, home, READY_S))["urls"] == told["urls"]
            await asyncio.sleep(chance.uniform(0, 1.5))
            process.kill()
            await process.wait()
        process = await start(home)
        assert (await hear(process, home, READY_S))["urls"] == told["urls"]
    found = await ask(process, home, "verify")
    entries = journal.entries()
    async with await psycopg.AsyncConnection.connect(told["urls"]["postgres"]) as connection:
        cursor = await connection.execute("SELECT id, body FROM public.thing")
        rows: dict[int, str] = dict(await cursor.fetchall())
    check_truth(entries, rows)
    assert found["drift"] == [0, 0, 0]
    assert found["items"] == len(rows) > 20
    points = max(entry["points"] for entry in entries if "points" in entry)
    assert points <= found["points"] <= points + 20  # one batch may be stored, unacknowledged
    assert found["different"] == found["points"]
    assert sum(entry.get("ok", False) for entry in entries) > 200
    assert process.stdin is not None
    process.stdin.write(b"stop\n")
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert of_home(home) == []
