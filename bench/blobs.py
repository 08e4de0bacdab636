"""(j) Files: one GiB through the saga against boto3 alone, killed half way, and small ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure, rates, ratio
from bench.ground import Ground, Size
from bench.program import ask
from bench.uploader import Done, Task
from polyplane.embedded import Engines

BYTES: Final = 1 << 30
MIB: Final = 1 << 20
SMALL: Final = 200
GROWTH_MIB_MAX: Final = 95.0
"""100 MB."""
RATIO_MIN: Final = 0.8
TIMEOUT_S: Final = 600.0


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Ours and boto3's by turns, each in a process of its own, on one SeaweedFS."""
    home = ground.folder / "objects"
    engines = Engines(home, wanted=["seaweedfs"])
    await engines.start()
    try:
        return await _measured(ground, size, home, engines.admins["s3"])
    finally:
        await engines.stop()


async def _measured(ground: Ground, size: Size, home: Path, url: str) -> Sequence[Figure]:
    settings = await _settings(ground, home, url)
    path = ground.folder / "file.bin"
    whole = max(8 * 16 * MIB, size.scaled(BYTES))
    await asyncio.to_thread(_fill, path, whole)

    async def run(how: str, key: str, **more: Any) -> Done:
        await ground.calm()
        task = asdict(Task(settings, str(path), how, key, **more))
        return Done(**await ask("bench.uploader", task, timeout_s=TIMEOUT_S))

    ours, bare, small, resumed = [], [], [], []
    for n in range(size.runs):
        ours.append(await run("plane", f"whole {n}"))
        bare.append(await run("boto3", f"whole {n}"))
        with suppress(RuntimeError):  # it kills itself
            await run("plane", f"killed {n}", die_at=whole // 2)
        resumed.append(await run("plane", f"killed {n}"))
        small.append(await run("small", f"small {n}", count=SMALL))
    path.unlink()
    parts, mib = -(-whole // (16 * MIB)), whole // MIB
    by_us = rates(f"a file of {mib:,} MiB, through the saga", "MiB/s", mib, _seconds(ours))
    by_boto3 = rates("boto3 alone, and a sync", "MiB/s", mib, _seconds(bare))
    growth = tuple(it.rss_growth_mib for it in ours)
    sent = tuple(float(it.parts_sent) for it in resumed)
    return [
        by_us,
        by_boto3,
        ratio("ours to boto3 alone", by_us, by_boto3, required=RATIO_MIN),
        Figure("growth of memory meanwhile", "MiB", growth, GROWTH_MIB_MAX, at_most=True),
        Figure(
            f"of {parts} parts sent after a kill half way", "parts", sent, parts / 2, at_most=True
        ),
        rates("small files, one after the other", "files/s", SMALL, _seconds(small)),
    ]


async def _settings(ground: Ground, home: Path, url: str) -> dict[str, Any]:
    """Of a plane in the home of the object store, whose disk it syncs."""
    found = ground.settings(await ground.database())
    names = ("database_url", "nats_url", "cache_url", "vector_url", "series_url")
    given = {name: found.url(name) for name in names}
    return given | {"home": str(home), "namespace": found.namespace, "objects_url": url}


def _fill(path: Path, size: int) -> None:
    """No two megabytes of it are the same."""
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))


def _seconds(done: Sequence[Done]) -> list[float]:
    return [it.seconds for it in done]
