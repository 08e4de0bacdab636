"""Points that somebody put into a Qdrant collection by hand: seen, passed over, and cleared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from qdrant_client import models

from polyplane.model.items import Stamp
from polyplane.model.key import can_be_told
from polyplane.stores.vector import qdrant
from polyplane.stores.vector.qdrant import QdrantStore
from polyplane.testing.samples import ALL, NOTES, note, notes, query
from tests.contract.edge_client import EdgeClient, EdgeEngine

MANY: list[dict[str, Any]] = [
    {},
    {"text": "by hand"},
    {"_key": 5, "_position": 3, "_digest": "0" * 32},
    {"_key": None},
    {"_key": "a"},
    {"_key": "b", "_position": "3", "_digest": "0" * 32},
    {"_key": "c", "_position": 2.5, "_digest": 7},
    {"_key": "n-000", "_position": True, "text": 5},
    {"_key": "d", "_position": 3, "_digest": "0" * 32},
    {"_key": "e", "_position": 3},
]
"""Payloads; the last two are as good as ours, but for what is in them."""


@pytest.fixture(params=["local", "engine"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[QdrantStore]:
    """An empty collection in local mode, and in the engine of the server."""
    if request.param == "local":
        store = await qdrant.connect("qdrant://:memory:")
    else:
        client: Any = EdgeClient(EdgeEngine(tmp_path))
        store = QdrantStore(client, local=False, timeout_s=30.0)
    await store.prepare(NOTES)
    yield store
    await store.close()


async def put_by_hand(store: QdrantStore, payloads: list[dict[str, Any]]) -> None:
    """Points with numbers and UUIDs for ids, and vectors that are found."""
    points = [
        models.PointStruct(
            id=number if number % 2 else str(UUID(int=number)),
            vector=[float(x) for x in query(number)],
            payload=payload,
        )
        for number, payload in enumerate(payloads)
    ]
    await store._client.upsert(NOTES.target, points, wait=True)


async def held(store: QdrantStore) -> dict[str, list[Stamp]]:
    """What a scan gives."""
    found: dict[str, list[Stamp]] = {}
    async for stamps in store.scan(NOTES):
        assert stamps == sorted(stamps)
        for stamp in stamps:
            found.setdefault(stamp.key, []).append(stamp)
    return found


async def test_strange_points_are_seen_and_cleared(store: QdrantStore) -> None:
    """Each has a stamp that no change could win against, and nothing that is ours is touched."""
    await store.apply(NOTES, notes(3), ["gone"], 5)
    ours = await held(store)
    await put_by_hand(store, MANY)
    all_held = await held(store)
    strange = {key: stamps for key, stamps in all_held.items() if stamps != ours.get(key)}
    assert len(all_held) == len(ours) + len(MANY) - 1  # one is under a key of ours
    assert sum(not can_be_told(key) for key in strange) == 4
    for key, stamps in strange.items():
        assert sorted(await store.stamps(NOTES, [key])) == stamps
        if key not in ("d", "e"):
            assert max(stamp.position for stamp in stamps) > 1 << 52
            assert None not in [stamp.digest for stamp in stamps]
    await store.bury(NOTES, sorted(strange), 6)
    left = await held(store)
    told = {key: [Stamp(key, 6, None)] for key in strange if can_be_told(key)}
    assert left == {**ours, **told}
    await store.apply(NOTES, [note("n-000", "again")], [], 7)
    assert [hit.text for hit in await store.get(NOTES, ALL, ["n-000"])] == ["again"]


async def test_readers_pass_over_strange_points(store: QdrantStore) -> None:
    await store.apply(NOTES, notes(3), ["gone"], 5)
    await put_by_hand(store, MANY[:8])
    keys = ["n-000", "n-001", "n-002"]
    assert sorted(hit.key for hit in await store.search(NOTES, ALL, query(0), limit=100)) == keys
    assert [hit.key for hit in await store.get(NOTES, ALL, [*keys, "a", "b", "gone"])] == keys
    contents = await store.contents(NOTES, ["n-000", "n-001", "a", "b"])
    assert sorted(it.stamp.key for it in contents if it.content is not None) == keys[:2]
