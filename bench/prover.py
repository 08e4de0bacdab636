"""The process of measurement (i): a plane of its own on stores that are filled, which proves them.

It reads one JSON object, `Task`, from standard input and writes one, `Proven`, to standard output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Final

import lancedb
import structlog

from bench.documents import Document, DocumentSearch
from bench.memory import watched
from polyplane import Plane, Settings
from polyplane.model.drift import Drift

MISSING: Final = 50
STALE: Final = 100
EXTRA: Final = 20


@dataclass(frozen=True, slots=True)
class Task:
    """The settings of the plane, and how many rows it has."""

    settings: dict[str, Any]
    rows: int


@dataclass(frozen=True, slots=True)
class Proven:
    """Seconds to verify when equal, and when not; seconds more to mend; growth of memory."""

    equal_s: float
    drifted_s: float
    mended_s: float
    rss_growth_mib: float


async def prove(task: Task) -> Proven:
    """Verify, injure the store past the plane, verify, mend."""
    settings = Settings.load(environ={}, **task.settings)
    async with Plane(models=[Document], projections=[DocumentSearch], settings=settings) as plane:
        await plane.caught_up()
        with watched() as growth:
            equal_s, drift = await _verified(plane)
            assert drift.clean and drift.parts[0].items == task.rows, drift
            injured = await _injure(plane)
            drifted_s, drift = await _verified(plane)
            part = drift.parts[0]
            assert (part.missing, part.stale, part.extra) == injured, drift
            started = perf_counter()
            mended = await plane.repair()
            mended_s = perf_counter() - started - mended.found.parts[0].duration_s
            assert mended.found.parts[0].drifting == part.drifting
            assert mended.left.clean, mended
        assert (await plane.verify()).clean
    return Proven(equal_s, drifted_s, mended_s, max(growth))


async def _verified(plane: Plane) -> tuple[float, Drift]:
    started = perf_counter()
    drift = await plane.verify()
    return perf_counter() - started, drift


async def _injure(plane: Plane) -> tuple[tuple[str, ...], ...]:
    """Take items out, alter some, add some, past the plane; the keys of each kind."""
    url = str(plane.settings.url("vector_url"))
    table = await (await lancedb.connect_async(url.removeprefix("lancedb://"))).open_table(
        plane.opened.targets[DocumentSearch.name].collection.target
    )
    some = await table.query().select(["key"]).to_arrow()
    keys = some["key"].to_pylist()
    step = len(keys) // (MISSING + STALE + 1)
    chosen = keys[::step]
    gone, altered = sorted(chosen[:MISSING]), sorted(chosen[MISSING : MISSING + STALE])
    listed = ", ".join(f"'{key}'" for key in gone)
    like = await table.query().where(f"key IN ({listed})").limit(EXTRA).to_arrow()
    await table.delete(f"key IN ({listed})")
    listed = ", ".join(f"'{key}'" for key in altered)
    await table.update({"digest": "f" * 32}, where=f"key IN ({listed})")
    extra = sorted(f"extra {n}" for n in range(EXTRA))
    await table.add([row | {"key": k} for row, k in zip(like.to_pylist(), extra, strict=True)])
    return tuple(gone), tuple(altered), tuple(extra)


def main() -> None:
    """Read the task, do it, say what was measured."""
    logging.disable(logging.INFO)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    json.dump(asdict(asyncio.run(prove(Task(**json.load(sys.stdin))))), sys.stdout)


if __name__ == "__main__":
    main()
