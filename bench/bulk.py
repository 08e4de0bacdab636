"""(b) One statement that inserts 100,000 rows, with capture and without."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Final

from bench.documents import Note, NoteCache, Plain
from bench.figures import Figure, rates, ratio
from bench.ground import Connection, Ground, Size, connect

ROWS: Final = 100_000
BODY: Final = "the kettle is broken and so on, " * 3 + "done"
REQUIRED: Final = 0.75


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Both tables in turn, each emptied before."""
    rows = size.scaled(ROWS)
    url = await ground.database()
    seconds: dict[str, list[float]] = {"plain": [], "note": []}
    plane = ground.plane(url, flows=False, models=[Plain, Note], projections=[NoteCache])
    async with plane, await connect(url) as connection:
        for turn in range(size.runs + 1):
            for table in sorted(seconds, reverse=bool(turn % 2)):
                await connection.execute(f"TRUNCATE {table}".encode())
                await ground.calm()
                insert = (
                    f"INSERT INTO {table} (owner, body)"
                    f" SELECT 'owner ' || n % 100, '{BODY}' FROM generate_series(1, {rows}) n"
                )
                before = await _captured(connection)
                started = perf_counter()
                await connection.execute(insert.encode())
                took = perf_counter() - started
                expected = rows if table == "note" else 0
                assert await _captured(connection) - before == expected
                if turn:  # the first of each warms up
                    seconds[table].append(took)
    raw = rates("rows without capture", "rows/s", rows, seconds["plain"])
    ours = rates("rows with capture", "rows/s", rows, seconds["note"])
    return [raw, ours, ratio("with / without capture", ours, raw, required=REQUIRED)]


async def _captured(connection: Connection) -> int:
    """How many keys of inserts the outbox holds."""
    count = b"SELECT coalesce(sum(cardinality(keys)), 0) FROM polyplane.outbox WHERE op = 'I'"
    row = await (await connection.execute(count)).fetchone()
    assert row is not None
    return int(row[0])
