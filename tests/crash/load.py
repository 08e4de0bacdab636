"""The writers behind the plane's back, in a process of their own that nobody kills.

`python -m tests.crash.load NOTES SEED WRITERS [synced]` keeps its journals in NOTES (`synced`: on
the disk before it goes on). It is told the URLs of PostgreSQL and NATS (and of S3, to put objects,
too), past every proxy, as one line of JSON on its input; then a line for each command:
`rows on|off`, `points on|off`, `objects on|off`, `stop`. It answers when it is so.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import nats
import nats.errors
import psycopg

from tests.crash.declared import AREA, BULK, COUNTERS, NAMESPACE
from tests.crash.ground import heard
from tests.crash.journal import Journal, Write
from tests.crash.objects import put_objects
from tests.crash.points import tell

CALL_S = 4.0
"""A writer waits no longer for an answer: its server may stand still."""
BATCH_POINTS = 20

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

UPSERT = """
INSERT INTO public.thing (id, body, version)
SELECT n, CASE WHEN %(v)s %% 7 = 0 THEN '' ELSE n || ' ' || %(v)s END, %(v)s
FROM generate_series(%(a)s::bigint, %(b)s::bigint) n
ON CONFLICT (id) DO UPDATE SET body = excluded.body, version = excluded.version
"""
DELETE = "DELETE FROM public.thing WHERE id BETWEEN %(a)s AND %(b)s"
COUNT = "UPDATE public.thing SET version = version + 1 WHERE id = %s"
FOUND = "INSERT INTO public.thing VALUES (%s, 'counter', 0) ON CONFLICT DO NOTHING"
MYSELF = "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()"
END = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = %s AND backend_start::text = %s
"""


