"""The graph over HTTP: what is in it, and questions to it. Each caller sees what they may.

Questions are bodies, not URLs: keys and conditions are of any form.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel

from polyplane import web
from polyplane.errors import NotFound
from polyplane.model.graph import EdgeStep, NodeStep
from polyplane.model.items import Where
from polyplane.model.projection import Edges, Nodes
from polyplane.plane import Plane
from polyplane.runtime.graph import Graph
from polyplane.runtime.shapes import Shapes
from polyplane.security.roles import GRAPH_CYPHER, GRAPH_READ
from polyplane.serve.api import graph_wire as wire
from polyplane.serve.api.graph_wire import (
    EdgeShown,
    Found,
    NeighbourShown,
    NodeShown,
    PathShown,
    ReachedShown,
    Rows,
    SubgraphShown,
)
from polyplane.web import PlaneOf, TokenHeader, permission, problem_responses, within

router = APIRouter(tags=["graph"], responses=problem_responses(401, 403))
READ = permission(GRAPH_READ)
FAILS = problem_responses(404, 504)

Label = Annotated[str, Path(max_length=63)]
Key = Annotated[str, Path(max_length=wire.KEY_CHARS_MAX)]


class NodesDeclared(BaseModel):
    """Nodes of one label."""

    label: str
    properties: dict[str, str]
    projection: str


class EdgesDeclared(BaseModel):
    """Edges of one type."""

    type: str
    source: str
    target: str
    properties: dict[str, str]
    projection: str


class Schema(BaseModel):
    """What there is in the graph."""

    nodes: list[NodesDeclared]
    edges: list[EdgesDeclared]


@router.get("", summary="What there is in the graph", dependencies=[READ])
async def schema(plane: PlaneOf) -> Schema:
    """Labels and types with their properties, as they are declared."""
    shapes = Shapes(plane.declared)
    return Schema(
        nodes=[
            NodesDeclared(label=label, properties=_types(it), projection=it.name)
            for label, it in shapes.nodes.items()
        ],
        edges=[
            EdgesDeclared(
                type=name,
                source=it.source.label,
                target=it.target.label,
                properties=_types(it),
                projection=it.name,
            )
            for name, it in shapes.edges.items()
        ],
    )


@router.get(
    "/nodes/{label}/{key}",
    summary="One node",
    dependencies=[READ],
    responses=FAILS,
)
async def node(
    plane: PlaneOf, caller: web.Caller, token: TokenHeader, label: Label, key: Key
) -> NodeShown:
    """404 when there is none, or none that the caller may see."""
    found = await (await _graph(plane, caller, token)).nodes(label, [key])
    if not found:
        raise NotFound(f"There is no such {label}.", field="key")
    return wire.node(found[0])


@router.post(
    "/find",
    summary="Nodes by properties",
    dependencies=[READ],
    responses=FAILS,
)
async def find(
    plane: PlaneOf, caller: web.Caller, token: TokenHeader, asked: wire.Find
) -> Found[NodeShown]:
    """Nodes of one label that satisfy all conditions, in the order of their keys."""
    graph = await _graph(plane, caller, token)
    where = _where(plane, asked.label, asked.where)
    found = await graph.find(asked.label, where=where, limit=asked.limit)
    return Found(items=[wire.node(it) for it in found])


@router.post(
    "/neighbours",
    summary="What is one edge away",
    dependencies=[READ],
    responses=FAILS,
)
async def neighbours(
    plane: PlaneOf, caller: web.Caller, token: TokenHeader, asked: wire.Neighbours
) -> Found[NeighbourShown]:
    """The nodes beside one, each with the edge between."""
    graph = await _graph(plane, caller, token)
    found = await graph.neighbours(
        asked.edge,
        asked.key,
        direction=asked.direction,
        where=_where(plane, asked.edge, asked.where),
        of=_where(plane, _far_end(plane, asked), asked.of),
        order_by=asked.order_by,
        descending=asked.descending,
        limit=asked.limit,
    )
    return Found(
        items=[NeighbourShown(edge=wire.edge(it.edge), node=wire.node(it.node)) for it in found]
    )


@router.post(
    "/within",
    summary="What is some edges away",
    dependencies=[READ],
    responses=FAILS,
)
async def within_(
    plane: PlaneOf, caller: web.Caller, token: TokenHeader, asked: wire.Within
) -> Found[ReachedShown]:
    """Nodes at most so many edges away, the nearest first."""
    graph = await _graph(plane, caller, token)
    found = await graph.within(
        asked.label,
        asked.key,
        edges=asked.edges,
        hops=asked.hops,
        direction=asked.direction,
        limit=asked.limit,
    )
    return Found(items=[ReachedShown(hops=it.hops, node=wire.node(it.node)) for it in found])


@router.post(
    "/path",
    summary="A way between two nodes",
    dependencies=[READ],
    responses=FAILS,
)
async def path(
    plane: PlaneOf, caller: web.Caller, token: TokenHeader, asked: wire.Way
) -> PathShown:
    """That of the fewest edges, or of the smallest sum of a property; no nodes when there is none
    of so many edges.
    """
    graph = await _graph(plane, caller, token)
    found = await graph.path(
        (asked.source.label, asked.source.key),
        (asked.target.label, asked.target.key),
        edges=asked.edges,
        direction=asked.direction,
        weight=asked.weight,
        hops=asked.hops,
    )
    return PathShown() if found is None else wire.path(found)


@router.post(
    "/match",
    summary="What fits a pattern",
    dependencies=[READ],
    responses=FAILS,
)
async def match(
    plane: PlaneOf, caller: web.Caller, token: TokenHeader, asked: wire.Match
) -> Found[list[NodeShown | EdgeShown]]:
    """A chain of nodes with an edge between each two; for each step what was found."""
    graph = await _graph(plane, caller, token)
    steps = [_step(plane, it) for it in asked.steps]
    order = (asked.order_by.step, asked.order_by.property) if asked.order_by else None
    found = await graph.match(
        *steps, order_by=order, descending=asked.descending, limit=asked.limit
    )
    return Found(items=[[wire.either(it) for it in row] for row in found])


@router.post(
    "/subgraph",
    summary="What is around some nodes",
    dependencies=[READ],
    responses=FAILS,
)
async def subgraph(
    plane: PlaneOf, caller: web.Caller, token: TokenHeader, asked: wire.Around
) -> SubgraphShown:
    """The nodes nearest to them, and the edges among all of those."""
    graph = await _graph(plane, caller, token)
    found = await graph.subgraph(asked.keys, edges=asked.edges, hops=asked.hops, limit=asked.limit)
    return SubgraphShown(
        nodes=[wire.node(it) for it in found.nodes],
        edges=[wire.edge(it) for it in found.edges],
        truncated=found.truncated,
    )


@router.post(
    "/cypher",
    summary="A free query",
    dependencies=[permission(GRAPH_CYPHER), within(90)],
    responses=problem_responses(504),
)
async def cypher(plane: PlaneOf, caller: web.Caller, token: TokenHeader, asked: wire.Query) -> Rows:
    """Cypher that only reads, in the names that are declared. Where anything in the graph belongs
    to tenants it is for the plane's operators alone. Noted in the audit.
    """
    graph = await _graph(plane, caller, token)
    async with plane.audit.act(caller, "graph.cypher", "graph", detail={"text": asked.text}):
        found = await graph.cypher(
            asked.text, asked.parameters, limit=asked.limit, timeout_s=asked.timeout_s
        )
    rows = [[wire.plain(value) for value in row] for row in found.rows]
    return Rows(columns=list(found.columns), rows=rows, truncated=found.truncated)


async def _graph(plane: Plane, caller: web.Caller, token: TokenHeader) -> Graph:
    """The graph as the caller may see it, as of the write that they name."""
    shapes = Shapes(plane.declared)
    await token.wait(*shapes.nodes.values(), *shapes.edges.values())
    return plane.acting(caller).graph


def _types(projection: type[Nodes[Any, Any]] | type[Edges[Any, Any]]) -> dict[str, str]:
    return {name: kind.__name__ for name, kind in projection.property_types().items()}


def _where(plane: Plane, name: str, asked: wire.Conditions) -> Where:
    """Conditions in the types of the properties they are asked of."""
    shapes = Shapes(plane.declared)
    projection = shapes.nodes.get(name) or shapes.edges.get(name)
    return wire.conditions(asked, projection.property_types() if projection else {})


def _far_end(plane: Plane, asked: wire.Neighbours) -> str:
    edges = Shapes(plane.declared).edges.get(asked.edge)
    if edges is None:
        return ""
    return (edges.source if asked.direction == "in" else edges.target).label


def _step(plane: Plane, asked: wire.Step) -> NodeStep | EdgeStep:
    if isinstance(asked, wire.NodeAsked):
        return NodeStep(asked.label, _where(plane, asked.label, asked.where))
    return EdgeStep(asked.type, asked.direction, _where(plane, asked.type, asked.where))
