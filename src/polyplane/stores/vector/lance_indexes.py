"""The indexes of a LanceDB table: which it has, from when on, and how they are asked.

Vectors are partitioned by k-means and kept in the index by a byte a number (IVF, scalar
quantization): a quarter of their size, trained in seconds, and with the whole vectors of the best
compared afterwards as good as exact. See bench/results/search.json for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, Bitmap, BTree, IvfSq
from lancedb.query import AsyncVectorQuery

from polyplane.model.collection import Collection
from polyplane.stores.vector.lance_table import TERMS

Commits = Callable[[], Any]
"""Attempts at a commit, as long as others come first."""

WORDS: Final = FTS(
    base_tokenizer="whitespace",
    max_token_length=None,
    lower_case=False,
    stem=False,
    remove_stop_words=False,
    ascii_folding=False,
)
"""Terms are made by us (`model.terms`): the engine only takes them apart."""


NUMBERS_MIN: Final = 2_500_000
"""Index vectors of so many numbers (10,000 of 256): to compare less with all of them is as fast."""
PARTITION_ROWS: Final = 1_000
PARTITIONS_MAX: Final = 128
GROWN: Final = 4
"""Train anew when there are so many times as many rows as the partitions were made for."""
PROBES: Final = 48
"""Partitions that are looked through: the nearest ones, and all there are below 49,000 rows."""
REFINED: Final = 2
"""Of so many times what is wanted the whole vectors are compared, as in a search without index."""
REFINED_MAX: Final = 100
_NAME: Final = "near_"


def nearest(
    table: lancedb.AsyncTable, embedding: Sequence[float], *, limit: int, exact: bool
) -> Any:
    """The query for what is near, by cosine. Rows that are not in the index are compared, too."""
    wanted: AsyncVectorQuery = table.query().nearest_to(np.asarray(embedding, dtype=np.float32))
    wanted = wanted.distance_type("cosine").limit(limit)
    if exact:
        return wanted.bypass_vector_index()
    return wanted.nprobes(PROBES).refine_factor(REFINED if limit <= REFINED_MAX else 1)


def matching(table: lancedb.AsyncTable, looked_for: Sequence[str]) -> Any:
    """The query for what has any of these terms, by BM25."""
    return table.query().nearest_to_text(" ".join(looked_for), TERMS)


async def missing(table: lancedb.AsyncTable, collection: Collection) -> dict[str, Any]:
    """The indexes of keys and tags that the table lacks: column -> how to make it."""
    columns = await table.schema()
    indexed = {name for index in await table.list_indices() for name in index.columns}
    wanted = [n for n in ("key", *collection.indexes) if n in columns.names and n not in indexed]
    flags = {name: pa.types.is_boolean(columns.field(name).type) for name in wanted}
    return {name: Bitmap() if flags[name] else BTree() for name in wanted}


async def train(table: lancedb.AsyncTable, collection: Collection, commits: Commits) -> None:
    """Index words, and vectors when it pays; train the index of vectors anew when they are many
    times as many. May run beside merges: what they write is found without an index.
    """
    named = {name: index.name for index in await table.list_indices() for name in index.columns}
    if collection.full_text and TERMS not in named:
        async for attempt in commits():
            with attempt:
                await table.create_index(TERMS, config=WORDS)
    rows = await table.count_rows("`digest` IS NOT NULL")
    if rows * collection.dimensions < NUMBERS_MIN:
        return
    partitions = max(1, min(PARTITIONS_MAX, rows // PARTITION_ROWS))
    trained = named.get("vector", "")
    if trained and partitions < GROWN * int(trained.removeprefix(_NAME)):
        return
    config: Any = IvfSq(distance_type="cosine", num_partitions=partitions)
    async for attempt in commits():
        with attempt:
            await table.create_index("vector", config=config, name=f"{_NAME}{partitions}")
    if trained:
        await table.drop_index(trained)
