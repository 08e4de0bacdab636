"""(v) Search in 100,000 chunks of documentation: by meaning, by words, by both; beside lancedb.

The chunks are rows of the assistant, derived as any others are. Each question is asked one at a
time: of the library, over HTTP, and of lancedb by hand, with the same embedding, filter, depth and
settings. What an index misses is counted against a search without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from hashlib import blake2b
from time import perf_counter
from typing import Any, Final, cast
from uuid import UUID

import lancedb

import polyplane as pp
from bench.figures import Figure, percentile, ratio
from bench.ground import Ground, Size, connect
from bench.http import served
from bench.program import ask
from bench.search_texts import questions, texts
from bench.searcher import Task
from polyplane.domains.assistant import application
from polyplane.domains.assistant.projections import PROJECTIONS, DocumentChunks
from polyplane.domains.assistant.searching import search_documents
from polyplane.model.fusion import fused
from polyplane.model.terms import asked
from polyplane.runtime.searching import FUSED
from polyplane.search import Mode
from polyplane.serve.token import ops_token
from polyplane.stores.vector import lance_indexes, lance_table

CHUNKS: Final = 100_000
DOCUMENT_CHUNKS: Final = 20
QUESTIONS: Final = 200
"""In each mode, each run."""
COMPARED: Final = 200
"""Questions of which what an index misses is counted."""
K: Final = 10
MODES: Final[tuple[Mode, ...]] = ("vector", "text", "hybrid")
SETTINGS: Final = [(probes, 2) for probes in (4, 8, 16, 24, 32, 48, 64)] + [(48, 1), (48, 4)]
"""(partitions looked through, times as many compared with their whole vectors)."""
P50_MS_MAX: Final = 20.0
P99_MS_MAX: Final = 80.0
API_MS_MAX: Final = 10.0
RATIO_MIN: Final = 0.6
RECALL_MIN: Final = 0.95
TIMEOUT_S: Final = 600.0
CALLER: Final = pp.Caller("bench", "default", UUID(int=8))
"""A person: whose filter is of the tenant, and of what is theirs or everybody's."""
FILTER: Final = (
    f"`tenant_id` IN ('default') AND (`owner_id` IN ('{UUID(int=8)}') OR `owner_id` IS NULL)"
)

Asking = Callable[[str], Awaitable[Any]]


@dataclass(slots=True)
class Took:
    """Milliseconds of each answer of one mode: of all runs, one after the other."""

    library: list[list[float]] = field(default_factory=list)
    raw: list[list[float]] = field(default_factory=list)
    searched: list[list[float]] = field(default_factory=list)
    api: list[list[float]] = field(default_factory=list)


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """One plane is filled, and asked in turns."""
    chunks = texts(size.scaled(CHUNKS))
    url = await ground.database()
    async with ground.plane(url, applications=[application]) as plane:
        began_s = perf_counter()
        await _fill(url, chunks)
        await plane.caught_up(timeout_s=TIMEOUT_S)
        store = plane.opened.stores.vector
        collection = plane.opened.generations.readings[DocumentChunks.name].collection
        assert store is not None
        await store.maintain(collection, full=True)  # as a backfill does at its end
        filled = Figure("chunks filled, embedded and indexed", "s", (perf_counter() - began_s,))
        raw = await Raw.opened(plane)
        took = {mode: Took() for mode in MODES}
        some = questions(chunks, QUESTIONS)
        await ground.calm()
        async with served(plane) as at:
            for run in range(size.runs + 1):  # the first one only wakes everybody up
                for mode in MODES:
                    turn = took[mode] if run else Took()
                    await _turn(plane, raw, at, mode, some, turn)
        recalls = await _recalls(plane, raw, questions(chunks, COMPARED, seed=9))
        drift = await plane.verify(*PROJECTIONS, timeout_s=TIMEOUT_S)
        assert drift.clean, drift
    return [filled, *(it for mode in MODES for it in _figures(mode, took[mode])), *recalls]


