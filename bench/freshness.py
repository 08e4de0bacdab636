"""(e) One row of 100,000 is changed: how soon a fresh read of LanceDB shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from bench.backfill import fill_by_hand
from bench.documents import Document, DocumentSearch, filled_database
from bench.figures import Figure, percentile, ratio
from bench.ground import Ground, Size
from bench.observer import Seen, Task
from bench.program import ask

ROWS: Final = 100_000
CHANGES: Final = 200
RAW_CHANGES: Final = 50
P50_MS_MAX: Final = 50.0
P99_MS_MAX: Final = 250.0
OBSERVER_TIMEOUT_S: Final = 300.0


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """A process of its own changes rows past the plane, and reads LanceDB past the plane."""
    rows, changes = size.scaled(ROWS), 20 if size.quick else CHANGES
    url = await filled_database(ground, rows)
    seen: list[Seen] = []
    async with ground.plane(url, models=[Document], projections=[DocumentSearch]) as plane:
        await plane.caught_up(timeout_s=120)
        raw_folder = ground.folder / "byhand"
        await fill_by_hand(url, raw_folder)
        task = Task(
            database_url=url,
            rows=rows,
            folder=(plane.settings.url("vector_url") or "").removeprefix("lancedb://"),
            table=plane.opened.targets[DocumentSearch.name].collection.target,
            changes=changes,
            raw_folder=str(raw_folder),
            raw_table="document",
            raw_changes=min(changes, RAW_CHANGES),
        )
        for _ in range(size.runs):
            await ground.calm()
            found = await ask("bench.observer", asdict(task), timeout_s=OBSERVER_TIMEOUT_S)
            seen.append(Seen(**found))
        drift = await plane.verify()
        assert drift.clean and drift.parts[0].items == rows, drift
    middle = _figure("p50", [run.ours_ms for run in seen], 0.5, P50_MS_MAX)
    late = _figure("p99", [run.ours_ms for run in seen], 0.99, P99_MS_MAX)
    raw = _figure("p50 by hand", [run.raw_ms for run in seen], 0.5, None)
    return [middle, late, raw, ratio("p50: by hand / ours", raw, middle)]


def _figure(name: str, runs: list[list[float]], share: float, most: float | None) -> Figure:
    values = tuple(percentile(run, share) for run in runs)
    return Figure(name, "ms", values, most, at_most=True)
