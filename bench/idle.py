"""(g) A plane at rest: processor time and memory of its own process, engines' servers apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from bench.figures import Figure
from bench.ground import Ground, Size
from bench.program import ask
from bench.resident import Idle, Task

SECONDS: Final = 20.0
CPU_PERCENT_MAX: Final = 3.0
RSS_MIB_MAX: Final = 286.0
"""300 MB."""
START_TIMEOUT_S: Final = 60.0


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Without and with engines in the process, in turn; each in a process of its own."""
    seconds = 2.0 if size.quick else SECONDS
    seen: dict[bool, list[Idle]] = {False: [], True: []}
    for _ in range(size.runs):
        for laboratory, idle in seen.items():
            home = ground.folder / f"idle-{laboratory}"
            task = asdict(Task(str(home), laboratory, seconds))
            found = await ask("bench.resident", task, timeout_s=seconds + START_TIMEOUT_S)
            idle.append(Idle(**found))
    figures = []
    for laboratory, idle in seen.items():
        where = "laboratory: LanceDB and chdb in process" if laboratory else "embedder, API, flows"
        cpu = tuple(run.cpu_percent for run in idle)
        rss = tuple(run.rss_mib for run in idle)
        most = None if laboratory else RSS_MIB_MAX
        figures.append(Figure(f"{where}: one core", "%", cpu, CPU_PERCENT_MAX, at_most=True))
        figures.append(Figure(f"{where}: memory", "MiB", rss, most, at_most=True))
    return figures
