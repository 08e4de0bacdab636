"""What vector stores do when they are written to; `VectorStoreContract` inherits it."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from polyplane.errors import Misconfigured, NotFound, Refused
from polyplane.model.collection import Collection
from polyplane.model.items import Range, Stamp
from polyplane.reconcile.deep import is_like
from polyplane.stores.protocol import VectorStore
from polyplane.testing.samples import (
    ALL,
    HOSTILE,
    NOTES,
    REFUSED_TAGS,
    UNTYPED,
    content_of,
    note,
    notes,
    query,
)


class RawItem(NamedTuple):
    """What the engine really holds under one key. `vector` may be scaled to unit length."""

    key: str
    position: int
    digest: str | None
    text: str | None
    tags: Mapping[str, Any]
    vector: Sequence[float] | None


class VectorWritingContract(ABC):
    """How an engine is opened and looked into, and what becomes of what is written."""

    survives_closing = True
    """Whether a store opened again in the same folder holds what it held."""

    @abstractmethod
    async def open(self, folder: Path) -> VectorStore:
        """The adapter, opened on what is in `folder`."""

    @abstractmethod
    async def raw_items(self, store: VectorStore, collection: Collection) -> list[RawItem]:
        """Every item the engine holds, tombstones included, read past the adapter."""

    @abstractmethod
    async def raw_double(self, store: VectorStore, collection: Collection, key: str) -> None:
        """Put what is held under `key` there a second time, past the adapter."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[VectorStore]:
        """A fresh store with the sample collections prepared."""
        store = await self.open(tmp_path)
        await store.prepare(NOTES)
        await store.prepare(UNTYPED)
        yield store
        await store.close()

    async def _raw(self, store: VectorStore, collection: Collection = NOTES) -> dict[str, RawItem]:
        items = await self.raw_items(store, collection)
        valued = ({n: v for n, v in i.tags.items() if v is not None} for i in items)
        by_key = {i.key: i._replace(tags=t) for i, t in zip(items, valued, strict=True)}
        assert len(by_key) == len(items), "a key is stored more than once"
        return by_key

    async def _stamps(
        self, store: VectorStore, collection: Collection = NOTES, batch_size: int = 10_000
    ) -> list[Stamp]:
        batches = [b async for b in store.scan(collection, batch_size=batch_size)]
        assert all(0 < len(batch) <= batch_size for batch in batches)
        return [stamp for batch in batches for stamp in batch]

    async def _assert_holds(self, store: VectorStore, expected: Mapping[str, Stamp]) -> None:
        """The engine holds exactly `expected`, and the scan says so."""
        raw = await self._raw(store)
        assert {k: Stamp(k, i.position, i.digest) for k, i in raw.items()} == expected
        assert await self._stamps(store) == [expected[key] for key in sorted(expected)]

    # What is put is stored

    async def test_a_put_is_stored_whole(self, store: VectorStore) -> None:
        items = notes(20)
        await store.apply(NOTES, items, [], 7)
        raw = await self._raw(store)
        assert set(raw) == {item.key for item in items}
        for item in items:
            stored = raw[item.key]
            assert (stored.position, stored.digest) == (7, item.digest)
            tags = {name: value for name, value in content_of(item).items() if value is not None}
            assert (stored.text, stored.tags) == (item.content.text, tags)
            assert stored.vector is not None
            wanted = np.asarray(item.content.embedding)
            cosine = np.dot(stored.vector, wanted) / np.linalg.norm(stored.vector)
            assert cosine == pytest.approx(np.linalg.norm(wanted), abs=1e-5)

    async def test_applying_again_changes_nothing(self, store: VectorStore) -> None:
        for _ in range(2):
            await store.apply(NOTES, notes(3), ["gone"], 7)
        before = await self._raw(store)
        await store.apply(NOTES, [note("n-000", "altered")], [], 7)
        assert await self._raw(store) == before
        await store.apply(NOTES, [], [], 8)
        assert await self._raw(store) == before

    async def test_the_newer_position_wins(self, store: VectorStore) -> None:
        await store.apply(NOTES, [note("a", "old"), note("b", "new")], ["c"], 5)
        await store.apply(NOTES, [note("b", "newest"), note("c", "born")], [], 9)
        await store.apply(NOTES, [note("a", "next"), note("b", "stale"), note("d")], ["c"], 7)
        raw = await self._raw(store)
        assert {k: (i.position, i.text) for k, i in raw.items()} == {
            "a": (7, "next"),
            "b": (9, "newest"),
            "c": (9, "born"),
            "d": (7, "text of d"),
        }

    async def test_a_newer_put_replaces_all_of_the_older(self, store: VectorStore) -> None:
        await store.apply(NOTES, [note("a", owner="ada", stars=3)], [], 1)
        await store.apply(NOTES, [note("a", owner=None, score=0.5)], [], 2)
        stored = (await self._raw(store))["a"]
        assert stored.tags == {"score": 0.5}

    async def test_positions_are_exact_up_to_53_bits(self, store: VectorStore) -> None:
        top = 2**53 - 1
        await store.apply(NOTES, [note("a", "first")], [], top - 2)
        await store.apply(NOTES, [note("a", "second")], [], top - 1)
        await store.apply(NOTES, [note("a", "same")], [], top - 1)
        assert (await self._raw(store))["a"].text == "second"
        await store.apply(NOTES, [note("a", "last")], [], top)
        await self._assert_holds(store, {"a": Stamp("a", top, note("a", "last").digest)})

    async def test_large_batches(self, store: VectorStore) -> None:
        await store.apply(NOTES, notes(1_200), [], 1)
        late = [note(f"n-{i:03}", "late") for i in range(600, 1_100)]
        await store.apply(NOTES, late, [f"n-{i:03}" for i in range(200)], 2)
        expected = {item.key: Stamp(item.key, 1, item.digest) for item in notes(1_200)}
        expected |= {item.key: Stamp(item.key, 2, item.digest) for item in late}
        expected |= {f"n-{i:03}": Stamp(f"n-{i:03}", 2, None) for i in range(200)}
        await self._assert_holds(store, expected)
        assert len(await store.get(NOTES, ALL, list(expected))) == 1_000

    async def test_any_sequence_ends_as_the_positions_say(self, store: VectorStore) -> None:
        dice = random.Random(20)
        expected: dict[str, Stamp] = {}
        for _ in range(40):
            position = dice.randrange(1, 30)
            keys = dice.sample([f"k{i}" for i in range(12)], dice.randrange(1, 6))
            dropped = keys[: dice.randrange(len(keys) + 1)]
            puts = [note(k, f"{k} at {position}") for k in keys if k not in dropped]
            await store.apply(NOTES, puts, dropped, position)
            for key, digest in [(i.key, i.digest) for i in puts] + [(k, None) for k in dropped]:
                if key not in expected or expected[key].position < position:
                    expected[key] = Stamp(key, position, digest)
            if dice.random() < 0.1:
                await store.maintain(NOTES)
        await self._assert_holds(store, expected)

    # What cannot be stored

    async def test_impossible_tags_are_refused(self, store: VectorStore) -> None:
        await store.apply(NOTES, notes(2), [], 1)
        before = await self._raw(store)
        for tags in REFUSED_TAGS:
            with pytest.raises(Refused) as refused:
                await store.apply(NOTES, [note("a"), note("b", **tags)], ["n-000"], 2)
            assert refused.value.field in tags
        assert await self._raw(store) == before

    async def test_vectors_that_are_not_finite_are_refused(self, store: VectorStore) -> None:
        bad = note("bad")
        bad.content = type(bad.content)("", {}, [float("inf")] * NOTES.dimensions)
        with pytest.raises(Refused) as refused:
            await store.apply(NOTES, [note("a"), bad], [], 1)
        assert refused.value.field == "embedding"
        assert await self._raw(store) == {}

    async def test_vectors_of_another_length_are_misconfigured(self, store: VectorStore) -> None:
        long = note("long")
        long.content = type(long.content)("", {}, [1.0] * (NOTES.dimensions + 1))
        with pytest.raises(Misconfigured):
            await store.apply(NOTES, [note("a"), long], [], 1)
        assert await self._raw(store) == {}

    # What the gate does not stop

    async def test_stamps_are_what_is_held_under_keys(self, store: VectorStore) -> None:
        await store.apply(NOTES, notes(1_200), ["gone"], 3)
        asked = [f"n-{i:03}" for i in range(0, 1_300, 2)]
        stamps = await store.stamps(NOTES, [*asked, *HOSTILE, "gone"])
        expected = [Stamp(i.key, 3, i.digest) for i in notes(1_200) if i.key in asked]
        assert sorted(stamps) == sorted([Stamp("gone", 3, None), *expected])
        assert await store.stamps(NOTES, []) == []

    async def test_contents_are_what_is_held(self, store: VectorStore) -> None:
        items = [*notes(20), *(note(key, f"text {key}") for key in HOSTILE)]
        await store.apply(NOTES, items, ["gone"], 3)
        held = await store.contents(NOTES, [*(item.key for item in items), "gone", "never"])
        by_key = {found.stamp.key: found for found in held}
        assert len(held) == len(by_key) == len(items) + 1
        assert by_key["gone"] == (Stamp("gone", 3, None), None)
        for item in items:
            stamp, content = by_key[item.key]
            assert stamp == Stamp(item.key, 3, item.digest)
            assert is_like(item.content, content)
            assert not is_like(replace(item.content, text="another"), content)
            assert not is_like(replace(item.content, tags={"owner": "nobody"}), content)
            other = [-x for x in item.content.embedding]
            assert is_like(replace(item.content, embedding=other), content) is not any(other)

    async def test_bury_clears_a_place_whatever_its_position(self, store: VectorStore) -> None:
        top = 2**53 - 1
        await store.apply(NOTES, [note("ahead"), *(note(key) for key in HOSTILE)], ["gone"], top)
        await store.apply(NOTES, [note("left"), note("low")], [], 3)
        await store.bury(NOTES, ["ahead", "gone", "low", "never", *HOSTILE], 5)
        buried = {key: Stamp(key, 5, None) for key in ("ahead", "gone", "low", "never", *HOSTILE)}
        left = {"left": Stamp("left", 3, note("left").digest)}
        await self._assert_holds(store, buried | left)
        assert [hit.key for hit in await store.search(NOTES, ALL, query(0))] == ["left"]
        await store.apply(NOTES, [note("ahead", "old"), note("low", "old")], [], 5)
        await store.apply(NOTES, [note("ahead", "new")], [], 6)
        assert [hit.text for hit in await store.get(NOTES, ALL, ["ahead", "low"])] == ["new"]
        await store.bury(NOTES, [], 7)

    async def test_bury_clears_what_is_there_twice(self, store: VectorStore) -> None:
        await store.apply(NOTES, [note("a"), note("b")], [], 3)
        await self.raw_double(store, NOTES, "a")
        stamp = Stamp("a", 3, note("a").digest)
        assert await store.stamps(NOTES, ["a"]) == [stamp, stamp]
        assert [s.key for s in await self._stamps(store)] == ["a", "a", "b"]
        await store.bury(NOTES, ["a"], 5)
        await self._assert_holds(
            store, {"a": Stamp("a", 5, None), "b": Stamp("b", 3, note("b").digest)}
        )
        await store.apply(NOTES, [note("a", "new")], [], 6)
        assert (await self._raw(store))["a"].text == "new"

    # Collections

    async def test_prepare_again_keeps_what_is_there(self, store: VectorStore) -> None:
        await store.apply(NOTES, notes(3), [], 1)
        before = await self._raw(store)
        await store.prepare(NOTES)
        assert await self._raw(store) == before

    async def test_prepare_refuses_another_shape(self, store: VectorStore) -> None:
        with pytest.raises(Misconfigured):
            await store.prepare(replace(NOTES, dimensions=NOTES.dimensions + 1))
        with pytest.raises(Misconfigured):
            await store.prepare(replace(NOTES, name="dotted", tag_types={"a.b": str}))

    async def test_an_unprepared_collection_is_not_found(self, store: VectorStore) -> None:
        unknown = replace(NOTES, name="unknown")
        with pytest.raises(NotFound):
            await store.search(unknown, ALL, query(0))
        with pytest.raises(NotFound):
            await store.apply(unknown, notes(1), [], 1)

    async def test_generations_of_a_collection_do_not_mix(self, store: VectorStore) -> None:
        second = replace(NOTES, generation=2)
        await store.prepare(second)
        await store.apply(NOTES, [note("a", "one"), note("b")], [], 9)
        await store.apply(second, [note("a", "two")], [], 1)
        assert (await self._raw(store))["a"].text == "one"
        assert {k: i.text for k, i in (await self._raw(store, second)).items()} == {"a": "two"}

    async def test_a_forgotten_collection_is_gone(self, store: VectorStore) -> None:
        second = replace(NOTES, generation=2)
        await store.prepare(second)
        await store.apply(second, [note("a", "two")], [], 1)
        await store.apply(NOTES, notes(3), ["gone"], 9)
        await store.forget(NOTES)
        await store.forget(NOTES)
        with pytest.raises(NotFound):
            await store.search(NOTES, ALL, query(0))
        await store.prepare(NOTES)
        assert await self._raw(store) == {}
        await store.apply(NOTES, [note("gone")], [], 1)  # nothing newer is remembered
        assert set(await self._raw(store)) == {"gone"}
        assert set(await self._raw(store, second)) == {"a"}

    async def test_untyped_tags_come_as_they_are(self, store: VectorStore) -> None:
        await store.apply(UNTYPED, [note("a", color="red", size=3), note("b")], [], 1)
        await store.apply(UNTYPED, [note("a", shape="round"), note("c", weight=2.5)], [], 2)
        await store.prepare(UNTYPED)
        raw = await self._raw(store, UNTYPED)
        stored = {key: item.tags for key, item in raw.items()}
        assert stored == {"a": {"shape": "round"}, "b": {}, "c": {"weight": 2.5}}
        for where, keys in (
            ({"shape": "round"}, {"a"}),
            ({"weight": [1, 2.5]}, {"c"}),
            ({"shape": None}, {"b", "c"}),
            ({"color": "red"}, set()),
            ({"never_seen": 1}, set()),
            ({"never_seen": None}, {"a", "b", "c"}),
            ({"shape": 3}, set()),
            ({"shape": Range(ge=3)}, set()),
            ({"weight": Range(ge=2)}, {"c"}),
        ):
            hits = await store.search(UNTYPED, ALL, query(0), where=where)
            assert {hit.key for hit in hits} == keys, where
        assert (await store.get(UNTYPED, ALL, ["c"]))[0].tags == {"weight": 2.5}

    # Upkeep, other writers, restarts

    async def test_maintain_changes_nothing_to_be_seen(self, store: VectorStore) -> None:
        await store.apply(NOTES, notes(50), ["gone"], 1)
        for i in range(40):
            await store.apply(NOTES, [note(f"n-{i % 20:03}", f"edit {i}")], [], 2 + i)
        before = await self._raw(store)
        for full in (False, True, False):
            await store.maintain(NOTES, full=full)
            assert await self._raw(store) == before
        await store.apply(NOTES, [note("n-000", "stale"), note("n-049", "new")], ["n-001"], 5)
        after = await self._raw(store)
        assert after.pop("n-049").text == "new"
        assert after == {key: item for key, item in before.items() if key != "n-049"}

    async def test_applies_and_upkeep_run_side_by_side(self, store: VectorStore) -> None:
        async def edits(first: int) -> None:
            for position in range(first, 60, 3):
                await store.apply(NOTES, [note(f"k{position % 7}", f"at {position}")], [], position)

        async def upkeep() -> None:
            for i in range(6):
                await store.maintain(NOTES, full=i % 2 == 0)

        await asyncio.gather(edits(0), edits(1), edits(2), upkeep())
        last = {f"k{position % 7}": position for position in range(60)}
        await self._assert_holds(
            store, {k: Stamp(k, p, note(k, f"at {p}").digest) for k, p in last.items()}
        )

    async def test_a_new_key_put_by_several_at_once_is_stored_once(
        self, store: VectorStore, tmp_path: Path
    ) -> None:
        await store.apply(NOTES, notes(30), [], 1)
        await store.maintain(NOTES, full=True)
        # A store that several processes may open is opened twice, as by two of them.
        other = await self.open(tmp_path) if store.multi_process else store
        try:
            await asyncio.gather(
                *(
                    writer.apply(NOTES, [note(f"new {p // 4}", f"at {p}")], [], p)
                    for p, writer in enumerate([store, other] * 20, start=4)
                )
            )
            raw = await self._raw(store)
            new = {key: item.text for key, item in raw.items() if key.startswith("new")}
            assert new == {f"new {p // 4}": f"at {p}" for p in range(7, 44, 4)}
        finally:
            if other is not store:
                await other.close()

    async def test_others_see_what_one_has_applied(
        self, store: VectorStore, tmp_path: Path
    ) -> None:
        if not store.multi_process:
            return  # the store says so itself, and the plane gives it to one process
        other = await self.open(tmp_path)
        try:
            for position in range(1, 4):
                await store.apply(NOTES, [note("a", f"at {position}")], [], position)
                held = await other.get(NOTES, ALL, ["a"])
                assert [hit.text for hit in held] == [f"at {position}"]
            await other.apply(NOTES, [note("a", "stale")], ["b"], 2)
            assert [stamp[:2] for stamp in await self._stamps(store)] == [("a", 3), ("b", 2)]
        finally:
            await other.close()

    async def test_what_passed_the_barrier_is_there_again(
        self, store: VectorStore, tmp_path: Path
    ) -> None:
        await store.ping()
        await store.apply(NOTES, notes(5), ["gone"], 1)
        await store.barrier()
        before = await self._raw(store)
        await store.close()
        await store.close()
        if self.survives_closing:
            again = await self.open(tmp_path)
            try:
                await again.prepare(NOTES)
                after = await self._raw(again)
                assert {k: i[:5] for k, i in after.items()} == {k: i[:5] for k, i in before.items()}
                assert [hit.key for hit in await again.get(NOTES, ALL, ["n-004"])] == ["n-004"]
            finally:
                await again.close()
