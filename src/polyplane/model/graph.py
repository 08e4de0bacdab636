"""What a graph holds and gives back: nodes, edges between them, paths and patterns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final, Generic, Literal, NamedTuple, cast

from typing_extensions import TypeVar

from polyplane.errors import Refused
from polyplane.model.collection import Collection
from polyplane.model.items import Where

T = TypeVar("T", bound=Mapping[str, Any], default=dict[str, Any])

ID: Final = "id"
"""The property of nodes and edges that holds their key; no application's property is called so."""

Direction = Literal["out", "in", "both"]
"""Along an edge, against it, or either."""


@dataclass(frozen=True, slots=True)
class Node(Generic[T]):
    """What a `Nodes` projection derives from one row: its properties, besides `id`, its key."""

    properties: T = field(default_factory=lambda: cast(T, {}))


@dataclass(frozen=True, slots=True)
class Edge(Generic[T]):
    """What an `Edges` projection derives from one row: from which key to which, and properties.

    An end need not be there yet, or any more: the edge is held, and not seen until it is.
    """

    source: str
    target: str
    properties: T = field(default_factory=lambda: cast(T, {}))


class GraphNode(NamedTuple):
    """A node that was found. `label` is the declared one."""

    label: str
    key: str
    properties: Mapping[str, Any]


class GraphEdge(NamedTuple):
    """An edge that was found, from the key `source` to the key `target`, whichever way it was
    gone. `type` is the declared one.
    """

    type: str
    key: str
    source: str
    target: str
    properties: Mapping[str, Any]


class Neighbour(NamedTuple):
    """A node beside another, and the edge between."""

    edge: GraphEdge
    node: GraphNode


class Reached(NamedTuple):
    """A node so many edges away, by the shortest way."""

    hops: int
    node: GraphNode


class Path(NamedTuple):
    """A way through a graph: one edge less than nodes. `cost`: the sum of weights, or of edges."""

    cost: float
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]


class Subgraph(NamedTuple):
    """A part of a graph; `truncated` when there is more than was asked for."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    truncated: bool


class Table(NamedTuple):
    """What a free query gave; `truncated` when there are more rows than were asked for."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    truncated: bool


@dataclass(frozen=True, slots=True)
class NodeStep:
    """A node in a pattern: of this label, and with such properties."""

    label: str
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class EdgeStep:
    """An edge in a pattern: of this type, gone this way, and with such properties."""

    type: str
    direction: Direction = "out"
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A chain to be found: nodes with an edge between each two.

    `order_by` is (index of the step in `steps`, property); the highest first when `descending`.
    """

    steps: tuple[NodeStep | EdgeStep, ...]
    order_by: tuple[int, str] | None = None
    descending: bool = False


@dataclass(frozen=True, slots=True)
class GraphView:
    """The collections that are read together: declared label or type -> what is read of it now."""

    nodes: Mapping[str, Collection]
    edges: Mapping[str, Collection]


_INTEGERS: Final = range(-(2**63), 2**63)


def fitted(properties: Mapping[str, Any], types: Mapping[str, type]) -> dict[str, Any]:
    """`properties` as every engine can hold them: of the declared types, moments in UTC.

    Raises Refused for one that is not declared, or whose value no column of its type holds.
    """
    found = {}
    for name, value in properties.items():
        if name not in types:
            raise Refused(f"The property {name!r} is not declared.", field=name)
        found[name] = None if value is None else _fitted(name, value, types[name])
    return found


def _fitted(name: str, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if isfinite(number):
            return number
    elif kind is int and isinstance(value, int) and not isinstance(value, bool):
        if value in _INTEGERS:
            return int(value)
    elif kind is str and isinstance(value, str):
        return str.__str__(value)  # of a member of an enumeration, too
    elif kind is bool and isinstance(value, bool):
        return value
    elif kind is datetime and isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    raise Refused(
        f"The property {name!r} is {value!r:.80}, which is no {kind.__name__} of a graph.",
        field=name,
    )