async def _fill(url: str, chunks: Sequence[str]) -> None:
    """Documents of so many chunks each, without content of their own."""
    documents = f"""
        INSERT INTO assistant.documents (id, source, name, title, summary, state, failure_code,
            failure_reason, chunk_count, text_length)
        SELECT md5('d' || n)::uuid, 'folder', '/' || n, 'document ' || n, 'document ' || n,
            'failed', 'bench', 'No content is kept.', {DOCUMENT_CHUNKS}, 0
        FROM generate_series(0, {(len(chunks) - 1) // DOCUMENT_CHUNKS}) n"""
    columns = "document_id, ordinal, start_at, end_at, text, digest, title, media_type"
    chunk_rows = f"""
        INSERT INTO assistant.document_chunks ({columns}, chunker_version)
        SELECT {columns}, 1 FROM filling"""
    filling = f"""
        CREATE TEMP TABLE filling AS SELECT {columns} FROM assistant.document_chunks LIMIT 0"""
    async with await connect(url) as connection:
        await connection.execute(documents.encode())
        known = await connection.execute("SELECT id FROM assistant.documents ORDER BY name::text")
        ids = [row[0] for row in await known.fetchall()]
        await connection.execute(filling.encode())  # rows under policies take no COPY
        copy = f"COPY filling ({columns}) FROM STDIN".encode()
        async with connection.cursor() as cursor, cursor.copy(copy) as rows:
            for n, text in enumerate(chunks):
                number, ordinal = divmod(n, DOCUMENT_CHUNKS)
                made = blake2b(text.encode(), digest_size=16).hexdigest()
                start = ordinal * 2_000
                row = (ids[number], ordinal, start, start + len(text), text, made)
                await rows.write_row((*row, f"document {number}", "text/plain"))
        await connection.execute(chunk_rows.encode())


class Raw:
    """The same table, asked by hand."""

    def __init__(self, plane: pp.Plane, table: lancedb.AsyncTable, columns: list[str]) -> None:
        self.table = table
        self._columns = columns
        self._embedder = plane.opened.stores.embedder

    @classmethod
    async def opened(cls, plane: pp.Plane) -> Raw:
        """By a connection of its own, which also sees what others write before it asks."""
        url = plane.settings.url("vector_url")
        assert url is not None
        folder = url.removeprefix("lancedb://")
        database = await lancedb.connect_async(folder, read_consistency_interval=timedelta(0))
        target = plane.opened.generations.readings[DocumentChunks.name].collection.target
        table = await database.open_table(target)
        return cls(plane, table, lance_table.shown(await table.schema()))

    async def near(
        self, question: str, *, limit: int = K, probes: int = 0, refined: int = 0
    ) -> list[str]:
        """The keys of the nearest; without probes by no index."""
        assert self._embedder is not None
        (embedding,) = await self._embedder.embed([question])
        query: Any = self.table.query().nearest_to(embedding).distance_type("cosine")
        if probes:
            query = query.nprobes(probes).refine_factor(refined)
        else:
            query = query.bypass_vector_index()
        return await self._keys(query, "_distance", limit)

    async def worded(self, question: str, *, limit: int = K) -> list[str]:
        """The keys of what has the words."""
        looked_for = " ".join(asked(question, "english"))
        query = self.table.query().nearest_to_text(looked_for, lance_table.TERMS)
        return await self._keys(query, "_score", limit)

    async def both(self, question: str) -> list[str]:
        """The keys of the best of both, as deep as the library looks, and ranked together."""
        near, worded = await asyncio.gather(
            self.near(question, limit=FUSED, probes=lance_indexes.PROBES, refined=1),
            self.worded(question, limit=FUSED),
        )
        return [it.key for it in fused({"vector": near, "text": worded})[:K]]

    async def _keys(self, query: Any, score: str, limit: int) -> list[str]:
        found = await query.where(FILTER).select([*self._columns, score]).limit(limit).to_arrow()
        return cast(list[str], found["key"].to_pylist())

    def asking(self, mode: Mode) -> Asking:
        """What asks as the library does in this mode."""
        if mode == "text":
            return self.worded
        if mode == "hybrid":
            return self.both
        probes, refined = lance_indexes.PROBES, lance_indexes.REFINED
        return lambda question: self.near(question, probes=probes, refined=refined)


