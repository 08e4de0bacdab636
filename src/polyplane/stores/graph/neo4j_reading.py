"""The verbs that read Neo4j by one pattern: nodes, neighbours, chains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polyplane.model.collection import Collection
from polyplane.model.graph import ID, Direction, EdgeStep, GraphNode, GraphView, Neighbour, Pattern
from polyplane.model.items import Where
from polyplane.model.scope import Scope
from polyplane.stores.graph.neo4j_asking import Asked, ordered, relation
from polyplane.stores.graph.neo4j_names import Names, edge, node, quoted
from polyplane.stores.graph.neo4j_server import Server


async def nodes(
    server: Server, names: Names, scope: Scope, collection: Collection, keys: Sequence[str]
) -> list[GraphNode]:
    """The nodes under `keys` that are seen, in the order of `keys`."""
    asked = Asked(names, scope, {"keys": list(keys)})
    records = await server.read(
        f"read {collection.label}",
        f"UNWIND $keys AS key MATCH (n:{asked.of(collection)} {{{ID}: key}}) "
        f"WHERE {asked.is_seen('n', collection)} RETURN properties(n)",
        asked.parameters,
    )
    return [node(collection, record[0]) for record in records]


async def find(
    server: Server,
    names: Names,
    scope: Scope,
    collection: Collection,
    where: Where | None,
    limit: int,
) -> list[GraphNode]:
    """The first nodes that satisfy `where`, in the order of keys."""
    asked = Asked(names, scope, {"limit": limit})
    records = await server.read(
        f"find {collection.label}",
        f"MATCH (n:{asked.of(collection)}) "
        f"WHERE {asked.is_seen('n', collection, where)} AND n.{ID} >= '' "
        f"RETURN properties(n) {ordered(None, ['n'], descending=False)} LIMIT $limit",
        asked.parameters,
    )
    return [node(collection, record[0]) for record in records]


async def neighbours(
    server: Server,
    names: Names,
    scope: Scope,
    kind: Collection,
    begin: Collection,
    end: Collection,
    key: str,
    *,
    direction: Direction,
    where: Where | None,
    of: Where | None,
    order_by: str | None,
    descending: bool,
    limit: int,
) -> list[Neighbour]:
    """What is one edge away from the node of `begin` under `key`; of the collection `end`."""
    asked = Asked(names, scope, {"key": key, "limit": limit})
    by = None if order_by is None else f"r.{quoted(order_by)}"
    records = await server.read(
        f"look beside {begin.label}",
        f"MATCH (a:{asked.of(begin)} {{{ID}: $key}})"
        f"{relation('r', asked.of(kind), direction)}(b:{asked.of(end)}) "
        f"WHERE {asked.is_seen('a', begin)} AND {asked.is_seen('r', kind, where)} "
        f"AND {asked.is_seen('b', end, of)} "
        f"RETURN properties(r), properties(b), startNode(r).{ID}, endNode(r).{ID} "
        f"{ordered(by, ['r'], descending=descending)} LIMIT $limit",
        asked.parameters,
    )
    return [Neighbour(edge(kind, held, *ends), node(end, other)) for held, other, *ends in records]


async def match(
    server: Server,
    names: Names,
    view: GraphView,
    scope: Scope,
    pattern: Pattern,
    limit: int,
) -> list[tuple[Any, ...]]:
    """What fits the pattern, for each step a node or an edge; the names are known to be right."""
    asked = Asked(names, scope, {"limit": limit})
    chain, seen, gives, keys = [], [], [], []
    for at, step in enumerate(pattern.steps):
        variable = f"s{at}"
        if isinstance(step, EdgeStep):
            collection = view.edges[step.type]
            chain.append(relation(variable, asked.of(collection), step.direction))
            gives.append(
                f"[properties({variable}), startNode({variable}).{ID}, endNode({variable}).{ID}]"
            )
        else:
            collection = view.nodes[step.label]
            chain.append(f"({variable}:{asked.of(collection)})")
            gives.append(f"[properties({variable})]")
        seen.append(asked.is_seen(variable, collection, step.where))
        keys.append(variable)
    by = pattern.order_by and f"s{pattern.order_by[0]}.{quoted(pattern.order_by[1])}"
    records = await server.read(
        "match a pattern",
        f"MATCH {''.join(chain)} WHERE {' AND '.join(seen)} RETURN {', '.join(gives)} "
        f"{ordered(by, keys, descending=pattern.descending)} LIMIT $limit",
        asked.parameters,
    )
    return [
        tuple(
            edge(view.edges[step.type], *found)
            if isinstance(step, EdgeStep)
            else node(view.nodes[step.label], *found)
            for step, found in zip(pattern.steps, record, strict=True)
        )
        for record in records
    ]
