"""Agents: who they are, what they can use, where they take part."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from polyplane.domains.agents import queries
from polyplane.domains.agents.models import Agent, AgentTool, Tool
from polyplane.domains.agents.permissions import READ, WRITE
from polyplane.domains.agents.projections import (
    AgentNodes,
    CanUse,
    DiscussionNodes,
    ParticipatesIn,
    ToolNodes,
)
from polyplane.domains.agents.routes.desk import AtDesk
from polyplane.domains.agents.shapes import (
    AgentChange,
    AgentGiven,
    AgentShown,
    DiscussionSeen,
    ToolSeen,
    UseShown,
)
from polyplane.domains.agents.states import DiscussionStatus
from polyplane.web import After, Limit, Page, problem_responses, repeatable

router = APIRouter()


@router.post(
    "/agents",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses=problem_responses(409),
)
async def create_agent(given: AgentGiven, desk: AtDesk) -> AgentShown:
    """Add an agent. Conflict when the id is taken."""
    row = Agent(tenant_id=desk.tenant, **given.model_dump(exclude_none=True))
    return await desk.add(row, AgentShown)


@router.get("/agents", dependencies=[READ])
async def list_agents(desk: AtDesk, after: After = None, limit: Limit = 50) -> Page[AgentShown]:
    """Agents, newest first."""
    return await desk.page(Agent, AgentShown, after, limit)


@router.get("/agents/{agent_id}", dependencies=[READ], responses=problem_responses(404))
async def read_agent(agent_id: UUID, desk: AtDesk) -> AgentShown:
    """One agent."""
    return await desk.read(Agent, agent_id, AgentShown)


@router.patch(
    "/agents/{agent_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def change_agent(agent_id: UUID, change: AgentChange, desk: AtDesk) -> AgentShown:
    """Change what is named. With If-Match, only if nobody changed it meanwhile."""
    return await desk.change(Agent, agent_id, change.changes(), AgentShown)


@router.delete(
    "/agents/{agent_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_agent(agent_id: UUID, desk: AtDesk) -> None:
    """Delete an agent that never had an operation, with what it could use."""
    await desk.delete(Agent, agent_id)


@router.get("/agents/{agent_id}/tools", dependencies=[READ], responses=problem_responses(404, 504))
async def discover_tools(
    agent_id: UUID,
    desk: AtDesk,
    cached: Annotated[bool, Query(description="From the request cache.")] = False,
    limit: Limit = 100,
) -> list[ToolSeen]:
    """Capability discovery: the tools an agent can use, as the graph has it."""
    if cached:
        await desk.token.wait_loaded()
        found = (await queries.tools_cached(desk.plane, desk.caller, agent_id))[:limit]
    else:
        await desk.token.wait(AgentNodes, ToolNodes, CanUse)
        found = await queries.tools_of(desk.plane, desk.caller, agent_id, limit=limit)
    return [ToolSeen.model_validate(it) for it in found]


@router.put(
    "/agents/{agent_id}/tools/{tool_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409),
)
async def allow_tool(agent_id: UUID, tool_id: UUID, desk: AtDesk) -> UseShown:
    """Let an agent use a tool."""
    row = AgentTool(tenant_id=desk.tenant, agent_id=agent_id, tool_id=tool_id)
    return await desk.tie(row, UseShown, {Agent: agent_id, Tool: tool_id})


@router.delete(
    "/agents/{agent_id}/tools/{tool_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409),
)
async def forbid_tool(agent_id: UUID, tool_id: UUID, desk: AtDesk) -> None:
    """Take a tool from an agent; operations that need it fail at that step."""
    await desk.untie(AgentTool, {"agent_id": agent_id, "tool_id": tool_id})


@router.get(
    "/agents/{agent_id}/discussions", dependencies=[READ], responses=problem_responses(404, 504)
)
async def read_participations(
    agent_id: UUID, desk: AtDesk, status: DiscussionStatus = "active", limit: Limit = 100
) -> list[DiscussionSeen]:
    """The active discussions an agent takes part in, as the graph has it."""
    await desk.token.wait(AgentNodes, DiscussionNodes, ParticipatesIn)
    found = await queries.active_discussions(
        desk.plane, desk.caller, agent_id=agent_id, status=status, limit=limit
    )
    return [DiscussionSeen.model_validate(it) for it in found]
