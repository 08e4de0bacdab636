"""Sample collections of a graph, and a graph in memory that says what is true of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from polyplane.model.collection import Collection
from polyplane.model.digest import digest
from polyplane.model.graph import Edge, GraphEdge, GraphNode, GraphView, Node
from polyplane.model.items import Item, Where
from polyplane.model.scope import OWNER_ID, RESERVED, TENANT_ID, Scope
from polyplane.testing.samples import NOTES, matches, notes

PEOPLE: Final = Collection(
    "people", 1, "graph", tag_types=NOTES.tag_types, indexes=("owner",), label="Person"
)
THINGS: Final = Collection("things", 1, "graph", tag_types={"name": str}, label="Thing")
KNOWS: Final = Collection(
    "knows",
    1,
    "graph",
    tag_types={"since": int, "weight": float, "how": str},
    label="KNOWS",
    ends=("Person", "Person"),
)
OWNS: Final = Collection("owns", 1, "graph", label="OWNS", ends=("Person", "Thing"))
COLLECTIONS: Final = (PEOPLE, THINGS, KNOWS, OWNS)


def view_of(collections: Iterable[Collection]) -> GraphView:
    """All of these read together."""
    every = list(collections)
    return GraphView(
        {it.label: it for it in every if not it.ends}, {it.label: it for it in every if it.ends}
    )


VIEW: Final = view_of(COLLECTIONS)
OWNED: Final = tuple(
    replace(it, tag_types={**it.tag_types, TENANT_ID: str, OWNER_ID: str}, marks=RESERVED)
    for it in COLLECTIONS
)
"""The same with whose each is."""
OWNED_VIEW: Final = view_of(OWNED)


def node(key: str, **properties: Any) -> Item:
    """A node to put."""
    return Item(key, digest([key, properties]), Node(properties))


def edge(key: str, source: str, target: str, **properties: Any) -> Item:
    """An edge to put."""
    return Item(key, digest([key, source, target, properties]), Edge(source, target, properties))


def people(count: int) -> list[Item]:
    """Nodes `n-000` and so on, with properties of every type and some without a value."""
    return [node(it.key, **it.content.tags) for it in notes(count)]


def valued(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Those that have a value."""
    return {name: value for name, value in properties.items() if value is not None}


@dataclass
class Graph:
    """What is true, looked at in the most plain way: collection's label -> key -> what is put."""

    collections: Sequence[Collection] = COLLECTIONS
    nodes: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    edges: dict[str, dict[str, Edge[Any]]] = field(default_factory=dict)

    def put(self, collection: Collection, items: Iterable[Item]) -> None:
        """Hold these."""
        for item in items:
            if collection.ends:
                self.edges.setdefault(collection.label, {})[item.key] = item.content
            else:
                held = self.nodes.setdefault(collection.label, {})
                held[item.key] = dict(item.content.properties)

    def _of(self, label: str) -> Collection:
        return next(it for it in self.collections if it.label == label)

    def node(self, scope: Scope, label: str, key: str) -> GraphNode | None:
        """The node, if there is one and the scope sees it."""
        found = self.nodes.get(label, {}).get(key)
        collection = self._of(label)
        if found is None or not scope.sees(collection.marks, found):
            return None
        return GraphNode(label, key, {name: found.get(name) for name in collection.tag_types})

    def all_edges(
        self, scope: Scope, types: Iterable[str]
    ) -> list[tuple[GraphEdge, GraphNode, GraphNode]]:
        """Every edge of these types that the scope sees, with its ends, in the order of keys."""
        found = []
        for name in dict.fromkeys(types):
            collection = self._of(name)
            for key, held in sorted(self.edges.get(name, {}).items()):
                one = self.node(scope, collection.ends[0], held.source)
                other = self.node(scope, collection.ends[1], held.target)
                if one and other and scope.sees(collection.marks, held.properties):
                    properties = {it: held.properties.get(it) for it in collection.tag_types}
                    edge = GraphEdge(name, key, held.source, held.target, properties)
                    found.append((edge, one, other))
        return found

    def steps(
        self, scope: Scope, types: Iterable[str], direction: str
    ) -> list[tuple[GraphEdge, GraphNode, GraphNode]]:
        """(edge, from, to) for every way to go."""
        edges = self.all_edges(scope, types)
        along = edges if direction in ("out", "both") else []
        against = [(e, b, a) for e, a, b in edges] if direction in ("in", "both") else []
        return [*along, *against]

    def hops(
        self, scope: Scope, starts: Iterable[tuple[str, str]], types: Iterable[str], direction: str
    ) -> dict[tuple[str, str], int]:
        """(label, key) -> how many edges away, of all that can be come to."""
        found = {place: 0 for place in starts if self.node(scope, *place)}
        steps = self.steps(scope, types, direction)
        for hop in range(len(found) and 1_000):
            new = {
                (b.label, b.key)
                for _, a, b in steps
                if found.get((a.label, a.key)) == hop and (b.label, b.key) not in found
            }
            if not new:
                break
            found |= dict.fromkeys(new, hop + 1)
        return found

    def best(
        self, scope: Scope, source: tuple[str, str], types: Iterable[str], direction: str, hops: int
    ) -> dict[tuple[str, str], float]:
        """(label, key) -> the smallest sum of `weight` of a way of at most `hops` edges."""
        sums = {source: 0.0} if self.node(scope, *source) else {}
        steps = self.steps(scope, types, direction)
        for _ in range(hops):
            before = dict(sums)
            for edge, a, b in steps:
                weight = edge.properties.get("weight")
                if weight is not None and (a.label, a.key) in before:
                    cost = before[a.label, a.key] + weight
                    sums[b.label, b.key] = min(cost, sums.get((b.label, b.key), cost))
        return sums


