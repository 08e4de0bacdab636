"""The Qdrant adapter keeps the contract on Qdrant's own engine, the Rust code of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
import qdrant_edge as edge

from polyplane.model.collection import Collection
from polyplane.stores.protocol import VectorStore
from polyplane.stores.vector.qdrant import QdrantStore
from polyplane.testing.samples import ALL, FILTERS, NOTES, note, notes, query
from polyplane.testing.vector import RawItem, VectorStoreContract
from tests.contract.edge_client import EdgeClient, EdgeEngine
from tests.contract.test_vector_qdrant import raw_item


class TestQdrantEngine(VectorStoreContract):
    engine: EdgeEngine | None = None
    filters = tuple(where for where in FILTERS if where.get("done") is None)  # see test_booleans

    async def open(self, folder: Path) -> VectorStore:
        self.engine = self.engine or EdgeEngine(folder)
        return QdrantStore(EdgeClient(self.engine), local=False, timeout_s=30.0)  # type: ignore[arg-type]

    async def raw_items(self, store: VectorStore, collection: Collection) -> list[RawItem]:
        assert self.engine
        records, rest = self.engine.shard(collection.target).scroll(
            edge.ScrollRequest(limit=100_000, with_payload=True, with_vector=True)
        )
        assert rest is None
        return [raw_item(record.payload or {}, record.vector) for record in records]

    async def raw_double(self, store: VectorStore, collection: Collection, key: str) -> None:
        assert self.engine
        shard = self.engine.shard(collection.target)
        request = edge.ScrollRequest(limit=100_000, with_payload=True, with_vector=True)
        held = next(r for r in shard.scroll(request)[0] if (r.payload or {})["_key"] == key)
        twin = edge.Point(uuid4(), cast(Any, held.vector), held.payload)
        shard.update(edge.UpdateOperation.upsert_points([twin]))

    async def raw_words(
        self, store: VectorStore, collection: Collection, key: str, other: str
    ) -> None:
        assert self.engine
        shard = self.engine.shard(collection.target)
        request = edge.ScrollRequest(limit=100, with_payload=True, with_vector=True)
        held = {(r.payload or {})["_key"]: r for r in shard.scroll(request)[0]}
        vectors = cast(Any, held[key].vector) | {"_terms": cast(Any, held[other].vector)["_terms"]}
        point = edge.Point(held[key].id, vectors, held[key].payload)
        shard.update(edge.UpdateOperation.upsert_points([point]))

    @pytest.mark.xfail(strict=True, reason="qdrant_edge 0.9 passes MatchValue(True) on as 1")
    async def test_booleans(self, store: VectorStore) -> None:
        self.filters = ({"done": True},)
        await self.test_search_filters(store)

    async def test_the_engine_indexes_what_the_gate_and_filters_read(
        self, store: VectorStore
    ) -> None:
        assert self.engine
        schema = self.engine.shard(NOTES.target).info().payload_schema
        assert {
            name: str(index.data_type).rpartition(".")[2] for name, index in schema.items()
        } == {
            "_key": "Keyword",
            "_position": "Integer",
            "owner": "Keyword",
            "stars": "Integer",
            "done": "Bool",
            "seen": "Datetime",
        }

    async def test_optimized_segments_keep_the_contract(self, store: VectorStore) -> None:
        assert self.engine
        shard = self.engine.shard(NOTES.target)
        await store.apply(NOTES, notes(300), ["gone"], 5)
        shard.optimize()
        shard.flush()
        await store.apply(NOTES, [note("n-000", "stale"), note("gone")], ["n-001"], 4)
        await store.apply(NOTES, [note("n-002", "new")], ["n-003"], 6)
        shard.optimize()
        hits = await store.search(NOTES, ALL, query(0), limit=400)
        assert len(hits) == 299
        assert {"gone", "n-003"}.isdisjoint(hit.key for hit in hits)
        texts = [hit.text for hit in await store.get(NOTES, ALL, ["n-000", "n-001", "n-002"])]
        assert texts == ["text of n-000", "text of n-001", "new"]