async def _turn(
    plane: pp.Plane, raw: Raw, at: str, mode: Mode, some: Sequence[str], took: Took
) -> None:
    reader = plane.acting(CALLER)[DocumentChunks]
    took.raw.append(await _timed(raw.asking(mode), some))
    took.library.append(await _timed(lambda it: reader.find(it, mode=mode), some))
    took.searched.append(
        await _timed(lambda it: search_documents(plane, CALLER, it, mode=mode), some)
    )
    task = Task(f"{at}/api/v1/assistant/search", ops_token(plane.settings.home), mode, list(some))
    took.api.append(await ask("bench.searcher", asdict(task), timeout_s=TIMEOUT_S))


async def _timed(asking: Asking, some: Sequence[str]) -> list[float]:
    took_ms = []
    for question in some:
        began_s = perf_counter()
        await asking(question)
        took_ms.append((perf_counter() - began_s) * 1e3)
    return took_ms


def _figures(mode: Mode, took: Took) -> list[Figure]:
    def at(name: str, runs: list[list[float]], share: float, most: float | None = None) -> Figure:
        said = f"{mode}: {name}, p{share * 100:.0f}"
        values = tuple(percentile(run, share) for run in runs)
        return Figure(said, "ms", values, most, at_most=True)

    def rate(name: str, runs: list[list[float]]) -> Figure:
        values = tuple(len(run) / sum(run) * 1e3 for run in runs)
        return Figure(f"{mode}: {name}", "questions/s", values)

    ours, by_hand = rate("library", took.library), rate("lancedb by hand", took.raw)
    added = tuple(
        percentile(api, 0.5) - percentile(searched, 0.5)
        for api, searched in zip(took.api, took.searched, strict=True)
    )
    return [
        at("library", took.library, 0.5, P50_MS_MAX),
        at("library", took.library, 0.99, P99_MS_MAX),
        at("lancedb by hand", took.raw, 0.5),
        ours,
        by_hand,
        ratio(f"{mode}: library / by hand", ours, by_hand, required=RATIO_MIN),
        at("with truth, search_documents", took.searched, 0.5),
        at("over HTTP", took.api, 0.5),
        at("over HTTP", took.api, 0.99),
        Figure(f"{mode}: HTTP adds to search_documents", "ms", added, API_MS_MAX, at_most=True),
    ]


async def _recalls(plane: pp.Plane, raw: Raw, some: Sequence[str]) -> list[Figure]:
    """What share of the ten nearest is found: by the library, and with other settings."""
    reader = plane.acting(CALLER)[DocumentChunks]
    exact = [set(await raw.near(question)) for question in some]
    took_ms = await _timed(raw.near, some[:50])
    figures = [Figure("exact search by hand, p50", "ms", (percentile(took_ms, 0.5),))]
    found = [{it.key for it in (await reader.find(q, mode="vector")).hits} for q in some]
    figures.append(
        Figure(f"recall@{K} of the library", "share", (_share(found, exact),), RECALL_MIN)
    )
    for probes, refined in SETTINGS:
        began_s = perf_counter()
        found = [set(await raw.near(q, probes=probes, refined=refined)) for q in some]
        took = (perf_counter() - began_s) / len(some) * 1e3
        name = f"{probes} partitions, {refined} times refined"
        figures.append(Figure(f"recall@{K}, {name}", "share", (_share(found, exact),)))
        figures.append(Figure(f"mean, {name}", "ms", (took,)))
    return figures


def _share(found: Sequence[set[str]], exact: Sequence[set[str]]) -> float:
    hits = sum(len(one & other) for one, other in zip(found, exact, strict=True))
    return hits / sum(map(len, exact))
