"""What graph stores answer, and to whom; `GraphStoreContract` inherits it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from polyplane.errors import NotFound, PolyplaneError, Refused
from polyplane.model.collection import Collection
from polyplane.model.graph import (
    Direction,
    EdgeStep,
    GraphEdge,
    GraphNode,
    GraphView,
    NodeStep,
    Path,
    Pattern,
)
from polyplane.model.items import Range
from polyplane.model.scope import Scope
from polyplane.stores.graph_protocol import GraphStore
from polyplane.testing.graph_keeping import GraphKeepingContract
from polyplane.testing.graph_samples import (
    COLLECTIONS,
    KNOWS,
    OWNED,
    OWNED_VIEW,
    PEOPLE,
    THINGS,
    VIEW,
    Graph,
    edge,
    fits,
    items_of,
    node,
    people,
    random_graph,
)
from polyplane.testing.samples import ALL, FILTERS, HOSTILE, REFUSED_FILTERS

SCOPES = (
    ALL,
    Scope("acme", "1"),
    Scope("acme"),
    Scope("acme", "2", sees_all=True),
    Scope("other", "1"),
    Scope("nobody", "1"),
)
DIRECTIONS: tuple[Direction, ...] = ("out", "in", "both")
SEEDS = (0, 1, 3)  # in the last a way of more edges is cheaper
HIDING_SEED = 19
"""Its graph has, for three of these, edges from and to what is hidden, and hidden edges."""
TYPES = (["KNOWS"], ["KNOWS", "OWNS"])


def _place(found: GraphNode) -> tuple[str, str]:
    return found.label, found.key


class GraphReadingContract(GraphKeepingContract):
    """Every reading verb, over graphs that are small and strange."""

    async def _filled(
        self, store: GraphStore, seed: int, collections: Sequence[Collection]
    ) -> Graph:
        """A graph of chance, edges put first."""
        graph = random_graph(random.Random(seed), collections)
        for collection in collections:
            await store.prepare(collection)
        for collection in reversed(collections):
            await store.apply(collection, items_of(graph, collection), ["gone"], 1)
        return graph

    # Nodes

    async def test_nodes_keep_the_order_asked_for(self, store: GraphStore) -> None:
        await store.apply(PEOPLE, people(5), ["gone"], 1)
        asked = ["n-003", "missing", "n-000", "gone", "n-004", "n-000"]
        found = await store.nodes(VIEW, ALL, "Person", asked)
        assert list(dict.fromkeys(it.key for it in found)) == ["n-003", "n-000", "n-004"]
        first = people(1)[0].content.properties
        assert found[1] == GraphNode("Person", "n-000", first)
        assert await store.nodes(VIEW, ALL, "Person", []) == []

    async def test_find_filters(self, store: GraphStore) -> None:
        items = people(60)
        await store.apply(PEOPLE, items, ["n-gone"], 1)
        await store.apply(KNOWS, [edge("k", "stub", "n-000")], [], 1)
        for where in FILTERS:
            wanted = sorted(it.key for it in items if fits(it.content.properties, where))
            found = await store.find(VIEW, ALL, "Person", where=where, limit=100)
            assert [it.key for it in found] == wanted, where
        few = await store.find(VIEW, ALL, "Person", where=None, limit=7)
        assert [it.key for it in few] == sorted(it.key for it in items)[:7]

    async def test_impossible_questions_are_refused(self, store: GraphStore) -> None:
        await store.apply(PEOPLE, people(1), [], 1)
        for where, field in REFUSED_FILTERS:
            with pytest.raises(Refused) as refused:
                await store.find(VIEW, ALL, "Person", where=where, limit=1)
            assert refused.value.field == field, where
        near = store.neighbours
        steps = NodeStep("Person"), EdgeStep("OWNS"), NodeStep("Person")
        for asking in (
            near(VIEW, ALL, "KNOWS", "n-000", limit=0),
            near(VIEW, ALL, "KNOWS", "n-000", order_by="wrong"),
            near(VIEW, ALL, "KNOWS", "n-000", where={"wrong": 1}),
            near(VIEW, ALL, "KNOWS", "n-000", of={"since": 1}),
            near(VIEW, ALL, "OWNS", "n-000", direction="both"),
            store.within(VIEW, ALL, "Person", "n-000", edges=["KNOWS"], hops=0),
            store.paths(VIEW, ALL, ("Person", "a"), ("Person", "b"), edges=["KNOWS"], weight="how"),
            store.match(VIEW, ALL, Pattern(steps)),
            store.match(VIEW, ALL, Pattern(steps[:2])),
            store.match(VIEW, ALL, Pattern(steps[:1], order_by=(1, "stars"))),
        ):
            with pytest.raises(Refused):
                await asking
        for unknown in (
            store.nodes(VIEW, ALL, "Nobody", ["a"]),
            near(VIEW, ALL, "NOTHING", "n-000"),
            store.within(VIEW, ALL, "Person", "n-000", edges=["NOTHING"], hops=1),
            store.match(VIEW, ALL, Pattern((NodeStep("Nobody"),))),
        ):
            with pytest.raises(NotFound):
                await unknown

    async def test_hostile_strings_are_only_strings(self, store: GraphStore) -> None:
        await store.apply(PEOPLE, [node(text, owner=text) for text in HOSTILE], [], 1)
        edges = [edge(text, text, text, how=text) for text in HOSTILE]
        await store.apply(KNOWS, edges, [], 1)
        for text in HOSTILE:
            found = await store.find(VIEW, ALL, "Person", where={"owner": text}, limit=99)
            assert [it.key for it in found] == [text]
            (near,) = await store.neighbours(
                VIEW, ALL, "KNOWS", text, where={"how": text}, of={"owner": text}
            )
            assert (near.edge.key, near.node.key, near.edge.properties["how"]) == (text,) * 3
        pattern = Pattern(
            (NodeStep("Person", {"owner": "'"}), EdgeStep("KNOWS"), NodeStep("Person"))
        )
        assert [[it.key for it in row] for row in await store.match(VIEW, ALL, pattern)] == [
            ["'"] * 3
        ]

    # Against a graph in memory

    @pytest.mark.parametrize("seed", SEEDS)
    async def test_neighbours_are_what_is_beside(self, store: GraphStore, seed: int) -> None:
        graph = await self._filled(store, seed, COLLECTIONS)
        dice = random.Random(seed)
        for key in (*(f"p{i}" for i in range(9)), "gone", "never"):
            for direction in DIRECTIONS:
                await self._beside(store, graph, key, direction, dice)

    async def _beside(
        self,
        store: GraphStore,
        graph: Graph,
        key: str,
        direction: Direction,
        dice: random.Random,
    ) -> None:
        where = dice.choice([None, {"since": [0, 1, None]}, {"weight": Range(ge=0.5)}])
        of = dice.choice([None, {"owner": "ada"}, {"stars": Range(le=2)}])
        order_by = dice.choice([None, "weight", "since", "id"])
        descending = dice.random() < 0.5
        limit = dice.choice([2, 100])
        wanted = {
            e.key: (e, b)
            for e, a, b in graph.steps(ALL, ["KNOWS"], direction)
            if a.key == key and fits(e.properties, where) and fits(b.properties, of)
        }
        found = await store.neighbours(
            VIEW,
            ALL,
            "KNOWS",
            key,
            direction=direction,
            where=where,
            of=of,
            order_by=order_by,
            descending=descending,
            limit=limit,
        )
        assert [(it.edge, it.node) for it in found] == [wanted[it.edge.key] for it in found]
        assert len(found) == min(limit, len(wanted))
        values = [
            e.properties[order_by] if order_by and order_by != "id" else e.key for e, _ in found
        ]
        known = [it for it in values if it is not None]
        assert known == sorted(known, reverse=descending and order_by is not None)
        assert values[: len(known)] == known
        if limit > len(wanted):
            assert {it.edge.key for it in found} == set(wanted)

    @pytest.mark.parametrize("seed", SEEDS)
    async def test_walks_are_the_best_there_are(self, store: GraphStore, seed: int) -> None:
        await self._walks(store, await self._filled(store, seed, COLLECTIONS), VIEW, ALL, seed)

    async def test_a_scope_is_shown_what_it_sees(self, store: GraphStore) -> None:
        for collection in reversed(COLLECTIONS):
            await store.forget(collection)
        graph = await self._filled(store, HIDING_SEED, OWNED)
        for scope in SCOPES:
            keys = [f"p{i}" for i in range(9)]
            seen = [it for key in keys if (it := graph.node(scope, "Person", key))]
            assert await store.nodes(OWNED_VIEW, scope, "Person", keys) == seen
            assert await store.find(OWNED_VIEW, scope, "Person", where=None, limit=99) == seen
            for key in keys:
                wanted = [(e, b) for e, a, b in graph.all_edges(scope, ["KNOWS"]) if a.key == key]
                found = await store.neighbours(OWNED_VIEW, scope, "KNOWS", key)
                assert [(it.edge, it.node) for it in found] == wanted
            await self._walks(store, graph, OWNED_VIEW, scope, HIDING_SEED)

    async def _walks(
        self, store: GraphStore, graph: Graph, view: GraphView, scope: Scope, seed: int
    ) -> None:
        """Within, paths, match and subgraph of a graph are as they are in memory."""
        dice = random.Random(seed)
        for source in ("p0", "p4", "gone"):
            types, direction = dice.choice(TYPES), dice.choice(DIRECTIONS)
            hops = dice.randrange(1, 5)
            start = ("Person", source)
            away = graph.hops(scope, [start], types, direction)
            near = sorted((n, place) for place, n in away.items() if 0 < n <= hops)
            found = await store.within(
                view, scope, *start, edges=types, hops=hops, direction=direction, limit=4
            )
            assert [(it.hops, _place(it.node)) for it in found] == near[:4]
            assert all(it.node == graph.node(scope, *_place(it.node)) for it in found)
            sums = graph.best(scope, start, ["KNOWS"], direction, hops)
            for target in [("Person", f"p{i}") for i in range(0, 9, 2)]:
                way = await store.paths(
                    view, scope, start, target, edges=types, direction=direction, hops=hops
                )
                wanted = away.get(target)
                assert (way and way.cost) == (
                    wanted if wanted is not None and wanted <= hops else None
                )
                self._is_a_way(graph, scope, way, start, target)
                way = await store.paths(
                    view,
                    scope,
                    start,
                    target,
                    edges=["KNOWS"],
                    direction=direction,
                    hops=hops,
                    weight="weight",
                )
                assert (way and way.cost) == sums.get(target)
                self._is_a_way(graph, scope, way, start, target)
            await self._around(store, graph, view, scope, source)
        await self._matches(store, graph, view, scope)

    def _is_a_way(
        self,
        graph: Graph,
        scope: Scope,
        way: Path | None,
        source: tuple[str, str],
        target: tuple[str, str],
    ) -> None:
        if way is None:
            return
        assert (_place(way.nodes[0]), _place(way.nodes[-1])) == (source, target)
        held = [(e, {_place(a), _place(b)}) for e, a, b in graph.all_edges(scope, TYPES[1])]
        for gone, (one, other) in zip(way.edges, pairwise(way.nodes), strict=True):
            assert (gone, {_place(one), _place(other)}) in held
        assert all(it == graph.node(scope, *_place(it)) for it in way.nodes)

    async def _around(
        self, store: GraphStore, graph: Graph, view: GraphView, scope: Scope, source: str
    ) -> None:
        keys = {"Person": [source, "p1"], "Thing": ["t0"]}
        starts = [(label, key) for label, some in keys.items() for key in some]
        away = graph.hops(scope, starts, TYPES[1], "both")
        near = sorted((n, place) for place, n in away.items() if n <= 2)
        for limit in (3, 100):
            found = await store.subgraph(view, scope, keys, edges=TYPES[1], hops=2, limit=limit)
            places = [place for _, place in near[:limit]]
            assert [_place(it) for it in found.nodes] == places
            assert found.truncated is (len(near) > limit)
            wanted = [
                e
                for e, a, b in graph.all_edges(scope, TYPES[1])
                if _place(a) in places and _place(b) in places
            ]
            assert sorted(found.edges, key=lambda e: (e.type, e.key)) == wanted

    async def _matches(
        self, store: GraphStore, graph: Graph, view: GraphView, scope: Scope
    ) -> None:
        """Two edges of one type in a row, and one of another behind them."""
        edges = graph.all_edges(scope, ["KNOWS"])
        both = {(e.key, a.key): (e, a, b) for e, a, b in graph.steps(scope, ["KNOWS"], "both")}
        chain = (
            NodeStep("Person", {"stars": Range(ge=1)}),
            EdgeStep("KNOWS", "both"),
            NodeStep("Person"),
            EdgeStep("KNOWS", "in", {"weight": Range(le=5)}),
            NodeStep("Person"),
        )
        wanted = [
            (a, e, b, other, c)
            for e, a, b in both.values()
            for other, c, to in edges
            if to.key == b.key
            and other.key != e.key
            and fits(a.properties, {"stars": Range(ge=1)})
            and fits(other.properties, {"weight": Range(le=5)})
        ]
        wanted.sort(key=lambda row: tuple(it.key for it in row))
        assert await store.match(view, scope, Pattern(chain), limit=5_000) == wanted
        found = await store.match(view, scope, Pattern(chain, (3, "weight"), True), limit=3)
        wanted.sort(key=lambda row: -row[3].properties["weight"])
        assert found == wanted[:3]
        owning = Pattern((NodeStep("Thing"), EdgeStep("OWNS", "in"), NodeStep("Person")))
        assert await store.match(view, scope, owning) == sorted(
            ((b, e, a) for e, a, b in graph.all_edges(scope, ["OWNS"])),
            key=lambda row: tuple(it.key for it in row),
        )

    # Free Cypher

    async def test_cypher_answers_with_our_words(self, store: GraphStore) -> None:
        await store.apply(PEOPLE, [node("a", stars=1), node("b", stars=2)], ["gone"], 1)
        await store.apply(THINGS, [node("t", name="it's")], [], 1)
        await store.apply(KNOWS, [edge("k", "a", "b", since=3)], [], 1)
        found = await store.cypher(
            VIEW,
            ALL,
            "MATCH (n:Person)-[r:KNOWS]->(m:Person) WHERE n.stars >= $least AND n.id <> $other"
            " RETURN n, r, m.id AS other, [n.stars, m.stars] AS both",
            {"least": 1, "other": "' OR 1=1"},
        )
        one = GraphNode("Person", "a", {**dict.fromkeys(PEOPLE.tag_types), "stars": 1})
        gone = GraphEdge("KNOWS", "k", "a", "b", {"since": 3, "weight": None, "how": None})
        assert found.columns == ("n", "r", "other", "both")
        assert found.rows == [(one, gone, "b", [1, 2])]
        assert found.truncated is False
        (row,) = (
            await store.cypher(
                VIEW, ALL, "MATCH p = (:Person {id: 'a'})-[:KNOWS]->(:Person) RETURN p", {}
            )
        ).rows
        assert isinstance(row[0], Path) and row[0].edges == (gone,)
        assert [it.key for it in row[0].nodes] == ["a", "b"]
        (row,) = (await store.cypher(VIEW, ALL, "MATCH ()-[r:KNOWS]->() RETURN r", {})).rows
        assert row == (gone,)
        text = "MATCH (n:Person) WHERE n.id IS NOT NULL RETURN n.id ORDER BY n.id"
        short = await store.cypher(VIEW, ALL, text, {}, limit=1)
        assert (short.rows, short.truncated) == ([("a",)], True)
        assert not (await store.cypher(VIEW, ALL, text, {}, limit=2)).truncated

    async def test_cypher_changes_nothing(self, store: GraphStore) -> None:
        await store.apply(PEOPLE, people(2), [], 1)
        before = await self._raw(store, PEOPLE)
        for text in (
            "CREATE (n:Person {id: 'x'})",
            "MATCH (n:Person) SET n.stars = 9",
            "MATCH (n:Person) SET n.stars = 9 RETURN n",
            "MATCH (n:Person) DETACH DELETE n",
            "MERGE (n:Person {id: 'x'}) RETURN n",
            "MATCH (n:Person) REMOVE n.stars",
            "RETURN 1; MATCH (n:Person) DETACH DELETE n",
            "LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line",
            "LOAD FROM '/etc/passwd' (file_format='csv') RETURN *",
            "MATCH (n:Person) WITH n LOAD FROM '/etc/passwd' RETURN *",
            "COPY (MATCH (n:Person) RETURN n.id) TO '/tmp/out.csv'",
            "CALL dbms.listConfig()",
            "CALL show_tables() RETURN *",
            "DROP TABLE Person",
            "SHOW DATABASES",
            "RETURN",
            "MATCH (n:Person RETURN n",
            "",
        ):
            with pytest.raises(PolyplaneError) as raised:
                await store.cypher(VIEW, ALL, text, {})
            assert isinstance(raised.value, Refused), text
        assert await self._raw(store, PEOPLE) == before
        with pytest.raises(Refused):
            await store.cypher(VIEW, Scope("acme", "1"), "RETURN 1", {})

    async def test_cypher_that_takes_too_long_is_refused(self, store: GraphStore) -> None:
        long = "UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b RETURN sum(a * b)"
        with pytest.raises(Refused):
            await store.cypher(VIEW, ALL, long, {}, timeout_s=0.5)
        assert (await store.cypher(VIEW, ALL, "RETURN 1 AS n", {})).rows == [(1,)]
