"""The verbs that walk through Neo4j edge by edge: what is near, ways, parts of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from polyplane.errors import StoreDown
from polyplane.model.collection import Collection
from polyplane.model.graph import (
    ID,
    Direction,
    GraphEdge,
    GraphNode,
    GraphView,
    Path,
    Reached,
    Subgraph,
)
from polyplane.model.scope import Scope
from polyplane.stores.graph.asking import Leg, ends_of, legs_of, nodes_of
from polyplane.stores.graph.neo4j_asking import Asked, relation
from polyplane.stores.graph.neo4j_names import Names, edge, quoted
from polyplane.stores.graph.neo4j_reading import nodes
from polyplane.stores.graph.neo4j_server import Server
from polyplane.stores.graph.walks import Place, Step, Way, cheapest, levels, shortest

EDGES_MAX: Final = 100_000
"""Edges of a subgraph."""
_TRIES: Final = 3
"""A way is looked for again when something of it is gone before it could be read."""


class Walker:
    """Walks by what one scope sees of one view."""

    def __init__(self, server: Server, names: Names, view: GraphView, scope: Scope) -> None:
        self._server, self._names, self._view, self._scope = server, names, view, scope

    async def within(
        self, start: Place, edges: Sequence[str], hops: int, direction: Direction, limit: int
    ) -> list[Reached]:
        """The nodes at most `hops` edges away, the nearest first."""
        far: dict[Place, int] = {}
        hop = 0
        async for found in levels([start], self._legs(edges, direction), self._expand, hops):
            hop += 1
            far |= dict.fromkeys(sorted(found), hop)
            if len(far) >= limit:
                break
        places = list(far)[:limit]
        read = await self._nodes(places)
        return [Reached(far[place], read[place]) for place in places if place in read]

    async def subgraph(
        self, keys: Mapping[str, Sequence[str]], edges: Sequence[str], hops: int, limit: int
    ) -> Subgraph:
        """What is around some nodes."""
        begun = await self._nodes([(label, key) for label, some in keys.items() for key in some])
        places = sorted(begun)
        if places and len(places) <= limit:
            async for found in levels(places, self._legs(edges, "both"), self._expand, hops):
                places += sorted(found)
                if len(places) > limit:
                    break
        read = await self._nodes(places[:limit])
        among = await self._among(read, edges)
        is_more = len(places) > limit or len(among) > EDGES_MAX
        return Subgraph(tuple(read.values()), tuple(among[:EDGES_MAX]), is_more)

    async def path(
        self,
        source: Place,
        target: Place,
        edges: Sequence[str],
        direction: Direction,
        weight: str | None,
        hops: int,
    ) -> Path | None:
        """A way of the fewest edges, or of the smallest sum of weights."""
        legs = self._legs(edges, direction)
        for _ in range(_TRIES):
            if weight is None:
                way = await shortest(source, target, legs, self._expand, hops)
            else:
                way = await cheapest(source, target, legs, partial(self._weigh, weight), hops)
            if way is None:
                return None
            path = await self._read(source, way)
            if path is not None or not way.gone:
                return path
        raise StoreDown("The graph changes faster than a way through it can be read.")

    async def _read(self, source: Place, way: Way) -> Path | None:
        """The way with all that is on it; None when not all of it is there any more."""
        places = [source, *(came.end for came in way.gone)]
        read = await self._nodes(places)
        wanted: dict[str, list[str]] = {}
        for came in way.gone:
            wanted.setdefault(came.leg.edges.label, []).append(came.edge)
        edges = {
            (it.type, it.key): it
            for label, keys in wanted.items()
            for it in await self._edges(self._view.edges[label], keys)
        }
        gone = [(came.leg.edges.label, came.edge) for came in way.gone]
        if not (set(places) <= read.keys() and set(gone) <= edges.keys()):
            return None
        return Path(
            way.cost, tuple(read[place] for place in places), tuple(edges[it] for it in gone)
        )

    def _legs(self, edges: Sequence[str], direction: Direction) -> list[Leg]:
        return legs_of(self._view, edges, direction)

    async def _nodes(self, places: Iterable[Place]) -> dict[Place, GraphNode]:
        """Those that are seen, in the order of `places`."""
        wanted: dict[str, list[str]] = {}
        places = list(dict.fromkeys(places))
        for label, key in places:
            wanted.setdefault(label, []).append(key)
        read = {
            (label, node.key): node
            for label, keys in wanted.items()
            for node in await nodes(
                self._server, self._names, self._scope, nodes_of(self._view, label), keys
            )
        }
        return {place: read[place] for place in places if place in read}

    def _pattern(self, asked: Asked, leg: Leg) -> str:
        """An edge gone by `leg` from `a` to `b`, all three of them seen."""
        start, end = self._view.nodes[leg.start], self._view.nodes[leg.end]
        way: Direction = "out" if leg.forward else "in"
        return (
            f"MATCH (a:{asked.of(start)} {{{ID}: key}}){relation('r', asked.of(leg.edges), way)}"
            f"(b:{asked.of(end)}) WHERE {asked.is_seen('a', start)} "
            f"AND {asked.is_seen('r', leg.edges)} AND {asked.is_seen('b', end)}"
        )

    async def _expand(self, leg: Leg, keys: Sequence[str]) -> list[Step]:
        """For each node that is come to one edge by which: more would be the same to a walk."""
        asked = Asked(self._names, self._scope, {"keys": list(keys)})
        found = await self._server.read(
            f"walk along {leg.edges.label}",
            f"UNWIND $keys AS key {self._pattern(asked, leg)} "
            f"WITH b, collect([key, r.{ID}])[0] AS came RETURN collect([came[0], came[1], b.{ID}])",
            asked.parameters,
        )
        return [Step(*step) for step in found[0][0]]

    async def _weigh(self, weight: str, leg: Leg, keys: Sequence[str]) -> list[Step]:
        """All edges that have a weight."""
        asked = Asked(self._names, self._scope, {"keys": list(keys)})
        name = f"r.{quoted(weight)}"
        found = await self._server.read(
            f"walk along {leg.edges.label}",
            f"UNWIND $keys AS key {self._pattern(asked, leg)} AND {name} >= 0 "
            f"RETURN collect([key, r.{ID}, b.{ID}, toFloat({name})])",
            asked.parameters,
        )
        return [Step(*step) for step in found[0][0]]

    async def _edges(self, kind: Collection, keys: Sequence[str]) -> list[GraphEdge]:
        asked = Asked(self._names, self._scope, {"keys": list(keys)})
        found = await self._server.read(
            f"read {kind.label}",
            f"UNWIND $keys AS key MATCH (a)-[r:{asked.of(kind)} {{{ID}: key}}]->(b) "
            f"WHERE {asked.is_seen('r', kind)} RETURN properties(r), a.{ID}, b.{ID}",
            asked.parameters,
        )
        return [edge(kind, *record) for record in found]

    async def _among(self, seen: Iterable[Place], edges: Sequence[str]) -> list[GraphEdge]:
        """The edges between nodes that are seen, at most one more than there may be."""
        keys: dict[str, list[str]] = {}
        for label, key in seen:
            keys.setdefault(label, []).append(key)
        found: list[GraphEdge] = []
        for name in sorted(set(edges)):
            kind = self._view.edges[name]
            source, target = ends_of(self._view, kind)
            given = {
                "keys": keys.get(source.label, []),
                "others": keys.get(target.label, []),
                "limit": EDGES_MAX + 1 - len(found),
            }
            asked = Asked(self._names, self._scope, given)
            records = await self._server.read(
                f"read {name}",
                f"UNWIND $keys AS key MATCH (a:{asked.of(source)} {{{ID}: key}})"
                f"-[r:{asked.of(kind)}]->(b:{asked.of(target)}) "
                f"WHERE b.{ID} IN $others AND {asked.is_seen('r', kind)} "
                f"RETURN properties(r), a.{ID}, b.{ID} ORDER BY r.{ID} LIMIT $limit",
                asked.parameters,
            )
            found += [edge(kind, *record) for record in records]
        return found
