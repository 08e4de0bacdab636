"""Qdrant's own engine (the `qdrant_edge` wheel) behind the calls the adapter makes to a server.

Only names are translated, one to one; what filters, gates, indexes and vectors mean is the
engine's own doing, the same code as in the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import orjson
import qdrant_edge as edge
from qdrant_client import models
from qdrant_client.http.exceptions import UnexpectedResponse

BOUNDS = ("gte", "gt", "lte", "lt")
IDF = edge.Modifier.Idf


def edge_filter(given: models.Filter | None) -> edge.Filter | None:
    """The same filter in the engine's own classes."""
    if given is None or not (given.must or given.should):
        return None
    assert given.must_not is None, "the adapter makes no such filter"
    return edge.Filter(must=_conditions(given.must), should=_conditions(given.should))


def _conditions(given: Any) -> list[Any] | None:
    return [_condition(condition) for condition in given or []] or None


def _condition(given: Any) -> Any:
    match given:
        case models.Filter():
            return edge_filter(given) or edge.Filter(must=[])
        case models.IsEmptyCondition():
            return edge.IsEmptyCondition(given.is_empty.key)
        case models.HasIdCondition():
            return edge.HasIdCondition({_id(i) for i in given.has_id})
        case models.FieldCondition(match=models.MatchValue(value=value)):
            return edge.FieldCondition(given.key, match=edge.MatchValue(value))
        case models.FieldCondition(match=models.MatchAny(any=values)):
            return edge.FieldCondition(given.key, match=edge.MatchAny(cast(Any, values)))
        case models.FieldCondition(range=models.DatetimeRange() as within):
            times = {name: getattr(within, name) for name in BOUNDS}
            bounds = {n: t.isoformat() for n, t in times.items() if isinstance(t, datetime)}
            return edge.FieldCondition(given.key, range=edge.RangeDateTime(**bounds))
        case models.FieldCondition(range=models.Range() as within):
            limits = {name: getattr(within, name) for name in BOUNDS}
            return edge.FieldCondition(given.key, range=edge.RangeFloat(**limits))
    raise TypeError(f"The adapter makes no {given!r}.")


def _id(given: Any) -> Any:
    """A point's id, as the engine has it."""
    return given if isinstance(given, int) else UUID(str(given))


def _one(given: Any) -> Any:
    """A vector in the engine's own class."""
    if isinstance(given, models.SparseVector):
        return edge.SparseVector(given.indices, given.values)
    return given


def _vectors(given: Any) -> Any:
    """The vectors of a point."""
    return {n: _one(it) for n, it in given.items()} if isinstance(given, dict) else given


def _params(given: models.SearchParams | None) -> edge.SearchParams | None:
    if given is None:
        return None
    asked = given.quantization
    assert asked is not None
    return edge.SearchParams(
        hnsw_ef=given.hnsw_ef,
        exact=bool(given.exact),
        quantization=edge.QuantizationSearchParams(
            bool(asked.ignore), asked.rescore, asked.oversampling
        ),
    )


