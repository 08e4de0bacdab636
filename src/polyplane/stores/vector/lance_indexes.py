"""The indexes of a LanceDB table: which it has, from when on, and how they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, Bitmap, BTree
from lancedb.query import AsyncVectorQuery, MatchQuery

from polyplane.model.collection import Collection
from polyplane.stores.vector.lance_table import TERMS

WORDS: Final = FTS(
    base_tokenizer="whitespace",
    max_token_length=None,
    lower_case=False,
    stem=False,
    remove_stop_words=False,
    ascii_folding=False,
)
"""Terms are made by us (`model.terms`): the engine only takes them apart."""


def nearest(table: lancedb.AsyncTable, embedding: Sequence[float], *, exact: bool) -> Any:
    """The query for what is near, by cosine."""
    wanted: AsyncVectorQuery = table.query().nearest_to(np.asarray(embedding, dtype=np.float32))
    wanted = wanted.distance_type("cosine")
    return wanted.bypass_vector_index() if exact else wanted


def matching(table: lancedb.AsyncTable, looked_for: Sequence[str]) -> Any:
    """The query for what has any of these terms, by BM25."""
    return table.query().nearest_to_text(MatchQuery(" ".join(looked_for), TERMS))


async def missing(table: lancedb.AsyncTable, collection: Collection) -> dict[str, Any]:
    """The indexes of keys, tags and words that the table lacks: column -> how to make it."""
    columns = await table.schema()
    indexed = {name for index in await table.list_indices() for name in index.columns}
    wanted = [n for n in ("key", *collection.indexes) if n in columns.names and n not in indexed]
    flags = {name: pa.types.is_boolean(columns.field(name).type) for name in wanted}
    made: dict[str, Any] = {name: Bitmap() if flags[name] else BTree() for name in wanted}
    if collection.full_text and TERMS not in indexed:
        made[TERMS] = WORDS
    return made
