"""Qdrant's client in local mode keeps the contract of vector stores, on disk and in memory."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from polyplane.model.collection import Collection
from polyplane.stores.protocol import VectorStore
from polyplane.stores.vector import qdrant
from polyplane.testing.vector import RawItem, VectorStoreContract


def raw_item(payload: dict[str, Any], vector: Any) -> RawItem:
    """A point as Qdrant has it."""
    tags = {n: v for n, v in payload.items() if n != "text" and not n.startswith("_")}
    if "seen" in tags:
        tags["seen"] = datetime.fromisoformat(tags["seen"])
    own = (payload["_key"], payload["_position"], payload.get("_digest"), payload.get("text"))
    return RawItem(*own, tags, vector or None)


class TestQdrantInMemory(VectorStoreContract):
    survives_closing = False

    async def open(self, folder: Path) -> VectorStore:
        return await qdrant.connect("qdrant://:memory:")

    async def raw_items(self, store: VectorStore, collection: Collection) -> list[RawItem]:
        assert isinstance(store, qdrant.QdrantStore)
        records, rest = await store._client.scroll(
            collection.target, limit=100_000, with_payload=True, with_vectors=True
        )
        assert rest is None
        return [raw_item(record.payload or {}, record.vector) for record in records]


class TestQdrantOnDisk(TestQdrantInMemory):
    survives_closing = True

    async def open(self, folder: Path) -> VectorStore:
        return await qdrant.connect(f"qdrant://local{folder}")
