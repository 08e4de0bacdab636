"""Vectors in Qdrant: a server, or the client's local mode for one process.

One point per key, gated by `update_filter`: the server applies the updates of a shard one after
another, so the condition holds for any number of writers. A tombstone is a point without a
vector, which no search can find.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import ceil
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from polyplane.errors import Misconfigured, NotFound, PolyplaneError, Refused, StoreDown
from polyplane.model.collection import Collection
from polyplane.model.items import Held, Hit, Item, Stamp, Where
from polyplane.model.scope import TENANT_ID, Scope
from polyplane.stores.protocol import VectorStore
from polyplane.stores.vector import qdrant_points, qdrant_terms
from polyplane.stores.vector.where import (
    check_full_text,
    check_limit,
    check_names,
    check_query,
    check_tags,
    narrowed,
    reserved,
)

UPSERT_NUMBERS: Final = 200_000
"""Numbers of vectors per request: some 4 MB as JSON, well below the server's 32 MB."""
UPSERT_POINTS: Final = 1_000
PAGE: Final = 10_000
"""Points per page of a scan."""

GRAPH: Final = models.HnswConfigDiff(m=16, ef_construct=200)
SMALL: Final = models.ScalarQuantization(
    scalar=models.ScalarQuantizationConfig(
        type=models.ScalarType.INT8, quantile=0.99, always_ram=True
    )
)
"""Vectors in memory by a byte a number, beside the whole ones that the best are compared with."""
NEAR: Final = models.SearchParams(
    hnsw_ef=128, quantization=models.QuantizationSearchParams(rescore=True, oversampling=2.0)
)
EXACT: Final = models.SearchParams(
    exact=True, quantization=models.QuantizationSearchParams(ignore=True)
)


async def connect(url: str, *, api_key: str = "", timeout_s: float = 30.0) -> QdrantStore:
    """Open `qdrant://host:port`, or `http(s)://host:port` with `?api_key=` where one is needed.

    Without a server: `qdrant://local/absolute/path` or `qdrant://:memory:`, for one process.
    Raises Misconfigured for a URL that cannot work or a folder in use, StoreDown when the server
    does not answer.
    """
    parts = urlsplit(url)
    local = parts.netloc == ":memory:" or (parts.netloc == "local" and parts.path > "/")
    try:
        if parts.netloc == ":memory:":
            client = AsyncQdrantClient(location=":memory:")
        elif local:
            client = AsyncQdrantClient(path=parts.path, force_disable_check_same_thread=True)
        else:
            scheme = "http" if parts.scheme == "qdrant" else parts.scheme
            given = parse_qs(parts.query).get("api_key", [])
            client = AsyncQdrantClient(
                url=f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}",
                api_key=api_key or (given[0] if given else None),
                timeout=ceil(timeout_s),
                check_compatibility=False,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise Misconfigured(f"Qdrant cannot be opened: {error}") from error
    store = QdrantStore(client, local=local, timeout_s=timeout_s)
    try:
        await store.ping()
    except PolyplaneError:
        await store.close()
        raise
    return store


