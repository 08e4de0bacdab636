"""How applications read a graph: what `plane.graph` and `plane.acting(...).graph` are.

The reader takes the collections that are read now and go with each other, hands the scope of
whoever reads to the store, which filters, and looks again at everything that comes back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from polyplane.errors import Forbidden, Misconfigured, Refused, StoreDown
from polyplane.model.collection import Collection
from polyplane.model.graph import (
    Direction,
    EdgeStep,
    GraphEdge,
    GraphNode,
    GraphView,
    Neighbour,
    NodeStep,
    Path,
    Pattern,
    Reached,
    Subgraph,
    Table,
)
from polyplane.model.items import Where
from polyplane.model.scope import Scope, check_unreserved
from polyplane.runtime.alarms import Alarms
from polyplane.runtime.generations import Reading
from polyplane.runtime.shapes import EdgesName, NodesName, Shapes
from polyplane.stores.graph_protocol import GraphStore

LIMIT_MAX: Final = 10_000
HOPS_MAX: Final = 12
CYPHER_TIMEOUT_MAX_S: Final = 60.0


class Graph:
    """Questions to the graph. Nodes and edges are named by label and type, or by projection.

    An edge is seen with both of its ends, and each of the three only by whoever may. Every verb
    raises NotFound for what the plane does not declare, Refused for a property that is not, or a
    limit out of bounds (1 to 10,000; 12 hops), and StoreDown while a collection is filled, or edges
    are built again that go with other nodes: what is lacking would be no answer.
    """

    def __init__(
        self,
        scope: Scope | None,
        may_ask_freely: Callable[[], bool],
        shapes: Shapes,
        readings: Callable[[str], Reading],
        refresh: Callable[[], Awaitable[None]],
        store: GraphStore,
        alarms: Alarms,
    ) -> None:
        """Without a `scope` only what belongs to nobody is read. `refresh` has `readings` give what
        the journal knows.
        """
        self._scope = scope
        self._may_ask_freely = may_ask_freely
        self._shapes = shapes
        self._readings = readings
        self._refresh = refresh
        self._store = store
        self._alarms = alarms

    async def nodes(self, nodes: NodesName, keys: Sequence[Any]) -> list[GraphNode]:
        """The nodes under `keys` that exist, in the order of `keys`."""
        label, named = self._shapes.label(nodes), [str(key) for key in keys]
        _check(len(named), "keys", LIMIT_MAX, least=0)
        view, scope = await self._view([label], [])
        return self._seen(await self._store.nodes(view, scope, label, named))

    async def find(
        self, nodes: NodesName, *, where: Where | None = None, limit: int = 100
    ) -> list[GraphNode]:
        """Nodes that satisfy `where`, in the order of their keys."""
        label = self._shapes.label(nodes)
        _check(limit, "limit", LIMIT_MAX)
        _check_where(where)
        view, scope = await self._view([label], [])
        return self._seen(await self._store.find(view, scope, label, where=where, limit=limit))

    async def neighbours(
        self,
        edges: EdgesName,
        key: Any,
        *,
        direction: Direction = "out",
        where: Where | None = None,
        of: Where | None = None,
        order_by: str | None = None,
        descending: bool = False,
        limit: int = 100,
    ) -> list[Neighbour]:
        """What is one such edge away from the node under `key`, at the end that `direction` begins
        with.

        `where` is asked of edges, `of` of the nodes found. In the order of the edges' property
        `order_by`, and of the edges' keys.
        """
        type_ = self._shapes.type(edges)
        _check(limit, "limit", LIMIT_MAX)
        _check_where(where, of)
        view, scope = await self._view([], [type_])
        found = await self._store.neighbours(
            view,
            scope,
            type_,
            str(key),
            direction=direction,
            where=where,
            of=of,
            order_by=order_by,
            descending=descending,
            limit=limit,
        )
        self._seen(it.node for it in found)
        self._seen(it.edge for it in found)
        return found

    async def within(
        self,
        nodes: NodesName,
        key: Any,
        *,
        edges: Sequence[EdgesName] = (),
        hops: int = 2,
        direction: Direction = "both",
        limit: int = 1_000,
    ) -> list[Reached]:
        """The nodes at most `hops` edges away from a node, the nearest first, then by label and
        key; `edges` are all that lead anywhere if none is named. The first one is not among them.
        """
        label = self._shapes.label(nodes)
        types = self._shapes.types(edges, [label])
        _check(limit, "limit", LIMIT_MAX)
        _check(hops, "hops", HOPS_MAX)
        view, scope = await self._view([label], types)
        found = await self._store.within(
            view,
            scope,
            label,
            str(key),
            edges=types,
            hops=hops,
            direction=direction,
            limit=limit,
        )
        self._seen(it.node for it in found)
        return found

    async def path(
        self,
        source: tuple[NodesName, Any],
        target: tuple[NodesName, Any],
        *,
        edges: Sequence[EdgesName] = (),
        direction: Direction = "both",
        weight: str | None = None,
        hops: int = 6,
    ) -> Path | None:
        """A way from (nodes, key) to (nodes, key) of the fewest edges; with `weight` that of the
        smallest sum of this property, which is not negative. None when there is none of at most
        `hops` edges.
        """
        ends = [(self._shapes.label(nodes), str(key)) for nodes, key in (source, target)]
        types = self._shapes.types(edges, [label for label, _ in ends])
        _check(hops, "hops", HOPS_MAX)
        view, scope = await self._view([label for label, _ in ends], types)
        found = await self._store.paths(
            view,
            scope,
            ends[0],
            ends[1],
            edges=types,
            direction=direction,
            weight=weight,
            hops=hops,
        )
        if found is not None:
            self._seen(found.nodes)
            self._seen(found.edges)
        return found

    async def match(
        self,
        *steps: NodeStep | EdgeStep,
        order_by: tuple[int, str] | None = None,
        descending: bool = False,
        limit: int = 100,
    ) -> list[tuple[GraphNode | GraphEdge, ...]]:
        """What fits a chain of nodes with an edge between each two: for each step what was found.

        `order_by` is (index of a step, property); without it they are in the order of the keys.
        """
        _check(limit, "limit", LIMIT_MAX)
        _check_where(*(it.where for it in steps))
        labels = [self._shapes.label(it.label) for it in steps if isinstance(it, NodeStep)]
        types = [self._shapes.type(it.type) for it in steps if isinstance(it, EdgeStep)]
        view, scope = await self._view(labels, types)
        pattern = Pattern(tuple(steps), order_by, descending)
        found = await self._store.match(view, scope, pattern, limit=limit)
        for row in found:
            self._seen(row)
        return found

    async def subgraph(
        self,
        keys: Mapping[Any, Sequence[Any]],
        *,
        edges: Sequence[EdgesName] = (),
        hops: int = 1,
        limit: int = 1_000,
    ) -> Subgraph:
        """What is around the nodes (label or projection -> keys): at most `limit` nodes, the
        nearest first, and the edges among them.
        """
        wanted = {self._shapes.label(it): [str(key) for key in of] for it, of in keys.items()}
        types = self._shapes.types(edges, wanted)
        _check(limit, "limit", LIMIT_MAX)
        _check(hops, "hops", HOPS_MAX, least=0)
        view, scope = await self._view([*wanted], types)
        found = await self._store.subgraph(view, scope, wanted, edges=types, hops=hops, limit=limit)
        self._seen(found.nodes)
        self._seen(found.edges)
        return found

    async def cypher(
        self,
        text: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        limit: int = 1_000,
        timeout_s: float = 10.0,
    ) -> Table:
        """One read-only query in Cypher over everything, in which the declared labels and types
        stand for what is read of them now. What is hidden (a node that is not there any more, or
        not yet) has no `id`.

        Nobody can say what a free query reads. So of what belongs to tenants or owners it is for
        the plane itself, and for who operates it; else for who has `graph.cypher`. Raises
        Forbidden for anybody else, Refused for a query that would write, fails or takes longer.
        """
        if not self._may_ask_freely():
            raise Forbidden(
                "A free query may read what belongs to others.",
                fix="Ask by neighbours, within, path or match; or as the operator of the plane.",
            )
        _check(limit, "limit", LIMIT_MAX)
        if not 0 < timeout_s <= CYPHER_TIMEOUT_MAX_S:
            raise Refused(
                f"timeout_s must be above 0 to {CYPHER_TIMEOUT_MAX_S:g}.", field="timeout_s"
            )
        names = [*self._shapes.nodes], [*self._shapes.edges]
        view = await self._fitting(*names)
        return await self._store.cypher(
            view, Scope.everything, text, parameters or {}, limit=limit, timeout_s=timeout_s
        )

    # What is read, and by whom

    async def _view(self, labels: Sequence[str], types: Sequence[str]) -> tuple[GraphView, Scope]:
        """The collections to read, and the scope to read them with."""
        view = await self._fitting(labels, types)
        owned = [it for it in (*view.nodes, *view.edges) if self._shapes.marks(it)]
        if not owned:
            return view, self._scope or Scope.everything
        if self._scope is None or self._scope.is_everything:
            raise Misconfigured(
                f"{owned[0]} belongs to tenants or owners: say who reads it.",
                fix='Use: plane.acting(pp.Caller(actor="...", tenant="...")).graph',
            )
        return view, self._scope

    async def _fitting(self, labels: Iterable[str], types: Iterable[str]) -> GraphView:
        """The collections that are read now, if they are whole and go with each other."""
        view, why = self._now(labels, types)
        if why:
            await self._refresh()
            view, why = self._now(labels, types)
        if why:
            raise StoreDown(
                why, fix="Try again in a moment; `polyplane status` tells how far it is."
            )
        return view

    def _now(self, labels: Iterable[str], types: Iterable[str]) -> tuple[GraphView, str]:
        """What this process knows to be read; and why it is no answer, if it is none."""
        nodes: dict[str, Collection] = {}
        edges: dict[str, Collection] = {}
        why = ""
        for name in types:
            reading = self._readings(self._shapes.edges[name].name)
            edges[name] = reading.collection
            why = why or self._lacks(name, reading.collection, reading.filled)
            for end in reading.ends:
                if nodes.setdefault(end.label, end).labelled != end.labelled:
                    why = f"The edges between {end.label} nodes are being rebuilt."
                why = why or self._lacks(end.label, end, is_filled=True)
        for label in labels:
            if label not in nodes:
                reading = self._readings(self._shapes.nodes[label].name)
                nodes[label] = reading.collection
                why = why or self._lacks(label, reading.collection, reading.filled)
        return GraphView(nodes, edges), why

    def _lacks(self, name: str, collection: Collection, is_filled: bool) -> str:
        """Why it is not to be read: one of before, that does not say whose its items are, too."""
        if is_filled and set(self._shapes.marks(name)) <= set(collection.marks):
            return ""
        return f"{collection.target} is being filled."

    def _seen(self, found: Iterable[Any]) -> list[Any]:
        """What was found, which the scope sees. Raises ScopeViolated for anything else."""
        checked = list(found)
        for it in checked:
            name = it.label if isinstance(it, GraphNode) else it.type
            marks = self._shapes.marks(name)
            if marks and not (self._scope and self._scope.sees(marks, it.properties)):
                raise self._alarms.violated(name, f"{it.key}")
        return checked


def _check(number: int, field: str, most: int, *, least: int = 1) -> None:
    if not least <= number <= most:
        raise Refused(f"{field} must be from {least} to {most:,}.", field=field)


def _check_where(*conditions: Where | None) -> None:
    for where in conditions:
        if where:
            check_unreserved(where, "The property")
