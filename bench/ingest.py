"""Ingest of Markdown documents of about 2 kB, until they are found; and once more, unchanged.

Beside it, in the same run, the same files by hand: read, split, embedded and added to a LanceDB
table with the same libraries, without truth, files, proof or recovery. At the end the memory that
100,000 chunks take. What went in is counted, and verified once.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import lancedb
import psutil
import pyarrow as pa
import wordllama
from semantic_text_splitter import MarkdownSplitter

import polyplane as pp
from bench.figures import Figure, rates, ratio
from bench.ground import Ground, Size
from polyplane.domains.assistant import application
from polyplane.domains.assistant.course import ALL, Wanted, ingest
from polyplane.domains.assistant.projections import PROJECTIONS
from polyplane.embedded import Engines
from polyplane.stores.disk import sync

CALLER: Final = pp.Caller("bench")
DOCUMENTS: Final = 1_500
WORDS: Final = 300
WARM: Final = 10
LARGE: Final = 1_000
LARGE_PARTS: Final = 100
"""Documents of about 100 chunks each, for the memory of 100,000."""
CHUNK_SIZE: Final = 1_200
ADDED_AT_ONCE: Final = 1_000
TIMEOUT_S: Final = 900.0
MIB: Final = 1 << 20
RSS_MIB_MAX: Final = 1_500.0
OLD_S: Final = 2.5
"""Files younger than that are read again: their stamps are not trusted."""


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Each run takes the same files into a plane, and by hand into a table, of its own."""
    home = ground.folder / "ingested"
    engines = Engines(home, wanted=["seaweedfs"])
    await engines.start()
    try:
        return await _measured(ground, size, home, engines.admins["s3"])
    finally:
        await engines.stop()


async def _measured(ground: Ground, size: Size, home: Path, url: str) -> Sequence[Figure]:
    count = size.scaled(DOCUMENTS)
    folder = ground.folder / "markdown"
    await asyncio.to_thread(_fill, folder, count, 1)
    warm = ground.folder / "warm"
    await asyncio.to_thread(_fill, warm, WARM, 2)
    ours, again, checked, bare = [], [], [], []
    for number in range(size.runs):
        await ground.calm()
        settings = await _settings(ground, home, url)
        async with pp.Plane(applications=[application], settings=settings) as plane:
            await plane.caught_up(timeout_s=TIMEOUT_S)
            await _ingested(plane, warm, ALL, new=WARM)  # processes, model and tables are there
            ours.append(await _ingested(plane, folder, ALL, new=count))
            again.append(await _ingested(plane, folder, ALL))
            checked.append(await _ingested(plane, folder, Wanted(check=True)))
            if not number:
                drift = await plane.verify(*PROJECTIONS, pp.Blob, timeout_s=TIMEOUT_S)
                assert drift.clean, drift
        await ground.calm()
        bare.append(await asyncio.to_thread(_by_hand, folder, ground.folder / f"lance{number}"))
    by_us = rates(
        "documents until they are found", "documents/s", count, ours, required=60, goal=150
    )
    by_hand = rates("by hand into LanceDB alone", "documents/s", count, bare)
    return [
        by_us,
        by_hand,
        ratio("ours to that by hand", by_us, by_hand),
        rates("unchanged, by size and times", "documents/s", count, again, required=2_000),
        rates("unchanged, all of them read", "documents/s", count, checked, required=2_000),
        *await _memory(ground, size, home, url),
    ]


async def _ingested(plane: pp.Plane, folder: Path, wanted: Wanted, *, new: int = 0) -> float:
    """The seconds until all of it is found."""
    began_s = perf_counter()
    report = await ingest(plane, CALLER, [folder], wanted)
    took_s = perf_counter() - began_s
    assert report.is_clean and report.is_settled, report
    assert (report.new, report.ready) == (new, new), report
    return took_s


async def _memory(ground: Ground, size: Size, home: Path, url: str) -> list[Figure]:
    """The resident memory of the process while 100,000 chunks go in: at most, and at the end."""
    folder, count = ground.folder / "large", size.scaled(LARGE)
    await asyncio.to_thread(_fill, folder, count, LARGE_PARTS)
    settings, process, seen = await _settings(ground, home, url), psutil.Process(), [0.0]
    first = [0.0]
    async with pp.Plane(applications=[application], settings=settings) as plane:
        await plane.caught_up(timeout_s=TIMEOUT_S)

        def look(far: Any) -> None:
            rss = process.memory_info().rss / MIB
            seen.append(rss)
            if far.ready <= count // 5:
                first[0] = max(first[0], rss)

        began_s = perf_counter()
        report = await ingest(plane, CALLER, [folder], tell=look)
        took_s = perf_counter() - began_s
        assert report.is_clean and report.is_settled, report
    chunks = float(report.chunks_new)
    return [
        Figure("chunks of large documents", "chunks", (chunks,)),
        Figure("chunks until they are found", "chunks/s", (chunks / took_s,)),
        Figure("memory at most meanwhile", "MiB", (max(seen),), RSS_MIB_MAX, at_most=True),
        Figure("of that at a fifth", "MiB", (first[0],)),
    ]


async def _settings(ground: Ground, home: Path, url: str) -> pp.Settings:
    """Of a plane with files, whose disk is the home of the object store."""
    found = ground.settings(await ground.database())
    names = ("database_url", "nats_url", "cache_url", "vector_url", "series_url")
    given: dict[str, Any] = {name: found.url(name) for name in names}
    return pp.Settings.load(
        environ={}, home=home, namespace=found.namespace, objects_url=url, **given
    )


def _fill(folder: Path, count: int, sections: int) -> None:
    """Markdown documents, no two alike, the same at each run; old enough to be trusted."""
    dice, letters = random.Random(7), "abcdefghijklmnopqrstuvwxyz"
    lexicon = ["".join(dice.choices(letters, k=dice.randint(2, 10))) for _ in range(8_000)]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number in range(count):
        words = WORDS if sections == 1 else WORDS // 2
        parts = [f"# {' '.join(dice.choices(lexicon, k=4))}"]
        for _ in range(max(2, sections)):
            parts.append(f"## {' '.join(dice.choices(lexicon, k=3))}")
            parts.append(" ".join(dice.choices(lexicon, k=words // (2 if sections == 1 else 1))))
        (folder / f"{number:06}.md").write_text("\n\n".join(parts) + "\n")
    time.sleep(OLD_S)


def _by_hand(folder: Path, to: Path) -> float:
    """The seconds that the same takes who needs nothing but a table of vectors, durable."""
    splitter = MarkdownSplitter(CHUNK_SIZE)
    cache = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=cache, disable_download=True)
    table = lancedb.connect(to).create_table(
        "chunks",
        schema=pa.schema(
            [
                ("key", pa.string()),
                ("document", pa.string()),
                ("text", pa.string()),
                ("vector", pa.list_(pa.float32(), 256)),
            ]
        ),
    )
    began_s, waiting = perf_counter(), list[tuple[str, str, str]]()

    def add() -> None:
        vectors = model.embed([text for _, _, text in waiting], norm=True)
        rows = [
            {"key": key, "document": document, "text": text, "vector": vector}
            for (key, document, text), vector in zip(waiting, vectors, strict=True)
        ]
        table.add(rows)
        waiting.clear()

    for path in sorted(folder.iterdir()):
        for number, text in enumerate(splitter.chunks(path.read_text())):
            waiting.append((f"{path.name}:{number}", path.name, text))
        if len(waiting) >= ADDED_AT_ONCE:
            add()
    if waiting:
        add()
    sync(to)
    return perf_counter() - began_s