class QdrantStore(VectorStore):
    """The vector store over Qdrant; made by `connect`.

    Local mode keeps everything in memory, computes in the event loop and cannot promise to
    survive a power cut; a server has each update in its write-ahead log, flushed, before it
    answers, because we ask it to wait.
    """

    def __init__(self, client: AsyncQdrantClient, *, local: bool, timeout_s: float) -> None:
        self.multi_process = not local
        self.durable = not local
        self._client = client
        self._local = local
        self._timeout_s = timeout_s

    async def ping(self) -> None:
        async with self._answering("list its collections"):
            await self._client.get_collections()

    async def barrier(self) -> None:
        """Nothing to do: on a server `apply` has waited for it, local mode has none."""

    async def inspect(self) -> list[str]:
        """Its files are the server's own affair."""
        return []

    async def close(self) -> None:
        await self._client.close()

    async def prepare(self, collection: Collection) -> None:
        """Raises Misconfigured when the collection exists with other dimensions or distance."""
        check_names(collection, tuple(collection.tag_types), _reserved(collection))
        wanted = models.VectorParams(size=collection.dimensions, distance=models.Distance.COSINE)
        name = collection.target
        async with self._answering(f"create {name}"):
            if not await self._client.collection_exists(name):
                await self._create(collection, wanted)
            params = (await self._client.get_collection(name)).config.params
            stored, sparse = params.vectors, params.sparse_vectors or {}
            if (
                not isinstance(stored, models.VectorParams)
                or (stored.size, stored.distance) != (wanted.size, wanted.distance)
                or (qdrant_terms.NAME in sparse) != bool(collection.full_text)
            ):
                raise Misconfigured(
                    f"{name} exists with other vectors: {stored}.",
                    fix="Raise the projection's `version`: it is then built anew beside the old.",
                )
            if not self._local:  # where indexes have no effect but a warning
                await self._index(collection)

    async def apply(
        self, collection: Collection, puts: Sequence[Item], drops: Sequence[str], position: int
    ) -> None:
        """In several requests when it is much; each point is gated by itself.

        Raises Refused, naming the tag, when an item's tags are not of the declared types.
        """
        check_tags(collection, puts, _reserved(collection))
        points = qdrant_points.points(collection, puts, drops, position)
        size = min(UPSERT_POINTS, max(1, UPSERT_NUMBERS // collection.dimensions))
        for start in range(0, len(points), size):
            async with self._answering(f"apply to {collection.target}"):
                await self._client.upsert(
                    collection.target,
                    points[start : start + size],
                    wait=True,
                    update_filter=qdrant_points.older_than(position),
                )

    async def scan(
        self, collection: Collection, *, after: str | None = None, batch_size: int = 10_000
    ) -> AsyncIterator[list[Stamp]]:
        """Collects all stamps first (some 300 bytes each), since Qdrant cannot sort by key.

        Not a snapshot: what is applied meanwhile may or may not be seen.
        """
        stamps: list[Stamp] = []
        offset: models.ExtendedPointId | None = None
        while True:
            async with self._answering(f"scan {collection.target}"):
                records, offset = await self._client.scroll(
                    collection.target,
                    limit=PAGE,
                    offset=offset,
                    with_payload=list(qdrant_points.OWN),
                    with_vectors=False,
                )
            found = map(qdrant_points.stamp, records)
            stamps += [stamp for stamp in found if after is None or stamp.key > after]
            if offset is None:
                break
        stamps.sort()
        for start in range(0, len(stamps), batch_size):
            yield stamps[start : start + batch_size]

    async def stamps(self, collection: Collection, keys: Sequence[str]) -> list[Stamp]:
        own = list(qdrant_points.OWN)
        return [
            qdrant_points.stamp(record)
            for record in await self._under(collection, keys, payload=own, vectors=False)
        ]

    async def contents(self, collection: Collection, keys: Sequence[str]) -> list[Held]:
        return [
            qdrant_points.held(collection, record)
            for record in await self._under(collection, keys, payload=True, vectors=True)
        ]

    async def _under(
        self, collection: Collection, keys: Sequence[str], *, payload: Any, vectors: bool
    ) -> list[models.Record]:
        """All points under `keys`, whatever their ids."""
        found: list[models.Record] = []
        for start in range(0, len(keys), UPSERT_POINTS):
            offset: models.ExtendedPointId | None = None
            while True:
                async with self._answering(f"read {collection.target}"):
                    records, offset = await self._client.scroll(
                        collection.target,
                        scroll_filter=qdrant_points.under(keys[start : start + UPSERT_POINTS]),
                        limit=PAGE,
                        offset=offset,
                        with_payload=payload,
                        with_vectors=vectors,
                    )
                found += records
                if offset is None:
                    break
        return found

    async def bury(self, collection: Collection, keys: Sequence[str], position: int) -> None:
        """What somebody put under a key with a point id of his own goes, too; and what he put
        there without a key, of which no tombstone is left.
        """
        for start in range(0, len(keys), UPSERT_POINTS):
            some = keys[start : start + UPSERT_POINTS]
            held = models.FilterSelector(filter=qdrant_points.under(some))
            async with self._answering(f"bury in {collection.target}"):
                await self._client.delete(collection.target, held, wait=True)
                named = [key for key in some if not key.startswith(qdrant_points.STRANGE)]
                if points := qdrant_points.points(collection, [], named, position):
                    await self._client.upsert(collection.target, points, wait=True)

    async def search(
        self,
        collection: Collection,
        scope: Scope,
        embedding: Sequence[float],
        *,
        limit: int = 10,
        where: Where | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """Exact on small collections, else by Qdrant's HNSW graph. Zeros find nothing."""
        check_query(collection, embedding, limit)
        wanted = qdrant_points.filtered(collection, narrowed(collection, scope, where))
        if not any(embedding):
            return []
        async with self._answering(f"search {collection.target}"):
            found = await self._client.query_points(
                collection.target,
                query=[float(number) for number in embedding],
                query_filter=wanted,
                search_params=None if self._local else EXACT if exact else NEAR,
                limit=limit,
                with_payload=True,
            )
        hits = qdrant_points.hits(collection, found.points)
        hits = [hit._replace(score=qdrant_points.cosine(hit.score)) for hit in hits]
        return sorted(hits, key=lambda hit: (-hit.score, hit.key))

    async def match(
        self,
        collection: Collection,
        scope: Scope,
        question: str,
        *,
        limit: int = 10,
        where: Where | None = None,
    ) -> list[Hit]:
        check_limit(limit)
        check_full_text(collection)
        wanted = qdrant_points.filtered(collection, narrowed(collection, scope, where))
        looked_for = qdrant_terms.asked_for(question, collection.full_text)
        async with self._answering(f"search {collection.target}"):
            found = await self._client.query_points(
                collection.target,
                query=looked_for,
                using=qdrant_terms.NAME,
                query_filter=wanted,
                limit=limit,
                with_payload=True,
            )
        hits = [hit for hit in qdrant_points.hits(collection, found.points) if hit.score > 0]
        return sorted(hits, key=lambda hit: (-hit.score, hit.key))

    async def get(self, collection: Collection, scope: Scope, keys: Sequence[str]) -> list[Hit]:
        where = narrowed(collection, scope, None)
        found: dict[str, Hit] = {}
        for start in range(0, len(keys), UPSERT_POINTS):
            some = keys[start : start + UPSERT_POINTS]
            ids = [qdrant_points.point_id(collection, key) for key in some]
            async with self._answering(f"read {collection.target}"):
                records = await self._retrieved(collection, ids, where)
            found |= {hit.key: hit for hit in qdrant_points.hits(collection, records)}
        return [found[key] for key in keys if key in found]

    async def _retrieved(
        self, collection: Collection, ids: Sequence[str], where: Where | None
    ) -> list[models.Record]:
        """The points with these ids that satisfy `where`; only a scroll can be filtered."""
        if where is None:
            return await self._client.retrieve(collection.target, list(ids), with_payload=True)
        found, _ = await self._client.scroll(
            collection.target,
            scroll_filter=qdrant_points.filtered(collection, where, ids),
            limit=max(1, len(ids)),
            with_payload=True,
            with_vectors=False,
        )
        return found

    async def maintain(self, collection: Collection, *, full: bool = False) -> None:
        """Nothing to do: Qdrant optimizes its segments by itself."""

    async def forget(self, collection: Collection) -> None:
        async with self._answering(f"delete {collection.target}"):
            if await self._client.collection_exists(collection.target):
                await self._client.delete_collection(collection.target)

    async def _create(self, collection: Collection, vectors: models.VectorParams) -> None:
        name = collection.target
        sparse = {qdrant_terms.NAME: qdrant_terms.PARAMS} if collection.full_text else None
        try:
            await self._client.create_collection(
                name,
                vectors_config=vectors,
                sparse_vectors_config=sparse,
                hnsw_config=GRAPH,
                quantization_config=None if self._local else SMALL,
            )
        except UnexpectedResponse:
            if not await self._client.collection_exists(name):
                raise  # else another process has just created it

    async def _index(self, collection: Collection) -> None:
        """A strict server wants an index for what a filter reads: the gate reads positions, `bury`
        looks for what is under a key.
        """
        schemas: dict[str, Any] = {
            qdrant_points.KEY: models.PayloadSchemaType.KEYWORD,
            qdrant_points.POSITION: models.PayloadSchemaType.INTEGER,
        }
        for tag in set(collection.indexes) - {TENANT_ID}:
            schemas[tag] = qdrant_points.INDEXES[collection.tag_types.get(tag, str)]
        for name, schema in schemas.items():
            await self._client.create_payload_index(collection.target, name, field_schema=schema)
        if TENANT_ID in collection.marks:
            await self._index_tenants(collection)

    async def _index_tenants(self, collection: Collection) -> None:
        """A server from 1.11 on keeps what is of one tenant together; an older one indexes it."""
        name, keyword = collection.target, models.PayloadSchemaType.KEYWORD
        params = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        try:
            await self._client.create_payload_index(name, TENANT_ID, field_schema=params)
        except UnexpectedResponse as error:
            if error.status_code not in (400, 422):
                raise
            await self._client.create_payload_index(name, TENANT_ID, field_schema=keyword)

    @asynccontextmanager
    async def _answering(self, what: str) -> AsyncIterator[None]:
        """StoreDown when the engine does not answer in time; an error of ours when it refuses."""
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as error:
            raise StoreDown(f"Qdrant did not {what} within {self._timeout_s:g} s.") from error
        except (ResponseHandlingException, ResourceExhaustedResponse) as error:
            raise StoreDown(
                f"Qdrant could not {what}: {error}", fix="Check that the server runs at its URL."
            ) from error
        except UnexpectedResponse as error:
            raise _meaning(error, what) from error
        except ValueError as error:  # how local mode says so
            if "not found" not in str(error):
                raise
            raise NotFound(f"Qdrant could not {what}: {error}", fix="Prepare it first.") from error


def _reserved(collection: Collection) -> tuple[str, ...]:
    """What a tag cannot be called."""
    return (*qdrant_points.OWN, collection.text_name, *reserved(collection))


def _meaning(error: UnexpectedResponse, what: str) -> Exception:
    """What an HTTP status other than success means here."""
    message = f"Qdrant could not {what}: {error}"
    match error.status_code:
        case 401 | 403:
            return Misconfigured(message, fix="Check the API key.")
        case 404:
            return NotFound(message, fix="Prepare the collection first.")
        case 400 | 413 | 422:
            return Refused(message)
    return StoreDown(message)
