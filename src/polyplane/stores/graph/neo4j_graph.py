"""Graphs in Neo4j, a server: nodes and relations under constraints, written in transactions.

Several planes may share a database, each with a namespace of its own. How things look in it is told
in `neo4j_names`, why gates hold in `neo4j_writing`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from polyplane.errors import PolyplaneError, Refused
from polyplane.model.collection import Collection
from polyplane.model.graph import (
    Direction,
    GraphNode,
    GraphView,
    Neighbour,
    Path,
    Pattern,
    Reached,
    Subgraph,
    Table,
)
from polyplane.model.items import Held, Item, Stamp, Where
from polyplane.model.scope import Scope
from polyplane.stores.graph import neo4j_free, neo4j_reading, neo4j_schema
from polyplane.stores.graph.asking import (
    check_both,
    check_hops,
    check_limit,
    check_order,
    check_pattern,
    check_properties,
    check_weight,
    collection_of,
    edges_of,
    ends_of,
    nodes_of,
)
from polyplane.stores.graph.neo4j_loading import Loads
from polyplane.stores.graph.neo4j_names import DEFAULT_NAMESPACE, Names
from polyplane.stores.graph.neo4j_scanning import Holding
from polyplane.stores.graph.neo4j_server import Server
from polyplane.stores.graph.neo4j_walking import Walker
from polyplane.stores.graph.neo4j_writing import EdgeWrites, NodeWrites
from polyplane.stores.graph_protocol import GraphStore


async def connect(
    url: str,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    user: str = "",
    password: str = "",
    timeout_s: float = 30.0,
) -> Neo4jStore:
    """Open `bolt://user:password@host:7687/database` or `neo4j://`, with `+s` for TLS.

    `user` and `password` win over the URL's; without a database it is the server's own default.
    Raises Misconfigured for what cannot work, StoreDown when the server does not answer.
    """
    server = Server(url, user=user, password=password, timeout_s=timeout_s)
    store = Neo4jStore(server, Names(namespace))
    try:
        await store.ping()
    except PolyplaneError:
        await store.close()
        raise
    return store


class Neo4jStore(GraphStore):
    """The graph store over Neo4j; made by `connect`. A commit is on the server's disk."""

    multi_process = True
    durable = True

    def __init__(self, server: Server, names: Names) -> None:
        self._server, self._names = server, names
        self._loads = Loads(server, names)
        self._seen: set[str] = set()

    async def ping(self) -> None:
        await self._server.read("answer", "RETURN 1")

    async def barrier(self) -> None:
        """Nothing to do: a transaction has ended when the server's log is on its disk."""

    async def inspect(self) -> list[str]:
        """Its files are the server's own affair."""
        return []

    async def close(self) -> None:
        await self._server.close()

    async def prepare(self, collection: Collection) -> None:
        self._loads.forget(collection)
        await neo4j_schema.prepare(self._server, self._names, collection)

    async def forget(self, collection: Collection) -> None:
        self._seen.discard(collection.labelled)
        self._loads.forget(collection)
        await neo4j_schema.forget(self._server, self._names, collection)

    async def maintain(self, collection: Collection, *, full: bool = False) -> None:
        await neo4j_schema.maintain(self._server, self._names, collection, full=full)

    async def apply(
        self, collection: Collection, puts: Sequence[Item], drops: Sequence[str], position: int
    ) -> None:
        """In several transactions when it is much; each item is gated by itself."""
        check_properties(collection, puts)
        if not await self._loads.load(collection, puts, drops, position):
            await self._writer(collection).apply(puts, drops, position)

    async def bury(self, collection: Collection, keys: Sequence[str], position: int) -> None:
        """What somebody put there without a key goes, too, and leaves no tombstone."""
        await self._writer(collection).bury(keys, position)

    async def _check(self, *collections: Collection) -> None:
        """NotFound when one is not prepared; asked once of each, since that does not pass."""
        for name in {it.labelled for it in collections} - self._seen:
            await neo4j_schema.check_prepared(self._server, self._names, name)
            self._seen.add(name)

    def _writer(self, collection: Collection) -> NodeWrites | EdgeWrites:
        writes = EdgeWrites if collection.ends else NodeWrites
        return writes(self._server, self._names, collection)

    async def scan(
        self, collection: Collection, *, after: str | None = None, batch_size: int = 10_000
    ) -> AsyncIterator[list[Stamp]]:
        holding = Holding(self._server, self._names, collection)
        async for stamps in holding.scan(after, batch_size):
            yield stamps

    async def stamps(self, collection: Collection, keys: Sequence[str]) -> list[Stamp]:
        return [held.stamp for held in await self.contents(collection, keys)]

    async def contents(self, collection: Collection, keys: Sequence[str]) -> list[Held]:
        return await Holding(self._server, self._names, collection).held(keys)

    async def nodes(
        self, view: GraphView, scope: Scope, label: str, keys: Sequence[str]
    ) -> list[GraphNode]:
        collection = nodes_of(view, label)
        await self._check(collection)
        return await neo4j_reading.nodes(self._server, self._names, scope, collection, keys)

    async def find(
        self, view: GraphView, scope: Scope, label: str, *, where: Where | None, limit: int
    ) -> list[GraphNode]:
        check_limit(limit)
        collection = nodes_of(view, label)
        await self._check(collection)
        return await neo4j_reading.find(self._server, self._names, scope, collection, where, limit)

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
        check_limit(limit)
        kind = edges_of(view, edge)
        check_order(kind, order_by)
        if direction == "both":
            check_both(kind)
        source, target = ends_of(view, kind)
        await self._check(kind, source, target)
        begin, end = (target, source) if direction == "in" else (source, target)
        return await neo4j_reading.neighbours(
            self._server,
            self._names,
            scope,
            kind,
            begin,
            end,
            key,
            direction=direction,
            where=where,
            of=of,
            order_by=order_by,
            descending=descending,
            limit=limit,
        )

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
        check_limit(limit)
        check_hops(hops)
        await self._check(nodes_of(view, label), *(edges_of(view, edge) for edge in edges))
        walker = Walker(self._server, self._names, view, scope)
        return await walker.within((label, key), edges, hops, direction, limit)

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
        check_hops(hops)
        ends = [nodes_of(view, label) for label, _ in (source, target)]
        kinds = [edges_of(view, edge) for edge in edges]
        check_weight(kinds, weight)
        await self._check(*ends, *kinds)
        walker = Walker(self._server, self._names, view, scope)
        return await walker.path(source, target, edges, direction, weight, hops)

    async def match(
        self, view: GraphView, scope: Scope, pattern: Pattern, *, limit: int = 100
    ) -> list[tuple[Any, ...]]:
        check_limit(limit)
        check_pattern(view, pattern)
        await self._check(*(collection_of(view, step) for step in pattern.steps))
        return await neo4j_reading.match(self._server, self._names, view, scope, pattern, limit)

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
        check_limit(limit)
        check_hops(hops)
        for label in keys:
            await self._check(nodes_of(view, label), *(edges_of(view, edge) for edge in edges))
        walker = Walker(self._server, self._names, view, scope)
        return await walker.subgraph(keys, edges, hops, limit)

    async def cypher(
        self,
        view: GraphView,
        scope: Scope,
        text: str,
        parameters: Mapping[str, Any],
        *,
        limit: int = 1_000,
        timeout_s: float = 10.0,
    ) -> Table:
        """A node that is no declared one, and so also what is hidden, is None in a row."""
        if not scope.is_everything:
            raise Refused("Nobody can say what a free query reads: it is not for you.")
        check_limit(limit)
        return await neo4j_free.cypher(
            self._server, self._names, view, text, parameters, limit, timeout_s
        )