def random_graph(dice: random.Random, collections: Sequence[Collection]) -> Graph:
    """Few nodes, many edges between them, some of which lack an end; whose they are is mixed."""
    made = Graph(collections)
    names = {it.label: it for it in collections}

    def whose(collection: Collection) -> dict[str, Any]:
        if not collection.marks:
            return {}
        tenant = dice.choice(["acme", "acme", "acme", "other", None])
        return {TENANT_ID: tenant, OWNER_ID: dice.choice([None, None, "1", "2"])}

    for label, letter, count in (("Person", "p", 9), ("Thing", "t", 4)):
        items = [
            node(f"{letter}{i}", **_kept(dice, label, i), **whose(names[label]))
            for i in range(count)
            if dice.random() < 0.85
        ]
        made.put(names[label], items)
    knows = [
        edge(
            f"k{i:02}",
            f"p{dice.randrange(9)}",
            f"p{dice.randrange(9)}",
            since=dice.choice([None, *range(4)]),
            weight=dice.choice([None, 0.0, 0.5, 1.0, 2.5, 7.0]),
            **whose(names["KNOWS"]),
        )
        for i in range(dice.randrange(8, 30))
    ]
    owns = [
        edge(f"o{i}", f"p{dice.randrange(9)}", f"t{dice.randrange(4)}", **whose(names["OWNS"]))
        for i in range(dice.randrange(2, 8))
    ]
    made.put(names["KNOWS"], knows)
    made.put(names["OWNS"], owns)
    return made


def _kept(dice: random.Random, label: str, number: int) -> dict[str, Any]:
    if label == "Thing":
        return {"name": f"thing {number}"}
    return {"stars": dice.choice([None, 1, 2, 3]), "owner": dice.choice(["ada", "grace"])}


def items_of(graph: Graph, collection: Collection) -> list[Item]:
    """What to put so that a store holds it."""
    if collection.ends:
        held = graph.edges.get(collection.label, {})
        return [edge(k, it.source, it.target, **it.properties) for k, it in held.items()]
    return [node(k, **it) for k, it in graph.nodes.get(collection.label, {}).items()]


def fits(properties: Mapping[str, Any], where: Where | None) -> bool:
    """Whether `properties` satisfy `where`, by definition."""
    return matches(dict(properties), where or {})
