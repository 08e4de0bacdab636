"""The questions people ask of agents and of what they know; callers see what is theirs.

Each is answered by the graph, through `plane.acting(caller)`, as it stands there: a moment behind
truth, unless one waits for the write (`plane.settled`) first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import polyplane as pp
from polyplane import graph
from polyplane.domains.agents.models import Agent, AgentTool, Tool
from polyplane.domains.agents.projections import (
    AgentNodes,
    AppearsIn,
    CanUse,
    ConceptNodes,
    ConceptSearch,
    DiscussionNodes,
    ParticipatesIn,
    RelatesTo,
    ToolNodes,
)

LOAD_TIMEOUT_S: Final = 8.0
RELATED: Final = 10
"""How many related concepts the seed's navigation gives."""


class ToolFound(NamedTuple):
    """A tool an agent can use."""

    id: UUID
    name: str
    capability: str


class AgentFound(NamedTuple):
    """An agent that can do something, and the tool it does it with."""

    id: UUID
    name: str
    type: str
    tool: ToolFound


class DiscussionFound(NamedTuple):
    """A discussion; `agent_id` of who takes part, where that was asked."""

    id: UUID
    title: str
    status: str
    agent_id: UUID | None = None


class ConceptFound(NamedTuple):
    """A concept."""

    id: UUID
    name: str
    category: str


class Related(NamedTuple):
    """A concept that another relates to: how (`type`) and how strongly, above 0 to 1."""

    id: UUID
    name: str
    category: str
    strength: float
    type: str


async def tools_of(
    plane: pp.Plane, caller: pp.Caller, agent_id: UUID, *, limit: int = 100
) -> list[ToolFound]:
    """Capability discovery: the tools an agent can use, by name.

    Raises NotFound when the graph has no such agent.
    """
    await check_there(plane, caller, AgentNodes, agent_id)
    reader = plane.acting(caller).graph
    found = await reader.neighbours(CanUse, agent_id, limit=limit)
    return sorted((_tool(it.node) for it in found), key=lambda it: (it.name, it.id))


async def tools_cached(plane: pp.Plane, caller: pp.Caller, agent_id: UUID) -> list[ToolFound]:
    """The same from the request cache (`cache:agents:<id>:tools`), for a minute; never older than
    what the cache was told: what fills it waits for the graph first.
    """

    async def load() -> list[list[str]]:
        await plane.caught_up(AgentNodes, ToolNodes, CanUse, timeout_s=LOAD_TIMEOUT_S)
        found = await tools_of(plane, caller, agent_id)
        return [[str(it.id), it.name, it.capability] for it in found]

    answer = await plane.acting(caller).request_cache.get_or_load(
        f"agents:{agent_id}:tools",
        load,
        ttl_s=60,
        depends=[(Agent, agent_id), AgentTool, Tool],
        shared=True,  # agents have no owner: it is the same for everybody of the tenant
    )
    return [ToolFound(UUID(id), name, capability) for id, name, capability in answer.value]


async def agents_for(
    plane: pp.Plane, caller: pp.Caller, capability: str, *, limit: int = 100
) -> list[AgentFound]:
    """Capability discovery the other way: who can do something, and with which tool."""
    rows = await plane.acting(caller).graph.match(
        graph.NodeStep(AgentNodes.label),
        graph.EdgeStep(CanUse.label),
        graph.NodeStep(ToolNodes.label, {"capability": capability}),
        limit=limit,
    )
    return [_agent(_node(agent), _node(tool)) for agent, _, tool in rows]


async def active_discussions(
    plane: pp.Plane,
    caller: pp.Caller,
    *,
    agent_id: UUID | None = None,
    status: str = "active",
    limit: int = 100,
) -> list[DiscussionFound]:
    """Which agent takes part in which active discussion: of all agents, or of one."""
    acting = plane.acting(caller)
    if agent_id is not None:
        await check_there(plane, caller, AgentNodes, agent_id)
        near = await acting.graph.neighbours(
            ParticipatesIn, agent_id, of={"status": status}, limit=limit
        )
        return [_discussion(it.node, agent_id) for it in near]
    rows = await acting.graph.match(
        graph.NodeStep(AgentNodes.label),
        graph.EdgeStep(ParticipatesIn.label),
        graph.NodeStep(DiscussionNodes.label, {"status": status}),
        limit=limit,
    )
    return [_discussion(_node(it), UUID(_node(agent).key)) for agent, _, it in rows]


