"""`python -m bench [names] [--runs N] [--quick]`: measure, print, and write bench/results/*.json.

Time never fails a measurement; what it measures must be right, and exits 1 when it is not. What
needs a program that is not here is skipped, and says so.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from bench import (
    audit,
    backfill,
    barrier,
    blobs,
    bulk,
    commits,
    contended,
    freshness,
    graph,
    http,
    http_auth,
    idle,
    ingest,
    learn,
    limits,
    live,
    machine,
    overload,
    poison,
    quality,
    rebuild,
    relay,
    request_cache,
    request_races,
    rls,
    sagas,
    search,
    telemetry,
    transform,
    verify,
    waiting,
    workers,
)
from bench.figures import Figure
from bench.ground import Ground, Size, Skipped, ground

MEASUREMENTS: Final[dict[str, Callable[[Ground, Size], Awaitable[Sequence[Figure]]]]] = {
    "commits": commits.measure,
    "bulk": bulk.measure,
    "contended": contended.measure,
    "relay": relay.measure,
    "backfill": backfill.measure,
    "barrier": barrier.measure,
    "freshness": freshness.measure,
    "telemetry": telemetry.measure,
    "http": http.measure,
    "http_auth": http_auth.measure,
    "idle": idle.measure,
    "ingest": ingest.measure,
    "learn": learn.measure,
    "live": live.measure,
    "poison": poison.measure,
    "quality": quality.measure,
    "rebuild": rebuild.measure,
    "sagas": sagas.measure,
    "search": search.measure,
    "transform": transform.measure,
    "graph": graph.measure,
    "workers": workers.measure,
    "verify": verify.measure,
    "waiting": waiting.measure,
    "blobs": blobs.measure,
    "audit": audit.measure,
    "limits": limits.measure,
    "overload": overload.measure,
    "rls": rls.measure,
    "request_cache": request_cache.measure,
    "request_races": request_races.measure,
    "graph_neo4j": graph.measure_neo4j,
}
RESULTS: Final = Path(__file__).parent / "results"


async def run(names: Sequence[str], size: Size, console: Console) -> None:
    """Measure `names` one after the other on the same engines, each told as soon as it is known."""
    async with ground() as engines:
        for name in names:
            facts = machine.facts()
            started = perf_counter()
            try:
                with console.status(f"{name} ..."):
                    figures = await MEASUREMENTS[name](engines, size)
            except Skipped as error:
                console.print(f"[bold red]{name} IS SKIPPED, NOT MEASURED: {error}[/]")
                continue
            facts["load_average_after"] = machine.load()
            took_s = perf_counter() - started
            console.print(_table(name, figures, took_s))
            if not size.quick:
                _write(name, facts, size, figures)


def _write(name: str, facts: dict[str, object], size: Size, figures: Sequence[Figure]) -> None:
    RESULTS.mkdir(exist_ok=True)
    content = {
        "measurement": name,
        "machine": facts,
        "runs": size.runs,
        "figures": [figure.as_json() for figure in figures],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _table(name: str, figures: Sequence[Figure], took_s: float) -> Table:
    table = Table(title=f"{name} ({took_s:.0f} s)", title_justify="left")
    for column in ("", "median", "min", "max", "unit", "required", "goal"):
        table.add_column(column, justify="left" if column in ("", "unit") else "right")
    for figure in figures:
        numbers = (figure.median, min(figure.runs), max(figure.runs))
        table.add_row(
            figure.name,
            *map(_short, numbers),
            figure.unit,
            _bound(figure, figure.required),
            _bound(figure, figure.goal),
        )
    return table


def _bound(figure: Figure, bound: float | None) -> str:
    if bound is None:
        return ""
    mark = "[green]✓[/]" if figure.reaches(bound) else "[red]✗[/]"
    return f"{'≤' if figure.at_most else '≥'} {_short(bound)} {mark}"


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1_000 else f"{number:.3g}"


def main() -> None:
    """Parse, measure, exit."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(MEASUREMENTS)}; default all")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--quick", action="store_true", help="small and once; writes no results")
    parser.add_argument("--cranfield", type=Path, help="a folder with that collection (quality)")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(MEASUREMENTS)):
        parser.error(f"there is no measurement {unknown[0]!r}")
    logging.disable(logging.INFO)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    size = Size(1 if asked.quick else max(1, asked.runs), asked.quick, asked.cranfield)
    uvloop.run(run(asked.names or list(MEASUREMENTS), size, Console()))


if __name__ == "__main__":
    main()
