"""What becomes of a graph store's collections; `GraphStoreContract` inherits it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from polyplane.errors import Misconfigured, NotFound, Refused
from polyplane.model.items import Stamp
from polyplane.stores.graph_protocol import GraphStore
from polyplane.testing.graph_samples import (
    COLLECTIONS,
    KNOWS,
    OWNS,
    PEOPLE,
    THINGS,
    VIEW,
    edge,
    node,
    people,
    view_of,
)
from polyplane.testing.graph_writing import GraphWritingContract
from polyplane.testing.samples import ALL, REFUSED_TAGS


class GraphKeepingContract(GraphWritingContract):
    """Collections come and go, calls come at once, and a store is opened again."""

    # Collections

    async def test_prepare_again_keeps_what_is_there(self, store: GraphStore) -> None:
        await store.apply(PEOPLE, people(3), [], 1)
        await store.apply(KNOWS, [edge("a", "n-000", "n-001", since=1)], [], 1)
        before = await self._raw(store, PEOPLE), await self._raw(store, KNOWS)
        for collection in COLLECTIONS:
            await store.prepare(collection)
        assert (await self._raw(store, PEOPLE), await self._raw(store, KNOWS)) == before

    async def test_names_that_cannot_be_are_misconfigured(self, store: GraphStore) -> None:
        for name in ("id", "a.b", "_position", "`", "ünder", ""):
            with pytest.raises(Misconfigured):
                await store.prepare(replace(PEOPLE, label="Wrong", tag_types={name: str}))
        for label in ("a b", "`", "x`(", ""):
            with pytest.raises(Misconfigured):
                await store.prepare(replace(PEOPLE, label=label))

    async def test_an_unprepared_collection_is_not_found(self, store: GraphStore) -> None:
        unknown = replace(PEOPLE, name="unknown", label="Unknown")
        with pytest.raises(NotFound):
            await store.apply(unknown, people(1), [], 1)
        with pytest.raises(NotFound):
            await store.find(view_of([unknown]), ALL, "Unknown", where=None, limit=1)

    async def test_generations_of_a_collection_do_not_mix(self, store: GraphStore) -> None:
        nodes = replace(PEOPLE, generation=2)
        edges = replace(KNOWS, generation=2, ends=(nodes.labelled, nodes.labelled))
        for collection in (nodes, edges):
            await store.prepare(collection)
        for at, (some, between) in ((9, (PEOPLE, KNOWS)), (1, (nodes, edges))):
            await store.apply(some, [node("a", stars=at), node("b", stars=at)], [], at)
            await store.apply(between, [edge("k", "a", "b", since=at)], [], at)
        for at, view in ((9, VIEW), (1, view_of([nodes, edges]))):
            (found,) = await store.neighbours(view, ALL, "KNOWS", "a")
            assert (found.edge.properties["since"], found.node.properties["stars"]) == (at, at)
            assert (found.edge.type, found.node.label) == ("KNOWS", "Person")
        await store.forget(edges)
        await store.forget(nodes)
        assert await self._known(store, "a") == ["b"]

    async def test_a_forgotten_collection_is_gone(self, store: GraphStore) -> None:
        await store.apply(PEOPLE, people(3), ["gone"], 9)
        await store.apply(THINGS, [node("t")], [], 9)
        await store.apply(KNOWS, [edge("a", "n-000", "n-001")], ["gone"], 9)
        for collection in (KNOWS, OWNS, PEOPLE):
            await store.forget(collection)
            await store.forget(collection)
        with pytest.raises(NotFound):
            await store.nodes(VIEW, ALL, "Person", ["n-000"])
        for collection in (PEOPLE, KNOWS):
            await store.prepare(collection)
            assert await self._raw(store, collection) == {}
        await store.apply(KNOWS, [edge("gone", "n-000", "n-001")], [], 1)
        await store.apply(PEOPLE, [node("n-000"), node("n-001")], [], 1)
        assert await self._known(store, "n-000") == ["n-001"]
        assert [s.key for s in await self._stamps(store, THINGS)] == ["t"]

    async def test_nodes_that_are_forgotten_take_their_edges_along(self, store: GraphStore) -> None:
        await store.apply(PEOPLE, people(2), [], 9)
        await store.apply(KNOWS, [edge("a", "n-000", "n-001")], [], 9)
        await store.forget(PEOPLE)
        for collection in (PEOPLE, KNOWS):
            await store.prepare(collection)
            assert await self._raw(store, collection) == {}

    # What cannot be stored

    async def test_impossible_properties_are_refused(self, store: GraphStore) -> None:
        await store.apply(PEOPLE, people(2), [], 1)
        before = await self._raw(store, PEOPLE)
        for properties in REFUSED_TAGS:
            with pytest.raises(Refused) as refused:
                await store.apply(PEOPLE, [node("a"), node("b", **properties)], ["n-000"], 2)
            assert refused.value.field in properties
        with pytest.raises(Refused):
            await store.apply(KNOWS, [edge("a", "x", "y"), edge("b", "x", "y", wrong=1)], [], 2)
        assert await self._raw(store, PEOPLE) == before
        assert await self._raw(store, KNOWS) == {}

    # Upkeep, several at once, restarts

    async def test_any_history_ends_in_what_is_newest(self, store: GraphStore) -> None:
        dice = random.Random(11)
        expected: dict[str, dict[str, Stamp]] = {"people": {}, "knows": {}}
        for _ in range(40):
            collection = dice.choice([PEOPLE, KNOWS])
            position = dice.randrange(1, 40)
            keys = dice.sample([f"k{i}" for i in range(9)], dice.randrange(1, 5))
            dropped = keys[: dice.randrange(len(keys) + 1)]
            puts = [
                edge(key, f"k{dice.randrange(9)}", f"k{dice.randrange(9)}", since=position)
                if collection.ends
                else node(key, stars=position)
                for key in keys
                if key not in dropped
            ]
            await store.apply(collection, puts, dropped, position)
            held = expected[collection.name]
            for key, digest in [(i.key, i.digest) for i in puts] + [(k, None) for k in dropped]:
                if key not in held or held[key].position < position:
                    held[key] = Stamp(key, position, digest)
            if dice.random() < 0.1:
                await store.maintain(collection)
        for collection in (PEOPLE, KNOWS):
            await self._assert_holds(store, collection, expected[collection.name])

    async def test_applies_reads_and_upkeep_run_side_by_side(self, store: GraphStore) -> None:
        async def edits(first: int) -> None:
            for at in range(first, 45, 3):
                await store.apply(PEOPLE, [node(f"k{at % 7}", stars=at)], [], at)
                await store.apply(KNOWS, [edge(f"e{at % 5}", f"k{at % 7}", "k0")], [], at)

        async def looks() -> None:
            for _ in range(15):
                await store.neighbours(VIEW, ALL, "KNOWS", "k0", direction="both")
                await self._stamps(store, KNOWS)

        async def upkeep() -> None:
            for i in range(4):
                await store.maintain(KNOWS, full=i % 2 == 0)
                await store.barrier()

        await asyncio.gather(edits(1), edits(2), edits(3), looks(), upkeep())
        last = {f"k{at % 7}": at for at in range(1, 45)}
        expected = {k: Stamp(k, at, node(k, stars=at).digest) for k, at in last.items()}
        raw = await self._raw(store, PEOPLE)
        assert {k: Stamp(k, it.position, it.digest) for k, it in raw.items()} == expected
        ends = {f"e{at % 5}": (at, (f"k{at % 7}", "k0")) for at in range(1, 45)}
        edges = await self._raw(store, KNOWS)
        assert {key: (it.position, it.ends) for key, it in edges.items()} == ends

    async def test_what_passed_the_barrier_is_there_again(
        self, store: GraphStore, tmp_path: Path
    ) -> None:
        await store.ping()
        await store.apply(PEOPLE, people(5), ["gone"], 1)
        await store.apply(KNOWS, [edge("a", "n-000", "n-004")], ["gone"], 1)
        await store.barrier()
        before = await self._raw(store, PEOPLE), await self._raw(store, KNOWS)
        await store.close()
        await store.close()
        again = await self.open(tmp_path)
        try:
            for collection in COLLECTIONS:
                await again.prepare(collection)
            assert (await self._raw(again, PEOPLE), await self._raw(again, KNOWS)) == before
            assert await self._known(again, "n-000") == ["n-004"]
        finally:
            await again.close()
