"""What follows from the rows of agents: their graph, and concepts by meaning."""

from __future__ import annotations

from typing import Final, TypedDict

import polyplane as pp
from polyplane.domains.agents.models import (
    Agent,
    AgentTool,
    Concept,
    ConceptAppearance,
    ConceptRelation,
    Discussion,
    DiscussionParticipant,
    Tool,
)
from polyplane.graph import Edge, Node


class AgentProperties(TypedDict):
    """Of a node `Agent`."""

    name: str
    type: str


class AgentNodes(pp.Nodes[Agent, AgentProperties]):
    """Agents."""

    label = "Agent"

    def derive(self, agent: Agent, /) -> Node[AgentProperties]:
        return Node(AgentProperties(name=agent.name, type=agent.type))


class ToolProperties(TypedDict):
    """Of a node `Tool`."""

    name: str
    capability: str


class ToolNodes(pp.Nodes[Tool, ToolProperties]):
    """Tools."""

    label = "Tool"
    indexes = ("capability",)

    def derive(self, tool: Tool, /) -> Node[ToolProperties]:
        return Node(ToolProperties(name=tool.name, capability=tool.capability))


class DiscussionProperties(TypedDict):
    """Of a node `Discussion`."""

    title: str
    status: str


class DiscussionNodes(pp.Nodes[Discussion, DiscussionProperties]):
    """Discussions."""

    label = "Discussion"
    indexes = ("status",)

    def derive(self, discussion: Discussion, /) -> Node[DiscussionProperties]:
        return Node(DiscussionProperties(title=discussion.title, status=discussion.status))


class ConceptProperties(TypedDict):
    """Of a node `Concept`."""

    name: str
    category: str


class ConceptNodes(pp.Nodes[Concept, ConceptProperties]):
    """Concepts."""

    label = "Concept"
    indexes = ("name",)

    def derive(self, concept: Concept, /) -> Node[ConceptProperties]:
        return Node(ConceptProperties(name=concept.name, category=concept.category))


class CanUse(pp.Edges[AgentTool]):
    """Which agent can use which tool."""

    label = "CAN_USE"
    source = AgentNodes
    target = ToolNodes

    def derive(self, use: AgentTool, /) -> Edge:
        return Edge(str(use.agent_id), str(use.tool_id))


class ParticipatesIn(pp.Edges[DiscussionParticipant]):
    """Which agent takes part in which discussion."""

    label = "PARTICIPATES_IN"
    source = AgentNodes
    target = DiscussionNodes

    def derive(self, part: DiscussionParticipant, /) -> Edge:
        return Edge(str(part.agent_id), str(part.discussion_id))


class RelationProperties(TypedDict):
    """Of an edge `RELATES_TO`; `strength` is above 0 and at most 1."""

    strength: float
    type: str


class RelatesTo(pp.Edges[ConceptRelation, RelationProperties]):
    """Which concept relates to which other, in which way and how strongly."""

    label = "RELATES_TO"
    source = ConceptNodes
    target = ConceptNodes

    def derive(self, relation: ConceptRelation, /) -> Edge[RelationProperties]:
        return Edge(
            str(relation.source_id),
            str(relation.target_id),
            RelationProperties(strength=relation.strength, type=relation.type),
        )


class AppearsIn(pp.Edges[ConceptAppearance]):
    """Which concept appears in which discussion."""

    label = "APPEARS_IN"
    source = ConceptNodes
    target = DiscussionNodes

    def derive(self, appearance: ConceptAppearance, /) -> Edge:
        return Edge(str(appearance.concept_id), str(appearance.discussion_id))


class ConceptTags(TypedDict):
    """What concepts can be filtered by."""

    name: str
    category: str


class ConceptSearch(pp.Vectors[Concept, ConceptTags]):
    """Concepts by meaning: of their name and summary."""

    text_name = "text"
    indexes = ("category",)

    def derive(self, concept: Concept, /) -> pp.Vector[ConceptTags]:
        text = f"{concept.name}\n{concept.summary}" if concept.summary else concept.name
        return pp.Vector(text, tags=ConceptTags(name=concept.name, category=concept.category))


PROJECTIONS: Final = (
    AgentNodes,
    ToolNodes,
    DiscussionNodes,
    ConceptNodes,
    CanUse,
    ParticipatesIn,
    RelatesTo,
    AppearsIn,
    ConceptSearch,
)