async def related_concepts(
    plane: pp.Plane,
    caller: pp.Caller,
    concept_id: UUID,
    *,
    type: str | None = None,
    min_strength: float = 0.0,
    limit: int = RELATED,
) -> list[Related]:
    """Knowledge navigation: what a concept relates to, the strongest first.

    Raises NotFound when the graph has no such concept.
    """
    await check_there(plane, caller, ConceptNodes, concept_id)
    where: dict[str, object] = {}
    if type is not None:
        where["type"] = type
    if min_strength > 0:
        where["strength"] = pp.Range(ge=min_strength)
    found = await plane.acting(caller).graph.neighbours(
        RelatesTo,
        concept_id,
        where=where or None,
        order_by="strength",
        descending=True,
        limit=limit,
    )
    return [
        Related(*concept_of(it.node), it.edge.properties["strength"], it.edge.properties["type"])
        for it in found
    ]


async def concepts_in(
    plane: pp.Plane, caller: pp.Caller, discussion_id: UUID, *, limit: int = 100
) -> list[ConceptFound]:
    """The concepts that appear in a discussion, by name. NotFound without such a discussion."""
    await check_there(plane, caller, DiscussionNodes, discussion_id)
    reader = plane.acting(caller).graph
    found = await reader.neighbours(AppearsIn, discussion_id, direction="in", limit=limit)
    return sorted((concept_of(it.node) for it in found), key=lambda it: (it.name, it.id))


async def discussions_about(
    plane: pp.Plane, caller: pp.Caller, concept_id: UUID, *, limit: int = 100
) -> list[DiscussionFound]:
    """The discussions a concept appears in, by title. NotFound without such a concept."""
    await check_there(plane, caller, ConceptNodes, concept_id)
    found = await plane.acting(caller).graph.neighbours(AppearsIn, concept_id, limit=limit)
    return sorted((_discussion(it.node) for it in found), key=lambda it: (it.title, it.id))


async def concept_path(
    plane: pp.Plane, caller: pp.Caller, source_id: UUID, target_id: UUID, *, hops: int = 6
) -> graph.Path | None:
    """How two concepts are connected, by the fewest relations; None when they are not so near."""
    for concept_id in (source_id, target_id):
        await check_there(plane, caller, ConceptNodes, concept_id)
    return await plane.acting(caller).graph.path(
        (ConceptNodes, source_id), (ConceptNodes, target_id), edges=[RelatesTo], hops=hops
    )


async def search_concepts(
    plane: pp.Plane,
    caller: pp.Caller,
    question: str,
    *,
    category: str | None = None,
    limit: int = 10,
) -> Sequence[pp.Hit]:
    """The concepts nearest in meaning to `question`."""
    tags = {} if category is None else {"category": category}
    return await plane.acting(caller)[ConceptSearch].search(question, limit=limit, tags=tags)


async def check_there(
    plane: pp.Plane, caller: pp.Caller, nodes: type[pp.Nodes[Any, Any]], key: UUID
) -> None:
    """NotFound unless the graph shows the caller this node."""
    if not await plane.acting(caller).graph.nodes(nodes, [key]):
        noun = nodes.label.lower()
        raise pp.NotFound(f"There is no {noun} {key}.", field=f"{noun}_id")


def concept_of(node: graph.GraphNode) -> ConceptFound:
    """A node `Concept` as what it is."""
    return ConceptFound(UUID(node.key), node.properties["name"], node.properties["category"])


def _node(found: graph.GraphNode | graph.GraphEdge) -> graph.GraphNode:
    assert isinstance(found, graph.GraphNode)
    return found


def _agent(node: graph.GraphNode, tool: graph.GraphNode) -> AgentFound:
    name, kind = node.properties["name"], node.properties["type"]
    return AgentFound(UUID(node.key), name, kind, _tool(tool))


def _tool(node: graph.GraphNode) -> ToolFound:
    return ToolFound(UUID(node.key), node.properties["name"], node.properties["capability"])


def _discussion(node: graph.GraphNode, agent_id: UUID | None = None) -> DiscussionFound:
    title, status = node.properties["title"], node.properties["status"]
    return DiscussionFound(UUID(node.key), title, status, agent_id)
