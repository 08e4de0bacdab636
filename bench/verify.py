"""(i) Proof and repair: a million rows of PostgreSQL against LanceDB, equal and not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, Final
from uuid import UUID

import numpy as np

from bench.documents import DIMENSIONS, Document, DocumentSearch, documents
from bench.figures import Figure
from bench.ground import Ground, Size, connect
from bench.program import ask
from bench.prover import Proven, Task
from polyplane import Plane, Settings

ROWS: Final = 1_000_000
EQUAL_S_MAX: Final = 25.0
DRIFTED_S_MAX: Final = 30.0
GOAL_S: Final = 10.0
MENDED_S_MAX: Final = 5.0
GROWTH_MIB_MAX: Final = 476.0
"""500 MB."""
FILL_TIMEOUT_S: Final = 900.0
_TEXTS: Final = 1_000


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """One filled store; each run proves, injures, proves and mends it, in a process of its own."""
    rows = size.scaled(ROWS)
    settings = await filled_home(ground, rows)
    proven = []
    for _ in range(size.runs):
        await ground.calm()
        task = asdict(Task(settings, rows))
        proven.append(Proven(**await ask("bench.prover", task, timeout_s=FILL_TIMEOUT_S)))
    equal = tuple(run.equal_s for run in proven)
    drifted = tuple(run.drifted_s for run in proven)
    mended = tuple(run.mended_s for run in proven)
    growth = tuple(run.rss_growth_mib for run in proven)
    return [
        Figure(f"{rows:,} rows verified, equal", "s", equal, EQUAL_S_MAX, GOAL_S, True),
        Figure("with 170 differences, each named", "s", drifted, DRIFTED_S_MAX, GOAL_S, True),
        Figure("mending them, and looking again", "s", mended, MENDED_S_MAX, at_most=True),
        Figure("growth of memory meanwhile", "MiB", growth, GROWTH_MIB_MAX, at_most=True),
    ]


async def filled_home(ground: Ground, rows: int) -> dict[str, Any]:
    """The settings of a plane whose store holds what follows from `rows` rows."""
    url = await ground.database()
    async with ground.plane(url, flows=False, models=[Document]):
        pass
    async with await connect(url) as connection, connection.cursor() as cursor:
        columns = "id, owner, title, body, embedding"
        async with cursor.copy(f"COPY document ({columns}) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["uuid", "text", "text", "text", "bytea"])
            for row in some_rows(rows):
                await copy.write_row(row)
        await connection.execute("ANALYZE document")
    settings = ground.settings(url)
    async with (
        Plane(models=[Document], projections=[DocumentSearch], settings=settings) as plane,
        asyncio.timeout(FILL_TIMEOUT_S),
    ):
        await plane.caught_up(timeout_s=FILL_TIMEOUT_S)
    return given(settings)


def given(settings: Settings) -> dict[str, Any]:
    """What a process of its own needs to open the same plane, secrets included."""
    urls = ("database", "nats", "cache", "objects", "vector", "series")
    given = {f"{name}_url": settings.url(f"{name}_url") for name in urls}
    return given | {"home": str(settings.home), "namespace": settings.namespace}


def some_rows(count: int) -> Iterator[tuple[UUID, str, str, str, bytes]]:
    """As `documents`, of texts that repeat, since a million different ones take their time."""
    texts = [body for _, _, _, body, _ in islice(documents(_TEXTS), _TEXTS)]
    vectors = np.random.default_rng(64).normal(size=(_TEXTS, DIMENSIONS)).astype("<f4")
    keys = np.random.default_rng(65).bytes(16 * count)
    for number in range(count):
        at = number % _TEXTS
        row = (f"owner {number % 100}", f"title {number}", texts[at], vectors[at].tobytes())
        yield UUID(bytes=keys[16 * number : 16 * number + 16]), *row
