"""What is asked of Ladybug in words of Cypher, and what its rows are to us. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from polyplane.model.collection import Collection
from polyplane.model.graph import (
    GraphEdge,
    GraphNode,
    GraphView,
    Neighbour,
    NodeStep,
    Pattern,
)
from polyplane.model.items import Where
from polyplane.model.scope import Scope
from polyplane.stores.graph import asking
from polyplane.stores.graph.asking import Leg
from polyplane.stores.graph.cypher_text import quoted
from polyplane.stores.graph.ladybug_tables import Bound, properties

KEYS_MAX: Final = 10_000
"""Keys in one statement."""


def visible(
    bound: Bound, name: str, collection: Collection, scope: Scope, where: Where | None = None
) -> str:
    """That something is no tombstone and no stub, that the scope sees it, and `where`."""
    held = bound.all(name, asking.seen(collection, scope, where))
    return " AND ".join([f"{name}.`id` IS NOT NULL", *held])


def along(leg: Leg) -> str:
    """The edge of a leg in a pattern, as `r`."""
    name = quoted(leg.edges.labelled)
    return f"-[r:{name}]->" if leg.forward else f"<-[r:{name}]-"


def ordered(name: str, order_by: str | None, descending: bool) -> str:
    """The order of edges: by a property, what has none last both ways, then by key."""
    if order_by is None:
        return f"{name}.`id`"
    value = f"{name}.{quoted(order_by)}"
    return f"{value} IS NULL, {value}{' DESC' if descending else ''}, {name}.`id`"


def sorted_neighbours(
    found: Iterable[Neighbour], order_by: str | None, descending: bool
) -> list[Neighbour]:
    """As `ordered`; what has no value comes last, both ways."""
    rising = sorted(found, key=lambda it: it.edge.key)
    if order_by is None or order_by == "id":
        return rising[::-1] if descending and order_by else rising
    valued = [it for it in rising if it.edge.properties[order_by] is not None]
    valued.sort(key=lambda it: it.edge.properties[order_by], reverse=descending)
    return [*valued, *(it for it in rising if it.edge.properties[order_by] is None)]


def pieces(keys: Sequence[str]) -> Iterable[list[str]]:
    """Not too many keys at a time."""
    for start in range(0, len(keys), KEYS_MAX):
        yield list(keys[start : start + KEYS_MAX])


def node_of(collection: Collection, row: Sequence[Any]) -> GraphNode:
    """A node in what `returned` gave."""
    return GraphNode(collection.label, row[0], properties(collection, row))


def edge_of(collection: Collection, row: Sequence[Any], source: str, target: str) -> GraphEdge:
    """An edge in what `returned` gave."""
    return GraphEdge(collection.label, row[0], source, target, properties(collection, row))


def matched(view: GraphView, pattern: Pattern, row: Sequence[Any]) -> tuple[Any, ...]:
    """One row of `match`, step by step."""
    pieces: list[tuple[Collection, Sequence[Any]]] = []
    at = 0
    for step in pattern.steps:
        held = asking.collection_of(view, step)
        width = 1 + len(held.tag_types)
        pieces.append((held, row[at : at + width]))
        at += width
    found: list[Any] = []
    for index, (step, (held, values)) in enumerate(zip(pattern.steps, pieces, strict=True)):
        if isinstance(step, NodeStep):
            found.append(node_of(held, values))
            continue
        ends = pieces[index - 1][1][0], pieces[index + 1][1][0]
        found.append(edge_of(held, values, *(ends[::-1] if step.direction == "in" else ends)))
    return tuple(found)
