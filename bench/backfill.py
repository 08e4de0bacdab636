"""(d) Filling a vector store: 100,000 rows of PostgreSQL with their vectors into LanceDB."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import lancedb
import numpy as np
import pyarrow as pa

from bench.documents import DIMENSIONS, Document, DocumentSearch, filled_database, name_of
from bench.figures import Figure, rates, ratio
from bench.ground import Ground, Size, connect
from polyplane import Plane
from polyplane.stores.disk import sync

ROWS: Final = 100_000
BATCH_ROWS: Final = 10_000
REQUIRED: Final = 9_000
GOAL: Final = 30_000

_SCHEMA: Final = pa.schema(
    [
        ("key", pa.string()),
        ("owner", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("vector", pa.list_(pa.float32(), DIMENSIONS)),
    ]
)


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """A new plane on a copy of the same database, and a loop written by hand, in turn."""
    rows = size.scaled(ROWS)
    template = await filled_database(ground, rows)
    ours, proofs, raw = [], [], []
    for turn in range(size.runs):
        url = await ground.database(name_of(template))
        await ground.calm()
        async with ground.plane(url, models=[Document], projections=[DocumentSearch]) as plane:
            ours.append(await _filled(plane))
            started = perf_counter()
            drift = await plane.verify()
            proofs.append(perf_counter() - started)
            part = drift.parts[0]
            assert drift.clean and part.rows == part.items == rows, part
        await ground.calm()
        raw.append(await _by_hand(url, ground.folder / f"byhand{turn}", rows))
    filled = rates("rows filled", "rows/s", rows, ours, required=REQUIRED, goal=GOAL)
    by_hand = rates("rows, by hand", "rows/s", rows, raw)
    verified = rates("rows verified", "rows/s", rows, proofs)
    sums = [a + b for a, b in zip(ours, proofs, strict=True)]
    both = rates("rows filled and verified", "rows/s", rows, sums)
    return [filled, by_hand, ratio("filled / by hand", filled, by_hand), verified, both]


async def _filled(plane: Plane) -> float:
    """Seconds from now, when the plane has just been opened, until the collection is filled."""
    started = perf_counter()
    async with asyncio.timeout(600):
        while not any(row.filled for row in await plane.opened.journal.collections.rows()):
            await asyncio.sleep(0.02)
    return perf_counter() - started


async def _by_hand(url: str, folder: Path, rows: int) -> float:
    """Seconds of `fill_by_hand`."""
    started = perf_counter()
    table = await fill_by_hand(url, folder)
    took = perf_counter() - started
    assert await table.count_rows() == rows
    return took


async def fill_by_hand(url: str, folder: Path) -> lancedb.AsyncTable:
    """Append every row to a new table `document`, and the index of keys, durably.

    No digests, no positions, no gate: a loop as short as it gets.
    """
    database = await lancedb.connect_async(str(folder))
    table = await database.create_table("document", schema=_SCHEMA)
    async with (
        await connect(url) as connection,
        connection.transaction(),
        connection.cursor("rows", binary=True) as cursor,
    ):
        await cursor.execute("SELECT id::text, owner, title, body, embedding FROM document")
        while batch := await cursor.fetchmany(BATCH_ROWS):
            *columns, vectors = zip(*batch, strict=True)
            flat = np.frombuffer(b"".join(vectors), "<f4")
            arrays = [pa.array(column) for column in columns]
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), DIMENSIONS))
            await table.add(pa.record_batch(arrays, schema=_SCHEMA))
    await table.create_index("key")
    await asyncio.to_thread(sync, folder)
    return table
