"""(m) A million changes that nobody has applied yet: how fast they are drained, in what memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Final

from bench.documents import Document, DocumentSearch
from bench.drainer import Drained, Task
from bench.figures import Figure, rates
from bench.ground import Ground, Size, connect
from bench.program import ask
from bench.verify import given, some_rows

ROWS: Final = 1_000_000
ROWS_EACH: Final = 100
"""Rows of one transaction: few, so that there are many changes and not a few large ones."""
RATE: Final = 20_000.0
GROWTH_MIB_MAX: Final = 476.0
"""500 MB."""
TIMEOUT_S: Final = 900.0


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Written while nothing moves; then a process of its own opens the plane and drains it."""
    rows = size.scaled(ROWS)
    drained = []
    for _ in range(size.runs):
        url = await ground.database()
        declared = {"models": [Document], "projections": [DocumentSearch]}
        async with ground.plane(url, **declared) as plane:
            await plane.caught_up()
            settings = given(plane.settings)
            await plane.close()  # its streams and its home stay until the block ends
            await _write(url, rows)
            await ground.calm()
            task = asdict(Task(settings, rows))
            drained.append(Drained(**await ask("bench.drainer", task, timeout_s=TIMEOUT_S)))
    took = [run.seconds for run in drained]
    growth = tuple(run.rss_growth_mib for run in drained)
    return [
        rates(f"{rows:,} waiting changes drained", "rows/s", rows, took, required=RATE),
        Figure("growth of memory meanwhile", "MiB", growth, GROWTH_MIB_MAX, at_most=True),
    ]


async def _write(url: str, count: int) -> None:
    async with await connect(url) as connection, connection.cursor() as cursor:
        columns = "id, owner, title, body, embedding"
        rows = some_rows(count)
        while some := list(islice(rows, ROWS_EACH)):
            async with cursor.copy(f"COPY document ({columns}) FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["uuid", "text", "text", "text", "bytea"])
                for row in some:
                    await copy.write_row(row)
