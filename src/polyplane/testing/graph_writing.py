"""What graph stores do when they are written to; `GraphStoreContract` inherits it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from polyplane.model.collection import Collection
from polyplane.model.items import Item, Stamp
from polyplane.stores.graph_protocol import GraphStore
from polyplane.testing.graph_samples import (
    COLLECTIONS,
    KNOWS,
    PEOPLE,
    VIEW,
    edge,
    node,
    people,
    valued,
)
from polyplane.testing.samples import ALL, HOSTILE


class RawItem(NamedTuple):
    """What the engine really holds under one key; `ends` are the keys of a living edge's."""

    key: str
    position: int
    digest: str | None
    properties: Mapping[str, Any]
    ends: tuple[str, str] | None


class GraphWritingContract(ABC):
    """How an engine is opened and looked into, and what becomes of what is written."""

    bulk_rows = 5_000
    """So many new items at once take whatever way the adapter has for many."""

    @abstractmethod
    async def open(self, folder: Path) -> GraphStore:
        """The adapter, opened on what is in `folder`."""

    @abstractmethod
    async def raw_items(self, store: GraphStore, collection: Collection) -> list[RawItem]:
        """Every item the engine holds, tombstones included and stubs not, past the adapter."""

    @abstractmethod
    async def raw_edge(
        self, store: GraphStore, collection: Collection, like: str, key: str | None
    ) -> None:
        """Put another edge beside the one under `like`, as it is but under `key`, past the
        adapter; None: it has no key.
        """

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[GraphStore]:
        """A fresh store with the sample collections prepared."""
        store = await self.open(tmp_path)
        for collection in COLLECTIONS:
            await store.prepare(collection)
        yield store
        await store.close()

    async def _raw(self, store: GraphStore, collection: Collection) -> dict[str, RawItem]:
        items = await self.raw_items(store, collection)
        by_key = {it.key: it._replace(properties=valued(it.properties)) for it in items}
        assert len(by_key) == len(items), "a key is stored more than once"
        return by_key

    async def _stamps(self, store: GraphStore, collection: Collection, **more: Any) -> list[Stamp]:
        batches = [batch async for batch in store.scan(collection, **more)]
        assert all(0 < len(batch) <= more.get("batch_size", 10_000) for batch in batches)
        return [stamp for batch in batches for stamp in batch]

    async def _assert_holds(
        self, store: GraphStore, collection: Collection, expected: Mapping[str, Stamp]
    ) -> None:
        """The engine holds exactly `expected`, and the scan says so."""
        raw = await self._raw(store, collection)
        assert {k: Stamp(k, it.position, it.digest) for k, it in raw.items()} == expected
        scanned = await self._stamps(store, collection)
        assert scanned == [expected[key] for key in sorted(expected)]

    async def _known(self, store: GraphStore, key: str, **more: Any) -> list[str]:
        """The keys of those whom the person knows."""
        found = await store.neighbours(VIEW, ALL, "KNOWS", key, **more)
        return sorted(it.node.key for it in found)

    # What is put is stored

    async def test_a_put_is_stored_whole(self, store: GraphStore) -> None:
        nodes = [*people(20), *(node(key, owner=key) for key in HOSTILE)]
        edges = [edge(key, key, "n-001", since=i, how=key) for i, key in enumerate(HOSTILE)]
        edges += [edge("to a stub", "n-000", "not there"), edge("from one", "nor this", "n-001")]
        await store.apply(PEOPLE, nodes, [], 7)
        await store.apply(KNOWS, edges, [], 8)
        raw = await self._raw(store, PEOPLE)
        assert raw == {
            it.key: RawItem(it.key, 7, it.digest, valued(it.content.properties), None)
            for it in nodes
        }
        assert await self._raw(store, KNOWS) == {
            it.key: RawItem(
                it.key,
                8,
                it.digest,
                valued(it.content.properties),
                (it.content.source, it.content.target),
            )
            for it in edges
        }
        for collection, items in ((PEOPLE, nodes), (KNOWS, edges)):
            asked = [it.key for it in items]
            held = await store.contents(collection, [*asked, "never"])
            assert {it.stamp.key: it.content for it in held} == {
                it.key: replace(it.content, properties=valued(it.content.properties))
                for it in items
            }

    async def test_applying_again_changes_nothing(self, store: GraphStore) -> None:
        for _ in range(2):
            await store.apply(PEOPLE, people(3), ["gone"], 7)
            await store.apply(KNOWS, [edge("a", "n-000", "n-001")], ["b"], 7)
        before = await self._raw(store, PEOPLE), await self._raw(store, KNOWS)
        await store.apply(PEOPLE, [node("n-000", owner="altered")], [], 7)
        await store.apply(KNOWS, [edge("a", "n-000", "n-002")], [], 7)
        await store.apply(PEOPLE, [], [], 8)
        assert (await self._raw(store, PEOPLE), await self._raw(store, KNOWS)) == before

    async def test_the_newer_position_wins(self, store: GraphStore) -> None:
        many: list[tuple[Collection, Callable[[str, int], Item]]] = [
            (PEOPLE, lambda key, n: node(key, stars=n)),
            (KNOWS, lambda key, n: edge(key, f"p{n}", "p", since=n)),
        ]
        for collection, made in many:
            await store.apply(collection, [made("a", 1), made("b", 1)], ["c"], 5)
            await store.apply(collection, [made("b", 2), made("c", 2)], [], 9)
            await store.apply(collection, [made("a", 3), made("b", 3), made("d", 3)], ["c"], 7)
            expected = {"a": (7, 3), "b": (9, 2), "c": (9, 2), "d": (7, 3)}
            await self._assert_holds(
                store,
                collection,
                {key: Stamp(key, at, made(key, n).digest) for key, (at, n) in expected.items()},
            )

    async def test_an_edge_may_change_its_ends_and_loses_what_it_had(
        self, store: GraphStore
    ) -> None:
        await store.apply(PEOPLE, people(4), [], 1)
        await store.apply(KNOWS, [edge("a", "n-000", "n-001", since=3, how="x")], [], 1)
        await store.apply(KNOWS, [edge("a", "n-000", "n-002", weight=0.5)], [], 2)
        assert await self._known(store, "n-000") == ["n-002"]
        await store.apply(KNOWS, [edge("a", "n-003", "n-002")], [], 3)
        raw = await self._raw(store, KNOWS)
        assert (raw["a"].ends, raw["a"].properties) == (("n-003", "n-002"), {})
        assert await self._known(store, "n-000") == []
        await store.apply(PEOPLE, [node("n-001", owner="ada", stars=2)], [], 2)
        await store.apply(PEOPLE, [node("n-001", score=0.5)], [], 3)
        assert (await self._raw(store, PEOPLE))["n-001"].properties == {"score": 0.5}

    async def test_edges_between_the_same_nodes_are_several(self, store: GraphStore) -> None:
        await store.apply(PEOPLE, people(2), [], 1)
        await store.apply(KNOWS, [edge(k, "n-000", "n-001", how=k) for k in "abc"], [], 1)
        assert await self._known(store, "n-000") == ["n-001"] * 3
        await store.apply(KNOWS, [], ["b"], 2)
        found = await store.neighbours(VIEW, ALL, "KNOWS", "n-000")
        assert [it.edge.key for it in found] == ["a", "c"]

    async def test_positions_are_exact_up_to_53_bits(self, store: GraphStore) -> None:
        top = 2**53 - 1
        many: list[tuple[Collection, Callable[[int], Item]]] = [
            (PEOPLE, lambda n: node("a", stars=n)),
            (KNOWS, lambda n: edge("a", "x", "y", since=n)),
        ]
        for collection, made in many:
            await store.apply(collection, [made(1)], [], top - 2)
            await store.apply(collection, [made(2)], [], top - 1)
            await store.apply(collection, [made(3)], [], top - 1)
            stamp = Stamp("a", top - 1, made(2).digest)
            await self._assert_holds(store, collection, {"a": stamp})
            await store.apply(collection, [made(4)], [], top)
            await self._assert_holds(store, collection, {"a": Stamp("a", top, made(4).digest)})

    async def test_large_batches(self, store: GraphStore) -> None:
        """Edges before their nodes: thousands of stubs become what they stand for."""
        many = self.bulk_rows
        edges = [edge(f"k{i:05}", f"p{i:05}", f"p{i // 7:05}", since=i) for i in range(many)]
        await store.apply(KNOWS, edges, [], 1)
        assert await self._stamps(store, PEOPLE) == []
        nodes = [node(f"p{i:05}", stars=i) for i in range(many)]
        await store.apply(PEOPLE, nodes, [], 1)
        late = [edge(f"k{i:05}", f"p{i:05}", "p00001", since=-i) for i in range(100, 800)]
        dropped = [f"k{i:05}" for i in range(1_500, 1_600)]
        await store.apply(KNOWS, late, dropped, 2)
        expected = {it.key: Stamp(it.key, 1, it.digest) for it in edges}
        expected |= {it.key: Stamp(it.key, 2, it.digest) for it in late}
        expected |= {key: Stamp(key, 2, None) for key in dropped}
        await self._assert_holds(store, KNOWS, expected)
        await self._assert_holds(
            store, PEOPLE, {it.key: Stamp(it.key, 1, it.digest) for it in nodes}
        )
        found = await store.neighbours(VIEW, ALL, "KNOWS", "p00001", direction="in", limit=5_000)
        wanted = {f"p{i:05}" for i in range(7, 14)} | {it.content.source for it in late}
        assert {it.node.key for it in found} == wanted
        asked = [f"k{i:05}" for i in range(0, 3_000, 2)]
        stamps = await store.stamps(KNOWS, asked)
        assert sorted(stamps) == sorted(expected[key] for key in asked)

    # What is dropped is hidden, and remembered

    async def test_a_drop_leaves_a_tombstone_without_content(self, store: GraphStore) -> None:
        await store.apply(PEOPLE, people(3), [], 1)
        await store.apply(KNOWS, [edge("a", "n-000", "n-001", since=1)], [], 1)
        for collection, key in ((PEOPLE, "n-001"), (KNOWS, "a")):
            await store.apply(collection, [], [key, "never-there"], 2)
            raw = await self._raw(store, collection)
            for gone in (key, "never-there"):
                assert raw[gone] == RawItem(gone, 2, None, {}, None)
            assert Stamp(key, 2, None) in await self._stamps(store, collection)

    async def test_who_goes_takes_the_edges_out_of_sight_and_brings_them_back(
        self, store: GraphStore
    ) -> None:
        await store.apply(PEOPLE, people(3), [], 1)
        edges = [edge("a", "n-000", "n-001"), edge("b", "n-001", "n-002")]
        await store.apply(KNOWS, edges, [], 1)
        await store.apply(PEOPLE, [], ["n-001"], 2)
        assert await store.nodes(VIEW, ALL, "Person", ["n-001"]) == []
        assert await self._known(store, "n-000") == []
        assert await self._known(store, "n-001") == []
        assert await self._known(store, "n-002", direction="in") == []
        await self._assert_holds(
            store, KNOWS, {it.key: Stamp(it.key, 1, it.digest) for it in edges}
        )
        await store.apply(PEOPLE, [node("n-001")], [], 1)
        assert await self._known(store, "n-000") == []
        await store.apply(PEOPLE, [node("n-001")], [], 3)
        assert await self._known(store, "n-000") == ["n-001"]
        assert await self._known(store, "n-001") == ["n-002"]

    async def test_an_edge_waits_for_its_ends(self, store: GraphStore) -> None:
        await store.apply(KNOWS, [edge("a", "p0", "p1"), edge("self", "p2", "p2")], [], 5)
        assert await self._stamps(store, PEOPLE) == []
        assert await store.stamps(PEOPLE, ["p0", "p1"]) == []
        assert await store.contents(PEOPLE, ["p0", "p1"]) == []
        assert await store.nodes(VIEW, ALL, "Person", ["p0", "p1"]) == []
        assert await store.find(VIEW, ALL, "Person", where={"owner": None}, limit=9) == []
        await store.apply(PEOPLE, [node("p0")], [], 1)
        assert await self._known(store, "p0") == []
        await store.apply(PEOPLE, [node("p1"), node("p2")], [], 1)
        assert await self._known(store, "p0") == ["p1"]
        assert await self._known(store, "p2", direction="both") == ["p2"]
        await store.apply(PEOPLE, [], ["p9"], 1)
        await store.apply(KNOWS, [edge("c", "p9", "p0")], [], 6)
        assert Stamp("p9", 1, None) in await self._stamps(store, PEOPLE)
        assert await self._known(store, "p0", direction="in") == []

    # Scan and contents

    @pytest.mark.parametrize("batch_size", [7, 1_000])
    async def test_scan_is_whole_and_in_the_order_of_code_points(
        self, store: GraphStore, batch_size: int
    ) -> None:
        keys = [*HOSTILE, "", "a", "B", "é", "\uffee", "\U0001f600", '["a",1]', "x" * 500]
        keys += ["0190b5a7-0000-7000-8000-000000000001", "0190B5A7-0000-7000-8000-000000000001"]
        for collection, made in ((PEOPLE, node), (KNOWS, lambda key: edge(key, "x", "y"))):
            assert await self._stamps(store, collection) == []
            await store.apply(collection, [made(key) for key in keys[::2]], keys[1::2], 3)
            stamps = await self._stamps(store, collection, batch_size=batch_size)
            assert [stamp.key for stamp in stamps] == sorted(keys)
            assert {s.key for s in stamps if s.digest is None} == set(keys[1::2])
            for after in (*keys[::5], "", "\x01", "a ", "\U0010ffff"):
                behind = await self._stamps(store, collection, after=after)
                assert [s.key for s in behind] == sorted(key for key in keys if key > after)

    # What the gate does not stop

    async def test_bury_clears_a_place_whatever_its_position(self, store: GraphStore) -> None:
        top = 2**53 - 1
        for collection, made in ((PEOPLE, node), (KNOWS, lambda key, **_: edge(key, "x", "y"))):
            await store.apply(collection, [made(key) for key in ("ahead", *HOSTILE)], ["gone"], top)
            await store.apply(collection, [made("left"), made("low")], [], 3)
            await store.bury(collection, ["ahead", "gone", "low", "never", *HOSTILE], 5)
            buried = ("ahead", "gone", "low", "never", *HOSTILE)
            expected = {key: Stamp(key, 5, None) for key in buried}
            expected["left"] = Stamp("left", 3, made("left").digest)
            await self._assert_holds(store, collection, expected)
            await store.apply(collection, [made("low")], [], 5)
            await store.apply(collection, [made("ahead")], [], 6)
            expected["ahead"] = Stamp("ahead", 6, made("ahead").digest)
            await self._assert_holds(store, collection, expected)
            await store.bury(collection, [], 7)

    async def test_an_edge_that_is_there_twice_is_told_of_and_buried(
        self, store: GraphStore
    ) -> None:
        await store.apply(PEOPLE, people(2), [], 1)
        await store.apply(KNOWS, [edge(key, "n-000", "n-001") for key in "ab"], [], 3)
        await self.raw_edge(store, KNOWS, "a", "a")
        stamp = Stamp("a", 3, edge("a", "n-000", "n-001").digest)
        assert await store.stamps(KNOWS, ["a"]) == [stamp, stamp]
        assert len(await store.contents(KNOWS, ["a"])) == 2
        assert [s.key for s in await self._stamps(store, KNOWS)] == ["a", "a", "b"]
        await store.bury(KNOWS, ["a"], 5)
        raw = await self._raw(store, KNOWS)
        assert (raw["a"].digest, raw["b"].position) == (None, 3)
        await store.apply(KNOWS, [edge("a", "n-001", "n-000")], [], 6)
        assert (await self._raw(store, KNOWS))["a"].ends == ("n-001", "n-000")

    async def test_what_somebody_put_there_by_hand_is_told_of_and_buried(
        self, store: GraphStore
    ) -> None:
        await store.apply(PEOPLE, people(2), [], 1)
        await store.apply(KNOWS, [edge("a", "n-000", "n-001")], [], 3)
        await self.raw_edge(store, KNOWS, "a", "strange")
        await self.raw_edge(store, KNOWS, "a", None)
        found = {stamp.key for stamp in await self._stamps(store, KNOWS)}
        (nobodys,) = found - {"a", "strange"}
        assert "\0" in nobodys
        assert [stamp.key for stamp in await store.stamps(KNOWS, [nobodys])] == [nobodys]
        await store.bury(KNOWS, ["strange", nobodys], 4)
        left = {stamp.key: stamp.digest for stamp in await self._stamps(store, KNOWS)}
        assert left.pop("a") and set(left.values()) <= {None}
        assert await self._known(store, "n-000") == ["n-001"]
