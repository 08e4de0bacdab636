"""The contract of vector stores: inherit it, say how to open the engine, and how to look past it.

    class TestMine(VectorStoreContract):
        async def open(self, folder):
            return await mine.connect(f"mine://{folder}")

        async def raw_items(self, store, collection):
            ...  # read with the engine's own client, not with the adapter

What a test stores it compares with `raw_items`, so an adapter cannot agree with itself in error.
Needs pytest with pytest-asyncio.
"""

from __future__ import annotations

import pytest

from polyplane.errors import Refused
from polyplane.stores.protocol import VectorStore
from polyplane.testing.samples import (
    ALL,
    HOSTILE,
    NOTES,
    REFUSED_FILTERS,
    content_of,
    matches,
    nearest,
    note,
    notes,
    query,
)
from polyplane.testing.vector_matching import VectorMatchingContract
from polyplane.testing.vector_writing import RawItem

__all__ = ["RawItem", "VectorStoreContract"]


class VectorStoreContract(VectorMatchingContract):
    """What every vector store does. Subclass it as `Test...`."""

    # What is dropped is hidden, and remembered

    async def test_a_drop_leaves_a_tombstone_without_content(self, store: VectorStore) -> None:
        await store.apply(NOTES, notes(3), [], 1)
        await store.apply(NOTES, [], ["n-001", "never-there"], 2)
        raw = await self._raw(store)
        for key in ("n-001", "never-there"):
            assert raw[key][:5] == (key, 2, None, None, {})
            assert raw[key].vector is None or not any(raw[key].vector or ())

    async def test_tombstones_are_hidden(self, store: VectorStore) -> None:
        await store.apply(NOTES, notes(5), [], 1)
        await store.apply(NOTES, [], ["n-001", "n-004"], 2)
        left = {"n-000", "n-002", "n-003"}
        for where in (None, {"owner": None}, {"owner": ["ada", None]}):
            hits = await store.search(NOTES, ALL, query(1), limit=10, where=where)
            assert {hit.key for hit in hits} <= left
        assert {h.key for h in await store.search(NOTES, ALL, query(1), limit=10)} == left
        found = await store.get(NOTES, ALL, [f"n-{i:03}" for i in range(5)])
        assert [hit.key for hit in found] == sorted(left)

    async def test_the_dead_rise_only_by_a_newer_put(self, store: VectorStore) -> None:
        await store.apply(NOTES, [], ["a", "b"], 5)
        await store.apply(NOTES, [note("a"), note("b")], [], 4)
        assert await store.get(NOTES, ALL, ["a", "b"]) == []
        await store.apply(NOTES, [note("a")], [], 6)
        assert [hit.key for hit in await store.get(NOTES, ALL, ["a", "b"])] == ["a"]
        assert [hit.key for hit in await store.search(NOTES, ALL, query(1))] == ["a"]

    # Scan

    async def test_scan_of_nothing(self, store: VectorStore) -> None:
        assert await self._stamps(store) == []

    @pytest.mark.parametrize("batch_size", [1, 7, 1_000])
    async def test_scan_is_whole_and_in_the_order_of_code_points(
        self, store: VectorStore, batch_size: int
    ) -> None:
        keys = [*HOSTILE, "", "a", "B", "é", "\uffee", "\U0001f600", '["a",1]', "x" * 500]
        keys += ["0190b5a7-0000-7000-8000-000000000001", "0190B5A7-0000-7000-8000-000000000001"]
        await store.apply(NOTES, [note(key) for key in keys[::2]], keys[1::2], 3)
        stamps = await self._stamps(store, batch_size=batch_size)
        assert [stamp.key for stamp in stamps] == sorted(keys)
        assert {s.key for s in stamps if s.digest is None} == set(keys[1::2])

    async def test_scan_goes_on_behind_a_key(self, store: VectorStore) -> None:
        keys = [*HOSTILE, "", "a", "B", "é", "\uffee", "\U0001f600", '["a",1]', "x" * 500]
        await store.apply(NOTES, [note(key) for key in keys[::2]], keys[1::2], 3)
        for after in (*keys, "\x01", "a ", "\U0010ffff"):
            found = [s.key async for stamps in store.scan(NOTES, after=after) for s in stamps]
            assert found == sorted(key for key in keys if key > after), after

    # Search and get

    @pytest.mark.parametrize("seed", range(3))
    async def test_search_ranks_by_cosine(self, store: VectorStore, seed: int) -> None:
        items = notes(200)
        await store.apply(NOTES, items, [], 1)
        hits = await store.search(NOTES, ALL, query(seed), limit=12)
        wanted = nearest(items, query(seed))[:12]
        assert [hit.key for hit in hits] == [key for key, _ in wanted]
        assert [hit.score for hit in hits] == pytest.approx([s for _, s in wanted], abs=1e-5)
        by_key = {item.key: item for item in items}
        for hit in hits:
            assert hit.text == by_key[hit.key].content.text
            assert dict(hit.tags) == content_of(by_key[hit.key])

    async def test_search_filters(self, store: VectorStore) -> None:
        items = notes(60)
        await store.apply(NOTES, items, ["n-gone"], 1)
        for where in self.filters:
            expected = {item.key for item in items if matches(content_of(item), where)}
            hits = await store.search(NOTES, ALL, query(0), limit=100, where=where)
            assert {hit.key for hit in hits} == expected, where
            assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)

    async def test_filters_apply_before_the_limit(self, store: VectorStore) -> None:
        items = notes(200)
        farthest = nearest(items, query(0))[-1][0]
        rare = [note(i.key, owner="rare") if i.key == farthest else i for i in items]
        await store.apply(NOTES, rare, [], 1)
        hits = await store.search(NOTES, ALL, query(0), limit=1, where={"owner": "rare"})
        assert [hit.key for hit in hits] == [farthest]

    async def test_impossible_filters_are_refused(self, store: VectorStore) -> None:
        for where, field in REFUSED_FILTERS:
            with pytest.raises(Refused) as refused:
                await store.search(NOTES, ALL, query(0), where=where)
            assert refused.value.field == field, where

    async def test_impossible_searches_are_refused(self, store: VectorStore) -> None:
        for embedding in ([1.0], [float("nan")] * NOTES.dimensions):
            with pytest.raises(Refused) as refused:
                await store.search(NOTES, ALL, embedding)
            assert refused.value.field == "embedding"
        for limit in (0, -1, 10**9):
            with pytest.raises(Refused) as refused:
                await store.search(NOTES, ALL, query(0), limit=limit)
            assert refused.value.field == "limit"

    async def test_hostile_strings_are_only_strings(self, store: VectorStore) -> None:
        items = [note(text, text, owner=text) for text in HOSTILE]
        await store.apply(NOTES, [*items, note("innocent", owner="ada")], [], 1)
        for text in HOSTILE:
            hits = await store.search(NOTES, ALL, query(0), limit=100, where={"owner": text})
            assert [(hit.key, hit.text, hit.tags["owner"]) for hit in hits] == [(text,) * 3]
            assert [hit.key for hit in await store.get(NOTES, ALL, [text])] == [text]
            with pytest.raises(Refused):
                await store.search(NOTES, ALL, query(0), where={text: "ada"})
        assert len(await self._raw(store)) == len(HOSTILE) + 1

    async def test_get_keeps_the_order_asked_for(self, store: VectorStore) -> None:
        await store.apply(NOTES, notes(5), ["gone"], 1)
        hits = await store.get(NOTES, ALL, ["n-003", "missing", "n-000", "gone", "n-004"])
        assert [hit.key for hit in hits] == ["n-003", "n-000", "n-004"]
        assert all(hit.score == 1.0 for hit in hits)
        assert dict(hits[1].tags) == content_of(notes(1)[0])
        assert await store.get(NOTES, ALL, []) == []

    async def test_a_vector_of_zeros_is_an_item_too(self, store: VectorStore) -> None:
        blank = note("blank")
        blank.content = type(blank.content)("", {}, [0.0] * NOTES.dimensions)
        await store.apply(NOTES, [*notes(2), blank], [], 1)
        assert [hit.key for hit in await store.get(NOTES, ALL, ["blank"])] == ["blank"]
        hits = await store.search(NOTES, ALL, query(0), limit=10)
        assert {"n-000", "n-001"} <= {hit.key for hit in hits}
        assert all(-1.0 <= hit.score <= 1.0 for hit in hits)
        assert await store.search(NOTES, ALL, [0.0] * NOTES.dimensions) == []
