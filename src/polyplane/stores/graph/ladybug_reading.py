"""What is asked of Ladybug, one statement or a walk of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from polyplane.model.collection import Collection
from polyplane.model.graph import (
    Direction,
    EdgeStep,
    GraphEdge,
    GraphNode,
    GraphView,
    Neighbour,
    Path,
    Pattern,
    Reached,
    Subgraph,
)
from polyplane.model.items import Where
from polyplane.model.scope import Scope
from polyplane.stores.graph import asking, ladybug_answers as answers, walks
from polyplane.stores.graph.asking import Leg
from polyplane.stores.graph.cypher_text import quoted
from polyplane.stores.graph.ladybug_lane import Lane, Session
from polyplane.stores.graph.ladybug_tables import Bound, returned
from polyplane.stores.graph_protocol import GraphStore

SINGLES_MAX: Final = 400
"""From so many nodes one statement each is quicker than one that looks at all edges."""
FEW: Final = 200
"""So many rows are sorted here, and not by the engine."""
EDGES_MAX: Final = 100_000
"""The most edges that a part of a graph is given out with."""


class LadybugReading(GraphStore):
    """The reading verbs of `LadybugStore` but for free Cypher."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def nodes(
        self, view: GraphView, scope: Scope, label: str, keys: Sequence[str]
    ) -> list[GraphNode]:
        collection = asking.nodes_of(view, label)
        bound = Bound()
        wanted = answers.visible(bound, "n", collection, scope)
        statement = (
            f"UNWIND $keys AS k MATCH (n:{quoted(collection.labelled)} {{`_key`: k}})"
            f" WHERE {wanted} RETURN {returned('n', collection)}"
        )
        found: dict[str, GraphNode] = {}
        for some in answers.pieces(keys):
            for row in await self._rows(statement, {**bound.parameters, "keys": some}):
                found[row[0]] = answers.node_of(collection, row)
        return [found[key] for key in keys if key in found]

    async def find(
        self, view: GraphView, scope: Scope, label: str, *, where: Where | None, limit: int
    ) -> list[GraphNode]:
        collection = asking.nodes_of(view, label)
        asking.check_limit(limit)
        bound = Bound()
        rows = await self._rows(
            f"MATCH (n:{quoted(collection.labelled)})"
            f" WHERE {answers.visible(bound, 'n', collection, scope, where)}"
            f" RETURN {returned('n', collection)} ORDER BY n.`_key` LIMIT {limit:d}",
            bound.parameters,
        )
        return [answers.node_of(collection, row) for row in rows]

    async def neighbours(
        self,
        view: GraphView,
        scope: Scope,
        edge: str,
        key: str,
        *,
        direction: Direction = "out",
        where: Where | None = None,
        of: Where | None = None,
        order_by: str | None = None,
        descending: bool = False,
        limit: int = 100,
    ) -> list[Neighbour]:
        edges = asking.edges_of(view, edge)
        asking.check_limit(limit)
        asking.check_order(edges, order_by)
        if direction == "both":
            asking.check_both(edges)
        found: dict[str, Neighbour] = {}
        is_all = True
        for leg in asking.legs_of(view, [edge], direction):
            start, end = (asking.nodes_of(view, label) for label in (leg.start, leg.end))
            bound = Bound()
            statement = (
                f"MATCH (a:{quoted(start.labelled)} {{`_key`: {bound.value(key)}}})"
                f"{answers.along(leg)}(b:{quoted(end.labelled)})"
                f" WHERE {answers.visible(bound, 'a', start, scope)}"
                f" AND {answers.visible(bound, 'b', end, scope, of)}"
                f" AND {answers.visible(bound, 'r', edges, scope, where)}"
                f" RETURN {returned('r', edges)}, {returned('b', end)}"
            )
            order = answers.ordered("r", order_by, descending)
            rows, is_few = await self._first(statement, bound, order, limit)
            is_all = is_all and is_few
            width = 1 + len(edges.tag_types)
            for row in rows:
                node = answers.node_of(end, row[width:])
                ends = (key, node.key) if leg.forward else (node.key, key)
                found.setdefault(
                    row[0], Neighbour(answers.edge_of(edges, row[:width], *ends), node)
                )
        if direction != "both" and not is_all:
            return list(found.values())
        return answers.sorted_neighbours(found.values(), order_by, descending)[:limit]

    async def _first(
        self, statement: str, bound: Bound, order: str, limit: int
    ) -> tuple[list[list[Any]], bool]:
        """At least the first `limit` rows: all there are, in any order, and True, where they are
        few, for to have the engine sort them takes as long as to find them; else in order.
        """

        def asked(session: Session) -> tuple[list[list[Any]], bool]:
            few = session.rows(f"{statement} LIMIT {FEW + 1:d}", **bound.parameters)
            if len(few) <= FEW:
                return few, True
            ordered = f"{statement} ORDER BY {order} LIMIT {limit:d}"
            return session.rows(ordered, **bound.parameters), False

        return await self._lane.read(asked)

    async def within(
        self,
        view: GraphView,
        scope: Scope,
        label: str,
        key: str,
        *,
        edges: Sequence[str],
        hops: int,
        direction: Direction = "both",
        limit: int = 1_000,
    ) -> list[Reached]:
        asking.check_hops(hops)
        asking.check_limit(limit)
        legs = asking.legs_of(view, edges, direction)
        if not await self.nodes(view, scope, label, [key]):
            return []
        near = await self._near(view, scope, [(label, key)], legs, hops, limit)
        nodes = await self._at(view, scope, [place for _, place in near])
        return [Reached(hop, nodes[place]) for hop, place in near if place in nodes]

    async def paths(
        self,
        view: GraphView,
        scope: Scope,
        source: tuple[str, str],
        target: tuple[str, str],
        *,
        edges: Sequence[str],
        direction: Direction = "both",
        weight: str | None = None,
        hops: int = 6,
    ) -> Path | None:
        asking.check_hops(hops)
        legs = asking.legs_of(view, edges, direction)
        asking.check_weight([leg.edges for leg in legs], weight)
        if len(await self._at(view, scope, [source, target])) < len({source, target}):
            return None
        find = walks.shortest if weight is None else walks.cheapest
        way = await find(source, target, legs, self._expand(view, scope, weight), hops)
        if way is None:
            return None
        places = [source, *(came.end for came in way.gone)]
        nodes = await self._at(view, scope, places)
        gone: dict[tuple[str, str], GraphEdge] = {}
        for leg in legs:
            mine = [came for came in way.gone if came.leg.edges == leg.edges]
            if mine:
                sources = [came.ends[0] for came in mine]
                ids = [came.edge for came in mine]
                for edge in await self._edges(view, scope, leg.edges, sources, ids):
                    gone[edge.type, edge.key] = edge
        named = [(came.leg.edges.label, came.edge) for came in way.gone]
        if not all(place in nodes for place in places) or not all(it in gone for it in named):
            return None  # changed meanwhile
        return Path(
            way.cost,
            tuple(nodes[place] for place in places),
            tuple(gone[name] for name in named),
        )

    async def match(
        self, view: GraphView, scope: Scope, pattern: Pattern, *, limit: int = 100
    ) -> list[tuple[Any, ...]]:
        asking.check_limit(limit)
        asking.check_pattern(view, pattern)
        bound = Bound()
        chain, wanted, given, keys = "", [], [], []
        edges: dict[str, list[str]] = {}
        for index, step in enumerate(pattern.steps):
            name, held = f"s{index}", asking.collection_of(view, step)
            if isinstance(step, EdgeStep):
                one, other = {"out": ("-", "->"), "in": ("<-", "-"), "both": ("-", "-")}[
                    step.direction
                ]
                chain += f"{one}[{name}:{quoted(held.labelled)}]{other}"
                wanted += [f"{name}.`id` <> {it}.`id`" for it in edges.get(step.type, ())]
                edges.setdefault(step.type, []).append(name)
            else:
                chain += f"({name}:{quoted(held.labelled)})"
            wanted.append(answers.visible(bound, name, held, scope, step.where))
            given.append(returned(name, held))
            keys.append(f"{name}.`id`")
        order = ", ".join(keys)
        if pattern.order_by is not None:
            index, prop = pattern.order_by
            value = f"s{index}.{quoted(prop)}"
            order = f"{value} IS NULL, {value}{' DESC' if pattern.descending else ''}, {order}"
        statement = (
            f"MATCH {chain} WHERE {' AND '.join(wanted)} RETURN DISTINCT {', '.join(given)}"
            f" ORDER BY {order}"
        )
        asked = limit
        while True:
            rows = await self._rows(f"{statement} LIMIT {asked:d}", bound.parameters)
            found = [answers.matched(view, pattern, row) for row in rows]
            for index, step in enumerate(pattern.steps):
                if isinstance(step, EdgeStep) and step.direction == "both":
                    found = await self._turned(view, scope, index, step, found)
            if len(found) >= limit or len(rows) < asked:
                return found[:limit]
            asked *= 2

    async def _turned(
        self, view: GraphView, scope: Scope, index: int, step: EdgeStep, rows: list[tuple[Any, ...]]
    ) -> list[tuple[Any, ...]]:
        """`rows` with the edges of a step that is gone either way as they really are: the engine
        does not say which way it went, and where two are between the same nodes it has told of one
        that it was asked to leave out. That, and one that is gone meanwhile, takes its row along.
        """
        ends = [row[at].key for row in rows for at in (index - 1, index + 1)]
        edges = asking.edges_of(view, step.type)
        found = await self._edges(view, scope, edges, ends, where=step.where)
        real = {it.key: it for it in found}
        return [
            (*row[:index], real[row[index].key], *row[index + 1 :])
            for row in rows
            if row[index].key in real
        ]

    async def subgraph(
        self,
        view: GraphView,
        scope: Scope,
        keys: Mapping[str, Sequence[str]],
        *,
        edges: Sequence[str],
        hops: int,
        limit: int = 1_000,
    ) -> Subgraph:
        asking.check_hops(hops)
        asking.check_limit(limit)
        legs = asking.legs_of(view, edges, "both")
        wanted = [(label, key) for label, some in keys.items() for key in some]
        first = sorted(await self._at(view, scope, wanted))
        near = await self._near(view, scope, first, legs, hops, limit + 1)
        places = [*first, *(place for _, place in near)]
        nodes = await self._at(view, scope, places[:limit])
        found: list[GraphEdge] = []
        for collection in dict.fromkeys(leg.edges.label for leg in legs):
            held = asking.edges_of(view, collection)
            source, target = (end.label for end in asking.ends_of(view, held))
            sources = [key for label, key in nodes if label == source]
            given = await self._edges(view, scope, held, sources)
            found += [edge for edge in given if (target, edge.target) in nodes]
        found.sort(key=lambda edge: (edge.type, edge.key))
        return Subgraph(
            tuple(nodes[place] for place in places[:limit] if place in nodes),
            tuple(found[:EDGES_MAX]),
            len(places) > limit or len(found) > EDGES_MAX,
        )

    # What walks are made of

    async def _near(
        self,
        view: GraphView,
        scope: Scope,
        starts: Sequence[walks.Place],
        legs: Sequence[Leg],
        hops: int,
        limit: int,
    ) -> list[tuple[int, walks.Place]]:
        """At most `limit` places around: how many edges away, and which, in that order."""
        near: list[tuple[int, walks.Place]] = []
        if not starts:
            return near
        async for found in walks.levels(starts, legs, self._expand(view, scope), hops):
            hop = near[-1][0] + 1 if near else 1
            near += [(hop, place) for place in sorted(found)]
            if len(near) >= limit:
                break
        return near[:limit]

    def _expand(self, view: GraphView, scope: Scope, weight: str | None = None) -> walks.Expand:
        """The edges that `scope` sees, of some nodes; with `weight` only those that have it."""

        async def expanded(leg: Leg, keys: Sequence[str]) -> Iterable[walks.Step]:
            start, end = (asking.nodes_of(view, label) for label in (leg.start, leg.end))
            bound = Bound()
            weighed = "1.0" if weight is None else f"r.{quoted(weight)}"
            rest = (
                f"{answers.along(leg)}(b:{quoted(end.labelled)})"
                f" WHERE {answers.visible(bound, 'a', start, scope)}"
                f" AND {answers.visible(bound, 'b', end, scope)} AND {weighed} IS NOT NULL"
                f" AND {answers.visible(bound, 'r', leg.edges, scope)}"
                f" RETURN a.`_key`, r.`id`, b.`_key`, {weighed}"
            )
            rows = await self._from_each(start, rest, bound, keys)
            return map(walks.Step._make, rows)

        return expanded

    async def _at(
        self, view: GraphView, scope: Scope, places: Iterable[walks.Place]
    ) -> dict[walks.Place, GraphNode]:
        """What is there of these, in their order."""
        wanted = list(dict.fromkeys(places))
        found: dict[walks.Place, GraphNode] = {}
        for label in dict.fromkeys(label for label, _ in wanted):
            keys = [key for it, key in wanted if it == label]
            for node in await self.nodes(view, scope, label, keys):
                found[label, node.key] = node
        return {place: found[place] for place in wanted if place in found}

    async def _edges(
        self,
        view: GraphView,
        scope: Scope,
        edges: Collection,
        sources: Sequence[str],
        ids: Sequence[str] | None = None,
        where: Where | None = None,
    ) -> list[GraphEdge]:
        """The edges from these keys, or those of them with these keys of their own."""
        source, target = asking.ends_of(view, edges)
        bound = Bound()
        among = "" if ids is None else f" AND r.`id` IN {bound.value(list(ids))}"
        rest = (
            f"-[r:{quoted(edges.labelled)}]->(b:{quoted(target.labelled)})"
            f" WHERE {answers.visible(bound, 'a', source, scope)}"
            f" AND {answers.visible(bound, 'b', target, scope)}"
            f" AND {answers.visible(bound, 'r', edges, scope, where)}{among}"
            f" RETURN a.`_key`, b.`_key`, {returned('r', edges)}"
        )
        rows = await self._from_each(source, rest, bound, list(dict.fromkeys(sources)))
        return list(
            {row[2]: answers.edge_of(edges, row[2:], row[0], row[1]) for row in rows}.values()
        )

    async def _from_each(
        self, start: Collection, rest: str, bound: Bound, keys: Sequence[str]
    ) -> list[list[Any]]:
        """What `rest` finds from the nodes `a` under `keys`: from a few one by one, from many by
        looking at all edges.
        """

        def asked(session: Session) -> list[list[Any]]:
            label = quoted(start.labelled)
            if len(keys) <= SINGLES_MAX:
                one = f"MATCH (a:{label} {{`_key`: $key}}){rest}"
                each = (session.rows(one, key=key, **bound.parameters) for key in keys)
                return [row for rows in each for row in rows]
            many = f"UNWIND $keys AS k MATCH (a:{label} {{`_key`: k}}){rest}"
            some = (session.rows(many, keys=it, **bound.parameters) for it in answers.pieces(keys))
            return [row for rows in some for row in rows]

        return await self._lane.read(asked)

    async def _rows(self, statement: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
        return await self._lane.read(lambda session: session.rows(statement, **parameters))
