"""What may be asked of a graph, and be put into it: the same answer for every engine. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Final, NamedTuple

from polyplane.errors import Misconfigured, NotFound, Refused, StoreDown
from polyplane.model.collection import Collection
from polyplane.model.graph import ID, Direction, EdgeStep, GraphView, NodeStep, Pattern
from polyplane.model.items import Item, Where
from polyplane.model.scope import RESERVED, Scope
from polyplane.stores.vector.where import Condition, conditions, fits

LIMIT_MAX: Final = 10_000
"""The most that one question may ask for."""
HOPS_MAX: Final = 32
STEPS_MAX: Final = 15
"""Nodes and edges of a pattern."""


class Ends(NamedTuple):
    """The collections between which edges are."""

    source: Collection
    target: Collection


class Leg(NamedTuple):
    """Edges of one type, gone from the label `start` to the label `end`, along or against them."""

    edges: Collection
    forward: bool
    start: str
    end: str


def nodes_of(view: GraphView, label: str) -> Collection:
    """What is read of the nodes of a declared label now. NotFound when there are none such."""
    try:
        return view.nodes[label]
    except KeyError:
        known = ", ".join(sorted(view.nodes))
        raise NotFound(
            f"There are no nodes {label!r}.", field="label", fix=f"Known: {known}."
        ) from None


def edges_of(view: GraphView, edge: str) -> Collection:
    """What is read of the edges of a declared type now. NotFound when there are none such."""
    try:
        return view.edges[edge]
    except KeyError:
        known = ", ".join(sorted(view.edges))
        raise NotFound(
            f"There are no edges {edge!r}.", field="edge", fix=f"Known: {known}."
        ) from None


def ends_of(view: GraphView, edges: Collection) -> Ends:
    """The nodes that `edges` are between.

    Raises StoreDown when `view` reads others of that label: one of them is being rebuilt.
    """
    held = {nodes.labelled: nodes for nodes in view.nodes.values()}
    try:
        source, target = (held[end] for end in edges.ends)
    except KeyError as error:
        raise StoreDown(f"{edges.label} is being rebuilt: its nodes {error} are.") from None
    return Ends(source, target)


def legs_of(view: GraphView, edges: Iterable[str], direction: Direction) -> list[Leg]:
    """Every way to go along edges of these types, each once."""
    found = []
    for name in dict.fromkeys(edges):
        collection = edges_of(view, name)
        source, target = (end.label for end in ends_of(view, collection))
        if direction in ("out", "both"):
            found.append(Leg(collection, True, source, target))
        if direction in ("in", "both"):
            found.append(Leg(collection, False, target, source))
    return found


def seen(collection: Collection, scope: Scope, where: Where | None = None) -> list[Condition]:
    """What must hold of a node or an edge: what the scope sees, and `where`.

    Raises Refused, naming the property, for one that is not declared or cannot have the value.
    """
    types = {ID: str, **collection.tag_types}
    return conditions({**(where or {}), **scope.limits(collection.marks)}, types)


def check_limit(limit: int) -> None:
    """Refused for a limit out of bounds."""
    if not 1 <= limit <= LIMIT_MAX:
        raise Refused(f"limit must be from 1 to {LIMIT_MAX}.", field="limit")


def check_hops(hops: int) -> None:
    """Refused for a number of hops out of bounds."""
    if not 1 <= hops <= HOPS_MAX:
        raise Refused(f"hops must be from 1 to {HOPS_MAX}.", field="hops")


def check_order(collection: Collection, name: str | None, field: str = "order_by") -> None:
    """Refused for a property that is not declared."""
    if name is not None and name != ID and name not in collection.tag_types:
        known = ", ".join(sorted(collection.tag_types))
        raise Refused(f"There is no property {name!r}.", field=field, fix=f"Known: {known}.")


def check_weight(collections: Iterable[Collection], name: str | None) -> None:
    """Refused for a weight that is not a number of each of these edges."""
    for collection in collections:
        if name is not None and collection.tag_types.get(name) not in (int, float):
            raise Refused(f"{collection.label} has no number {name!r}.", field="weight")


def check_both(edges: Collection) -> None:
    """Refused for edges that cannot be gone both ways from one node."""
    if edges.ends[0] != edges.ends[1]:
        raise Refused(
            f"{edges.label} is between different nodes.", field="direction", fix="Use out or in."
        )


def check_pattern(view: GraphView, pattern: Pattern) -> None:
    """Refused for a pattern that is no chain of nodes and edges, or whose nodes do not fit.

    Raises NotFound for names that `view` has not.
    """
    steps = pattern.steps
    if not 1 <= len(steps) <= STEPS_MAX or len(steps) % 2 == 0:
        raise Refused(
            f"A pattern has nodes with an edge between each two, at most {STEPS_MAX} steps.",
            field="pattern",
        )
    for index, step in enumerate(steps):
        if isinstance(step, NodeStep) != (index % 2 == 0):
            raise Refused("A pattern begins and ends with a node.", field="pattern")
        if isinstance(step, EdgeStep):
            _check_fits(view, step, steps[index - 1], steps[index + 1])
        else:
            nodes_of(view, step.label)
    if pattern.order_by is not None:
        index, name = pattern.order_by
        if not 0 <= index < len(steps):
            raise Refused("There is no such step to order by.", field="order_by")
        check_order(collection_of(view, steps[index]), name)


def _check_fits(
    view: GraphView, step: EdgeStep, before: NodeStep | EdgeStep, after: NodeStep | EdgeStep
) -> None:
    edges = edges_of(view, step.type)
    if step.direction == "both":
        check_both(edges)
    ends = tuple(end.label for end in ends_of(view, edges))
    wanted = tuple(it.label for it in (before, after) if isinstance(it, NodeStep))
    if (ends[::-1] if step.direction == "in" else ends) != wanted:
        raise Refused(f"{step.type} is from {ends[0]} to {ends[1]}.", field="pattern")


def collection_of(view: GraphView, step: NodeStep | EdgeStep) -> Collection:
    """What a step of a pattern is about."""
    if isinstance(step, NodeStep):
        return nodes_of(view, step.label)
    return edges_of(view, step.type)


def check_declared(collection: Collection, own: Sequence[str] = ()) -> None:
    """Misconfigured for a label, a type or a property that an engine could not hold, or that is
    its own (`own`, and whatever begins with an underscore).
    """
    taken = {ID, *own, *(name for name in RESERVED if name not in collection.marks)}
    for name in (collection.label, *collection.tag_types):
        sound = name.isascii() and name.isidentifier() and not name.startswith("_")
        if not sound or (name != collection.label and name.lower() in taken):
            raise Misconfigured(
                f"{collection.name}: a label or a property cannot be called {name!r}.",
                fix=f"Use an ASCII identifier that begins with a letter and is not {ID}.",
            )
    if len({name.lower() for name in collection.tag_types}) != len(collection.tag_types):
        raise Misconfigured(f"{collection.name}: two properties differ only in upper case.")


def check_properties(collection: Collection, puts: Sequence[Item]) -> None:
    """Refused, naming the property, for an item whose properties are not as declared."""
    types = collection.tag_types
    named = set[str]().union(*(item.content.properties for item in puts))
    if named <= types.keys() and all(_is_usual(puts, name, types[name]) for name in named):
        return
    for item in puts:
        for name, value in item.content.properties.items():
            if name not in types:
                raise Refused(
                    f"{item.key}: property {name!r} is not declared.", field=name, key=item.key
                )
            if not fits(value, types[name]):
                raise Refused(
                    f"{item.key}: property {name!r} cannot be {value!r}.", field=name, key=item.key
                )


def _is_usual(puts: Sequence[Item], name: str, kind: type) -> bool:
    """Whether a property is nothing but texts, numbers or truth values that fit: said of all at
    once, for of each it takes as long as to load them.
    """
    values = [item.content.properties.get(name) for item in puts]
    if not set(map(type, values)) <= {kind, type(None)}:
        return False
    held = [value for value in values if value is not None]
    if kind is int:
        return not held or (fits(min(held), int) and fits(max(held), int))
    return kind in (str, bool) or (kind is float and all(map(isfinite, held)))
