"""Questions to a graph and what was found, as JSON has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from math import isfinite
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError as Wrong,
)

from polyplane.errors import Refused
from polyplane.model import graph
from polyplane.model.graph import Direction, GraphEdge, GraphNode
from polyplane.model.items import Range, Where
from polyplane.model.scope import RESERVED
from polyplane.runtime.graph import HOPS_MAX

KEY_CHARS_MAX: Final = 1_000
LIMIT_MAX: Final = 1_000
TEXT_CHARS_MAX: Final = 20_000

T = TypeVar("T")

Name = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Key = Annotated[str, StringConstraints(max_length=KEY_CHARS_MAX)]
Value = Annotated[str, StringConstraints(max_length=10_000)] | bool | int | float | None
Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX, description="At most so many.")]
Hops = Annotated[int, Field(ge=1, le=HOPS_MAX, description="At most so many edges.")]
Types = Annotated[list[Name], Field(max_length=50, description="Only edges of these; none: all.")]

_MOMENT: Final = TypeAdapter(AwareDatetime)


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Between(_Asked):
    """A condition on a number or a moment; all bounds must hold."""

    ge: float | AwareDatetime | None = None
    gt: float | AwareDatetime | None = None
    le: float | AwareDatetime | None = None
    lt: float | AwareDatetime | None = None


Condition = Between | Annotated[list[Value], Field(max_length=1_000)] | Value
Conditions = Annotated[
    dict[Name, Condition],
    Field(
        max_length=20,
        description="Property: a value, a list of which any, or bounds. All must hold.",
        examples=[{}],
    ),
]


class Find(_Asked):
    """Nodes by their properties."""

    label: Name
    where: Conditions = {}
    limit: Limit = 100


class Neighbours(_Asked):
    """What is one edge away from a node."""

    edge: Name = Field(description="The type of the edges.")
    key: Key = Field(description="Of the node.")
    direction: Direction = "out"
    where: Conditions = {}
    of: Conditions = Field(default={}, description="As `where`, of the nodes found.")
    order_by: Name | None = Field(default=None, description="A property of the edges.")
    descending: bool = False
    limit: Limit = 100


class Within(_Asked):
    """What is some edges away from a node."""

    label: Name
    key: Key
    edges: Types = []
    hops: Hops = 2
    direction: Direction = "both"
    limit: Limit = LIMIT_MAX


class Place(_Asked):
    """A node by its label and key."""

    label: Name
    key: Key


class Way(_Asked):
    """A way between two nodes."""

    source: Place
    target: Place
    edges: Types = []
    direction: Direction = "both"
    weight: Name | None = Field(default=None, description="A property: its sum is to be small.")
    hops: Hops = 6


class NodeAsked(_Asked):
    """A node of a pattern."""

    label: Name
    where: Conditions = {}


class EdgeAsked(_Asked):
    """An edge of a pattern."""

    type: Name
    direction: Direction = "out"
    where: Conditions = {}


Step = NodeAsked | EdgeAsked


class Order(_Asked):
    """What a pattern's answers are in the order of."""

    step: Annotated[int, Field(ge=0, le=14, description="Its index.")]
    property: Name


class Match(_Asked):
    """A chain of nodes with an edge between each two."""

    steps: Annotated[list[Step], Field(min_length=1, max_length=15)]
    order_by: Order | None = None
    descending: bool = False
    limit: Limit = 100


class Around(_Asked):
    """What is around some nodes."""

    keys: Annotated[
        dict[Name, Annotated[list[Key], Field(max_length=LIMIT_MAX)]],
        Field(min_length=1, max_length=20, description="Label: keys."),
    ]
    edges: Types = []
    hops: Annotated[int, Field(ge=0, le=HOPS_MAX)] = 1
    limit: Limit = LIMIT_MAX


class Query(_Asked):
    """A free query."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=TEXT_CHARS_MAX)]
    parameters: Annotated[
        dict[Name, Value | list[Value]], Field(max_length=50, description="As $name in it.")
    ] = {}
    limit: Limit = LIMIT_MAX
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0


class NodeShown(BaseModel):
    """A node."""

    label: str
    key: str
    properties: dict[str, Any]


class EdgeShown(BaseModel):
    """An edge, from the key `source` to the key `target`."""

    type: str
    key: str
    source: str
    target: str
    properties: dict[str, Any]


class NeighbourShown(BaseModel):
    """A node beside another, and the edge between."""

    edge: EdgeShown
    node: NodeShown


class ReachedShown(BaseModel):
    """A node so many edges away, by the shortest way."""

    hops: int
    node: NodeShown


class PathShown(BaseModel):
    """A way: one edge less than nodes; nothing where there is none."""

    cost: float | None = Field(default=None, description="The sum of weights, or of edges.")
    nodes: list[NodeShown] = []
    edges: list[EdgeShown] = []


class SubgraphShown(BaseModel):
    """A part of the graph."""

    nodes: list[NodeShown]
    edges: list[EdgeShown]
    truncated: bool = Field(description="Whether there is more than was asked for.")


class Found(BaseModel, Generic[T]):
    """What was found."""

    items: list[T]


class Rows(BaseModel):
    """What a free query gave."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool = Field(description="Whether there are more rows than were asked for.")


def conditions(asked: Mapping[str, Any], types: Mapping[str, type]) -> Where:
    """What is asked, with moments where those are declared. Refused for a text that is none."""
    return {name: _condition(name, value, types.get(name)) for name, value in asked.items()}


def _condition(name: str, value: Any, kind: type | None) -> Any:
    if isinstance(value, Between):
        given = {bound: getattr(value, bound) for bound in ("ge", "gt", "le", "lt")}
        return Range(**{bound: _utc(it) for bound, it in given.items() if it is not None})
    if isinstance(value, list):
        return [_condition(name, it, kind) for it in value]
    if kind is datetime and isinstance(value, str):
        try:
            return _utc(_MOMENT.validate_python(value))
        except Wrong:
            raise Refused(f"{name} is a moment with its zone.", field=name) from None
    return value


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def node(found: GraphNode) -> NodeShown:
    """A node, without what says whose it is."""
    return NodeShown(label=found.label, key=found.key, properties=_properties(found.properties))


def edge(found: GraphEdge) -> EdgeShown:
    """An edge, without what says whose it is."""
    return EdgeShown(
        type=found.type,
        key=found.key,
        source=found.source,
        target=found.target,
        properties=_properties(found.properties),
    )


def either(found: GraphNode | GraphEdge) -> NodeShown | EdgeShown:
    """A node or an edge."""
    return node(found) if isinstance(found, GraphNode) else edge(found)


def path(found: graph.Path) -> PathShown:
    """A way."""
    return PathShown(
        cost=found.cost,
        nodes=[node(it) for it in found.nodes],
        edges=[edge(it) for it in found.edges],
    )


def plain(value: Any) -> Any:
    """A value of a free query as JSON has it; what JSON has no form for as a text."""
    match value:
        case GraphNode() | GraphEdge():
            return either(value).model_dump()
        case graph.Path():
            return path(value).model_dump()
        case None | bool() | int() | str():
            return value
        case float():
            return value if isfinite(value) else None
        case datetime() | date() | time():
            return value.isoformat()
        case Mapping():
            return {str(name): plain(it) for name, it in value.items()}
        case list() | tuple() | set():
            return [plain(it) for it in value]
    return str(value)


def _properties(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(it) for name, it in found.items() if name not in RESERVED}