class Gate:
    """Open while workers may work; who closes it waits until all have come to rest."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._waiting = 0
        self._open = asyncio.Event()
        self._still = asyncio.Event()

    async def passing(self) -> None:
        """A worker between two pieces of work."""
        if not self._open.is_set():
            self._waiting += 1
            if self._waiting == self._workers:
                self._still.set()
            await self._open.wait()
            self._waiting -= 1

    async def turn(self, on: bool) -> None:
        """Open; or close, and wait until nobody works."""
        if on:
            self._still.clear()
            self._open.set()
        elif self._open.is_set():
            self._open.clear()
            await self._still.wait()


class Writer:
    """One writer: transactions one after the other, over the rows of its own area."""

    def __init__(self, number: int, notes: Path, seed: int, gate: Gate, synced: bool) -> None:
        self._area = number * AREA
        self._journal = Journal(notes / f"writer-{number}.jsonl", synced=synced)
        self._chance = random.Random(seed)
        self._gate = gate
        self._version = 0
        self._last = (0, "")

    async def run(self, url: str) -> None:
        """Until cancelled. A transaction whose end is unknown is over before the next begins."""
        while True:
            try:
                async with self._connected(url) as connection:
                    while True:
                        await self._gate.passing()
                        await self._turn(connection)
                        await asyncio.sleep(self._chance.random() * 0.05)
            except (psycopg.OperationalError, TimeoutError):
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def _connected(self, url: str) -> AsyncIterator[Connection]:
        async with asyncio.timeout(CALL_S):
            connection = await psycopg.AsyncConnection.connect(
                url, autocommit=True, connect_timeout=2
            )
        try:
            async with asyncio.timeout(CALL_S):
                while (await (await connection.execute(END, self._last)).fetchone()) is not None:
                    await asyncio.sleep(0.05)
                row = await (await connection.execute(MYSELF)).fetchone()
                assert row is not None
                self._last = (row[0], row[1])
                for key in range(COUNTERS):
                    await connection.execute(FOUND, [key])
            yield connection
        finally:
            connection.pgconn.finish()  # no farewell: the server may stand still

    def _plan(self) -> tuple[list[Write], list[int]]:
        """What the next transaction writes, in its order, and which counters it counts up."""
        chance, writes = self._chance, list[Write]()
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            self._version += 1
            key = self._area + chance.randrange(60)
            writes.append((key, key, None if chance.random() < 0.3 else self._version))
        if chance.random() < 0.015:
            first = self._area + BULK + chance.randrange(500)
            last = first + chance.randrange(500, 2_500)
            writes.append((first, last, None if chance.random() < 0.3 else self._version))
        counts = [chance.randrange(COUNTERS)] if chance.random() < 0.3 else []
        return writes, counts

    async def _turn(self, connection: Connection) -> None:
        chance = self._chance
        writes, counts = self._plan()
        alone = len(writes) == 1 and not counts and chance.random() < 0.7
        gives_up = not alone and chance.random() < 0.15
        pause_s = chance.random() * 2 if not alone and chance.random() < 0.04 else 0.0
        # One transaction makes a deletion and a re-insertion of a key, now and then.
        self._version += 1
        tx = self._version
        self._journal.begun(tx, writes, counts)
        how = "unknown" if alone else "no"
        try:
            async with asyncio.timeout(CALL_S + pause_s):
                if alone:
                    await self._write(connection, writes[0])
                else:
                    await connection.execute("BEGIN")
                    for write in writes:
                        await self._write(connection, write)
                    for key in counts:
                        await connection.execute(COUNT, [key])
                    await asyncio.sleep(pause_s)
                    if not gives_up:
                        how = "unknown"
                    await connection.execute("ROLLBACK" if gives_up else "COMMIT")
                how = "no" if gives_up else "ok"
        finally:
            self._journal.ended(tx, how)

    async def _write(self, connection: Connection, write: Write) -> None:
        first, last, version = write
        if version is None:
            await connection.execute(DELETE, {"a": first, "b": last})
        else:
            await connection.execute(UPSERT, {"a": first, "b": last, "v": version})


async def publish(url: str, namespace: str, journal: Journal, gate: Gate) -> None:
    """Batches of points; each is sent until it is acknowledged."""
    n = 0
    client = await nats.connect(
        url, max_reconnect_attempts=-1, reconnect_time_wait=0.2, error_cb=heard
    )
    try:
        while True:
            await gate.passing()
            numbers = list(range(n, n + BATCH_POINTS))
            times = [f"2026-01-01T00:{i // 60_000_000 % 60:02}:00.{i % 10**6:06}Z" for i in numbers]
            columns = {"time": times, "sensor": ["s"] * BATCH_POINTS, "n": numbers}
            body, headers = json.dumps(columns).encode(), {"Nats-Msg-Id": f"batch {n}"}
            try:
                await client.jetstream().publish(
                    f"{namespace}.streams.heat", body, headers=headers, timeout=2
                )
            except (nats.errors.Error, TimeoutError, OSError):
                await asyncio.sleep(0.1)
                continue
            n += BATCH_POINTS
            journal.note(points=n)
            await asyncio.sleep(0.05)
    finally:
        with suppress(nats.errors.Error, TimeoutError, OSError):
            await client.close()


async def main(notes: Path, seed: int, writers: int, synced: bool) -> None:
    """Work and rest as told."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    urls = json.loads(await reader.readline())
    gates = {"rows": Gate(writers), "points": Gate(1), "objects": Gate(1)}
    journal = Journal(notes / "points.jsonl", synced=synced)
    work = [
        Writer(number, notes, seed + number, gates["rows"], synced).run(urls["postgres"])
        for number in range(1, writers + 1)
    ]
    namespace = urls.get("namespace", NAMESPACE)
    work.append(publish(urls["nats"], namespace, journal, gates["points"]))
    if "s3" in urls:
        put = Journal(notes / "objects.jsonl", synced=synced)
        work.append(put_objects(urls["s3"], Path(urls["home"]), put, gates["objects"].passing))
    tasks = [asyncio.create_task(it) for it in work]
    while (line := (await reader.readline()).decode().strip()) not in ("", "stop"):
        number, which, how = line.split()
        turned = asyncio.create_task(gates[which].turn(how == "on"))
        await asyncio.wait([turned, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        await turned
        tell(done=which, to=int(number))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=10)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), "synced" in sys.argv))
