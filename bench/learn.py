"""Learning the standard library, and one changed file of it; the hybrid question.

What is learned is checked: how much there is, what one changed file touches, and that no store
drifts from truth.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import polyplane as pp
from bench.figures import Figure, percentile
from bench.ground import Ground, Size
from polyplane.domains.agents import application
from polyplane.domains.agents.learning import LearnReport, learn
from polyplane.domains.agents.learning.reading import standard_library
from polyplane.domains.agents.learning.searching import hybrid_search
from polyplane.domains.agents.projections import PROJECTIONS

CALLER: Final = pp.Caller("bench")
SKIPPED: Final = ("site-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo")
QUICK: Final = "asyncio"
QUESTIONS: Final = 200
TIMEOUT_S: Final = 600.0


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Each run learns a copy of the standard library in a plane of its own."""
    named: dict[str, tuple[str, list[float]]] = {}

    def note(name: str, unit: str, value: float) -> None:
        named.setdefault(name, (unit, []))[1].append(value)

    for _ in range(size.runs):
        folder = await asyncio.to_thread(_copy, ground.folder / "library", size)
        async with ground.plane(await ground.database(), applications=[application]) as plane:
            first, settled_s = await _learned(plane, folder)
            assert size.quick or (first.concepts >= 5_000 and first.relations >= 20_000), first
            note("files learned", "files", first.changed)
            note("concepts", "concepts", first.concepts)
            note("relations", "relations", first.relations)
            note("to learn all", "s", first.duration_s)
            note("and until all stores show it", "s", settled_s)
            again, _ = await _learned(plane, folder)
            assert again.touched == {}, again
            note("to see that nothing has changed", "s", again.duration_s)
            changed = folder / "asyncio" / "queues.py"
            changed.write_text(changed.read_text() + "\ndef added():\n    print_me = Queue()\n")
            one, settled_s = await _learned(plane, folder)
            assert one.changed == 1 and one.touched["concepts_new"] == 1, one
            note("to learn one changed file", "s", one.duration_s)
            note("and until all stores show that", "s", settled_s)
            note("rows written for it", "rows", sum(one.touched.values()))
            for value in await _asked(plane, size.scaled(QUESTIONS)):
                note("a hybrid question, p50 of a run", "ms", value)
            began_s = perf_counter()
            drift = await plane.verify(*PROJECTIONS, timeout_s=TIMEOUT_S)
            assert drift.clean, drift
            note("verify of all of it", "s", perf_counter() - began_s)
    bounds = {"to learn one changed file": 3.0}
    return [
        Figure(name, unit, tuple(runs), bounds.get(name), at_most=unit in ("s", "ms"))
        for name, (unit, runs) in named.items()
    ]


async def _learned(plane: pp.Plane, folder: Path) -> tuple[LearnReport, float]:
    """The report, and the seconds until all stores show what was learned."""
    began_s = perf_counter()
    report = await learn(plane, CALLER, [folder])
    await plane.settled(report.token, timeout_s=TIMEOUT_S)
    return report, perf_counter() - began_s


async def _asked(plane: pp.Plane, questions: int) -> list[float]:
    """The median of so many hybrid questions, in milliseconds."""
    took_ms = []
    for number in range(questions):
        began_s = perf_counter()
        answer = await hybrid_search(plane, CALLER, f"wait for queue number {number}")
        took_ms.append((perf_counter() - began_s) * 1e3)
        assert answer.hits and not answer.degraded
    return [percentile(took_ms, 0.5)]


def _copy(to: Path, size: Size) -> Path:
    """A copy of the standard library, that may be changed."""
    shutil.rmtree(to, ignore_errors=True)
    library = standard_library()
    if size.quick:
        shutil.copytree(library / QUICK, to / QUICK)
    else:
        shutil.copytree(library, to, ignore=shutil.ignore_patterns(*SKIPPED, "__pycache__"))
    return to
