"""The eyes of measurement (e): a process of its own that changes rows and looks for them.

It reads one JSON object, `Task`, from standard input and writes one, `Seen`, to standard output.
It knows nothing of the plane: rows are changed with psycopg and looked for with lancedb.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Final
from uuid import UUID

import lancedb
import numpy as np
import psycopg
import pyarrow as pa

from polyplane.stores.disk import sync

PAUSE_S: Final = (0.04, 0.08)
"""Between two changes, at random: 10 to 20 changes a second."""
LOOK_S: Final = 0.001
PATIENCE_S: Final = 10.0

Connection = psycopg.AsyncConnection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Task:
    """Where the rows are and how many changes to make; `raw_*` is the table written by hand."""

    database_url: str
    rows: int
    folder: str
    table: str
    changes: int
    raw_folder: str
    raw_table: str
    raw_changes: int


@dataclass(frozen=True, slots=True)
class Seen:
    """Milliseconds from the commit's return to the first read that found the change, of each."""

    ours_ms: list[float]
    raw_ms: list[float]


async def observe(task: Task) -> Seen:
    """Make the changes one after the other; TimeoutError when one is not found."""
    dice = random.Random(task.rows)
    async with await psycopg.AsyncConnection.connect(task.database_url, autocommit=True) as truth:
        table = await _open(task.folder, task.table)
        ours = []
        for number in range(task.changes):
            await asyncio.sleep(dice.uniform(*PAUSE_S))
            key = UUID(int=dice.randrange(task.rows) + 1)
            body = await _change(truth, key, number)
            committed = perf_counter()
            await _found(table, key, body)
            ours.append((perf_counter() - committed) * 1000)
        table = await _open(task.raw_folder, task.raw_table)
        raw = []
        for number in range(task.raw_changes):
            await asyncio.sleep(dice.uniform(*PAUSE_S))
            key = UUID(int=dice.randrange(task.rows) + 1)
            body = await _change(truth, key, number)
            committed = perf_counter()
            await _write_by_hand(truth, table, task.raw_folder, key)
            await _found(table, key, body)
            raw.append((perf_counter() - committed) * 1000)
    return Seen(ours, raw)


async def _open(folder: str, name: str) -> lancedb.AsyncTable:
    database = await lancedb.connect_async(folder, read_consistency_interval=timedelta(0))
    return await database.open_table(name)


async def _change(truth: Connection, key: UUID, number: int) -> str:
    """Give the row another body of the same length; the body."""
    query = (
        "UPDATE document SET body = overlay(body placing %s from 1) WHERE id = %s RETURNING body"
    )
    cursor = await truth.execute(query, [f"{number:06} {random.random():.12f}", key])
    row = await cursor.fetchone()
    assert row is not None
    return str(row[0])


async def _found(table: lancedb.AsyncTable, key: UUID, body: str) -> None:
    """Return when a fresh read by key shows `body`."""
    query = table.query().where(f"key = '{key}'").select(["text"])
    async with asyncio.timeout(PATIENCE_S):
        while [row["text"] for row in await query.to_list()] != [body]:
            await asyncio.sleep(LOOK_S)


async def _write_by_hand(
    truth: Connection, table: lancedb.AsyncTable, folder: str, key: UUID
) -> None:
    """The second write of a dual write: the row, by its key, durably."""
    query = "SELECT id::text, owner, title, body, embedding FROM document WHERE id = %s"
    cursor = await truth.execute(query, [key], binary=True)
    row = await cursor.fetchone()
    assert row is not None
    *plain, vector = row
    values = [*plain, np.frombuffer(vector, "<f4").tolist()]
    schema = await table.schema()
    columns = [pa.array([v], f.type) for v, f in zip(values, schema, strict=True)]
    batch = pa.record_batch(columns, schema=schema)
    await table.merge_insert("key").when_matched_update_all().execute(batch)
    await asyncio.to_thread(sync, Path(folder))


def main() -> None:
    """Read the task, do it, say what was seen."""
    task = Task(**json.load(sys.stdin))
    json.dump(asdict(asyncio.run(observe(task))), sys.stdout)


if __name__ == "__main__":
    main()