class EdgeEngine:
    """The shards of one folder, shared by its clients as a server's collections are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clients = 0
        self.shards: dict[str, edge.EdgeShard] = {}

    def shard(self, name: str) -> edge.EdgeShard:
        path = self.folder / name
        if name not in self.shards:
            if not path.exists():
                raise UnexpectedResponse(404, "Not Found", b"no such collection", headers=None)  # type: ignore[arg-type]
            self.shards[name] = edge.EdgeShard.load(str(path))
        return self.shards[name]

    def release(self) -> None:
        self.clients -= 1
        if self.clients == 0:
            for shard in self.shards.values():
                shard.close()
            self.shards.clear()


class EdgeClient:
    """The part of AsyncQdrantClient that the adapter uses."""

    def __init__(self, engine: EdgeEngine) -> None:
        self.engine = engine
        self.engine.clients += 1
        self.closed = False

    async def get_collections(self) -> list[str]:
        return sorted(path.name for path in self.engine.folder.iterdir())

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.engine.release()

    async def collection_exists(self, name: str) -> bool:
        return (self.engine.folder / name).exists()

    async def create_collection(
        self,
        name: str,
        vectors_config: models.VectorParams,
        sparse_vectors_config: dict[str, models.SparseVectorParams] | None,
        hnsw_config: models.HnswConfigDiff,
        quantization_config: models.ScalarQuantization,
    ) -> None:
        path = self.engine.folder / name
        path.mkdir()
        assert vectors_config.distance == models.Distance.COSINE
        scalar = quantization_config.scalar
        assert scalar.type == models.ScalarType.INT8
        sparse = sparse_vectors_config or {}
        assert all(it.modifier == models.Modifier.IDF for it in sparse.values())
        config = edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(size=vectors_config.size, distance=edge.Distance.Cosine),
            sparse_vectors={it: edge.EdgeSparseVectorParams(modifier=IDF) for it in sparse} or None,
            hnsw_config=edge.HnswIndexConfig(
                m=cast(int, hnsw_config.m),
                ef_construct=cast(int, hnsw_config.ef_construct),
                full_scan_threshold=10_000,
            ),
            quantization_config=edge.ScalarQuantizationConfig(
                edge.ScalarType.Int8, scalar.quantile, scalar.always_ram
            ),
        )
        self.engine.shards[name] = edge.EdgeShard.create(str(path), config)

    async def delete_collection(self, name: str) -> None:
        self.engine.shard(name).close()
        del self.engine.shards[name]
        rmtree(self.engine.folder / name)

    async def get_collection(self, name: str) -> Any:
        stored = orjson.loads((self.engine.folder / name / "edge_config.json").read_bytes())
        vectors = models.VectorParams(
            size=stored["vectors"][""]["size"], distance=stored["vectors"][""]["distance"]
        )
        params = SimpleNamespace(vectors=vectors, sparse_vectors=stored.get("sparse_vectors"))
        return SimpleNamespace(config=SimpleNamespace(params=params))

    async def create_payload_index(self, name: str, field: str, field_schema: Any) -> None:
        schema = getattr(field_schema, "type", field_schema)  # the engine is told no more of it
        kind = getattr(edge.PayloadSchemaType, schema.value.capitalize())
        self.engine.shard(name).update(edge.UpdateOperation.create_field_index(field, kind))

    async def upsert(
        self,
        name: str,
        points: Sequence[models.PointStruct],
        wait: bool,
        update_filter: models.Filter | None = None,
    ) -> None:
        made = [edge.Point(_id(p.id), _vectors(p.vector), p.payload) for p in points]
        gate = edge_filter(update_filter)
        self.engine.shard(name).update(edge.UpdateOperation.upsert_points(made, condition=gate))

    async def delete(self, name: str, points: models.FilterSelector, wait: bool) -> None:
        wanted = edge_filter(points.filter)
        assert wanted is not None
        self.engine.shard(name).update(edge.UpdateOperation.delete_points_by_filter(wanted))

    async def scroll(
        self,
        name: str,
        limit: int,
        with_payload: Any,
        with_vectors: bool,
        offset: Any = None,
        scroll_filter: models.Filter | None = None,
    ) -> tuple[list[Any], Any]:
        request = edge.ScrollRequest(
            offset=offset,
            limit=limit,
            with_payload=with_payload,
            with_vector=with_vectors,
            filter=edge_filter(scroll_filter),
        )
        return self.engine.shard(name).scroll(request)

    async def query_points(
        self,
        name: str,
        query: Any,
        query_filter: Any,
        limit: int,
        with_payload: bool,
        using: str | None = None,
        search_params: models.SearchParams | None = None,
    ) -> Any:
        request = edge.QueryRequest(
            limit=limit,
            query=edge.Query.Nearest(_one(query), using),
            filter=edge_filter(query_filter),
            with_payload=with_payload,
            params=_params(search_params),
        )
        return SimpleNamespace(points=self.engine.shard(name).query(request))

    async def retrieve(self, name: str, ids: Sequence[str], with_payload: bool) -> list[Any]:
        return self.engine.shard(name).retrieve(
            [UUID(i) for i in ids], with_payload=with_payload, with_vector=False
        )
