"""Qdrant's client in local mode keeps the contract of vector stores, on disk and in memory."""

from __future__ import annotations

import asyncio
import socket
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from qdrant_client import models

from polyplane.errors import Misconfigured, NotFound, PolyplaneError, Refused, StoreDown
from polyplane.model.collection import Collection
from polyplane.stores.protocol import VectorStore
from polyplane.stores.vector import qdrant
from polyplane.testing.vector import RawItem, VectorStoreContract
from tests.contract.vector_mutants import run


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

    async def raw_double(self, store: VectorStore, collection: Collection, key: str) -> None:
        assert isinstance(store, qdrant.QdrantStore)
        records, _ = await store._client.scroll(collection.target, limit=100_000, with_vectors=True)
        held = next(r for r in records if (r.payload or {})["_key"] == key)
        twin = models.PointStruct(
            id=str(uuid4()), vector=cast(Any, held.vector), payload=held.payload
        )
        await store._client.upsert(collection.target, [twin], wait=True)

    async def raw_words(
        self, store: VectorStore, collection: Collection, key: str, other: str
    ) -> None:
        assert isinstance(store, qdrant.QdrantStore)
        records, _ = await store._client.scroll(collection.target, limit=100, with_vectors=True)
        held = {(r.payload or {})["_key"]: r for r in records}
        vectors = cast(Any, held[key].vector) | {"_terms": cast(Any, held[other].vector)["_terms"]}
        point = models.PointStruct(id=held[key].id, vector=vectors, payload=held[key].payload)
        await store._client.upsert(collection.target, [point], wait=True)


class QdrantOnDisk(TestQdrantInMemory):
    survives_closing = True

    async def open(self, folder: Path) -> VectorStore:
        return await qdrant.connect(f"qdrant://local{folder}")


@pytest.mark.parametrize(
    "test",
    [
        "test_a_put_is_stored_whole",
        "test_any_sequence_ends_as_the_positions_say",
        "test_a_forgotten_collection_is_gone",
        "test_what_passed_the_barrier_is_there_again",
    ],
)
async def test_on_disk(test: str, tmp_path: Path) -> None:
    """A millisecond or more for each point: only what a disk can change."""
    await run(QdrantOnDisk(), test, tmp_path)


async def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    store = await qdrant.connect(f"qdrant://local{tmp_path}")
    assert not (store.multi_process or store.durable)
    with pytest.raises(Misconfigured):
        await qdrant.connect(f"qdrant://local{tmp_path}")
    await store.close()
    await (await qdrant.connect(f"qdrant://local{tmp_path}")).close()


async def test_a_server_that_is_not_there_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for url in (f"qdrant://127.0.0.1:{port}", f"http://127.0.0.1:{port}/prefix?api_key=x"):
        with pytest.raises(StoreDown):
            await qdrant.connect(url, timeout_s=2.0)


@pytest.mark.parametrize(
    ("status", "error"), [(401, Misconfigured), (404, NotFound), (422, Refused), (500, StoreDown)]
)
async def test_what_a_server_refuses_has_a_meaning(
    status: int, error: type[PolyplaneError]
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}" % status)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(error):
            await qdrant.connect(f"qdrant://127.0.0.1:{port}", timeout_s=2.0)


async def test_a_server_that_does_not_answer_is_down() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silence, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(10):
            with pytest.raises(StoreDown):
                await qdrant.connect(f"qdrant://127.0.0.1:{port}", timeout_s=0.5)
