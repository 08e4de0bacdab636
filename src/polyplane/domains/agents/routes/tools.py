"""Tools: what they are for, and who can use them."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from polyplane.domains.agents import queries
from polyplane.domains.agents.models import Tool
from polyplane.domains.agents.permissions import READ, WRITE
from polyplane.domains.agents.projections import AgentNodes, CanUse, ToolNodes
from polyplane.domains.agents.routes.desk import AtDesk
from polyplane.domains.agents.shapes import AgentSeen, ToolChange, ToolGiven, ToolShown, Word
from polyplane.web import After, Limit, Page, problem_responses, repeatable

router = APIRouter()


@router.post(
    "/tools",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses=problem_responses(409),
)
async def create_tool(given: ToolGiven, desk: AtDesk) -> ToolShown:
    """Add a tool. Conflict when the id is taken."""
    row = Tool(tenant_id=desk.tenant, **given.model_dump(exclude_none=True))
    return await desk.add(row, ToolShown)


@router.get("/tools", dependencies=[READ])
async def list_tools(
    desk: AtDesk, capability: Word | None = None, after: After = None, limit: Limit = 50
) -> Page[ToolShown]:
    """Tools, newest first: all, or those that do one thing."""
    only = () if capability is None else (Tool.capability == capability,)
    return await desk.page(Tool, ToolShown, after, limit, *only)


@router.get("/tools/{tool_id}", dependencies=[READ], responses=problem_responses(404))
async def read_tool(tool_id: UUID, desk: AtDesk) -> ToolShown:
    """One tool."""
    return await desk.read(Tool, tool_id, ToolShown)


@router.patch(
    "/tools/{tool_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def change_tool(tool_id: UUID, change: ToolChange, desk: AtDesk) -> ToolShown:
    """Change what is named. With If-Match, only if nobody changed it meanwhile."""
    return await desk.change(Tool, tool_id, change.changes(), ToolShown)


@router.delete(
    "/tools/{tool_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_tool(tool_id: UUID, desk: AtDesk) -> None:
    """Delete a tool that no operation was given."""
    await desk.delete(Tool, tool_id)


@router.get(
    "/capabilities/{capability}/agents", dependencies=[READ], responses=problem_responses(504)
)
async def discover_agents(capability: Word, desk: AtDesk, limit: Limit = 100) -> list[AgentSeen]:
    """Capability discovery the other way: who can do something, as the graph has it."""
    await desk.token.wait(AgentNodes, ToolNodes, CanUse)
    found = await queries.agents_for(desk.plane, desk.caller, capability, limit=limit)
    return [AgentSeen.model_validate(it) for it in found]
