"""Discussions: who takes part, and which concepts appear in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter

import polyplane as pp
from polyplane.domains.agents import queries, states
from polyplane.domains.agents.models import Agent, Discussion, DiscussionParticipant
from polyplane.domains.agents.permissions import READ, WRITE
from polyplane.domains.agents.projections import (
    AgentNodes,
    AppearsIn,
    ConceptNodes,
    DiscussionNodes,
    ParticipatesIn,
)
from polyplane.domains.agents.routes.desk import AtDesk
from polyplane.domains.agents.shapes import (
    ConceptSeen,
    DiscussionChange,
    DiscussionGiven,
    DiscussionSeen,
    DiscussionShown,
    PartShown,
)
from polyplane.domains.agents.states import DiscussionStatus
from polyplane.web import After, Limit, Page, problem_responses, repeatable

router = APIRouter()


@router.post(
    "/discussions",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses=problem_responses(409),
)
async def create_discussion(given: DiscussionGiven, desk: AtDesk) -> DiscussionShown:
    """Open a discussion. Conflict when the id is taken."""
    row = Discussion(tenant_id=desk.tenant, **given.model_dump(exclude_none=True))
    return await desk.add(row, DiscussionShown)


@router.get("/discussions", dependencies=[READ])
async def list_discussions(
    desk: AtDesk,
    status: DiscussionStatus | None = None,
    after: After = None,
    limit: Limit = 50,
) -> Page[DiscussionShown]:
    """Discussions, newest first."""
    only = () if status is None else (Discussion.status == status,)
    return await desk.page(Discussion, DiscussionShown, after, limit, *only)


@router.get("/discussions/active", dependencies=[READ], responses=problem_responses(504))
async def read_active(desk: AtDesk, limit: Limit = 100) -> list[DiscussionSeen]:
    """Which agent takes part in which active discussion, as the graph has it."""
    await desk.token.wait(AgentNodes, DiscussionNodes, ParticipatesIn)
    found = await queries.active_discussions(desk.plane, desk.caller, limit=limit)
    return [DiscussionSeen.model_validate(it) for it in found]


@router.get("/discussions/{discussion_id}", dependencies=[READ], responses=problem_responses(404))
async def read_discussion(discussion_id: UUID, desk: AtDesk) -> DiscussionShown:
    """One discussion."""
    return await desk.read(Discussion, discussion_id, DiscussionShown)


@router.patch(
    "/discussions/{discussion_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def change_discussion(
    discussion_id: UUID, change: DiscussionChange, desk: AtDesk
) -> DiscussionShown:
    """Change what is named. With If-Match, only if nobody changed it meanwhile."""
    return await desk.change(
        Discussion, discussion_id, change.changes(), DiscussionShown, check=_check_move
    )


@router.delete(
    "/discussions/{discussion_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_discussion(discussion_id: UUID, desk: AtDesk) -> None:
    """Delete a discussion, with who took part and what appeared in it."""
    await desk.delete(Discussion, discussion_id)


@router.put(
    "/discussions/{discussion_id}/agents/{agent_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409),
)
async def join_discussion(discussion_id: UUID, agent_id: UUID, desk: AtDesk) -> PartShown:
    """Let an agent take part."""
    row = DiscussionParticipant(
        tenant_id=desk.tenant, discussion_id=discussion_id, agent_id=agent_id
    )
    return await desk.tie(row, PartShown, {Discussion: discussion_id, Agent: agent_id})


@router.delete(
    "/discussions/{discussion_id}/agents/{agent_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409),
)
async def leave_discussion(discussion_id: UUID, agent_id: UUID, desk: AtDesk) -> None:
    """Let an agent take part no more."""
    key = {"discussion_id": discussion_id, "agent_id": agent_id}
    await desk.untie(DiscussionParticipant, key)


@router.get(
    "/discussions/{discussion_id}/concepts",
    dependencies=[READ],
    responses=problem_responses(404, 504),
)
async def read_appearing(
    discussion_id: UUID, desk: AtDesk, limit: Limit = 100
) -> list[ConceptSeen]:
    """The concepts that appear in a discussion, as the graph has it."""
    await desk.token.wait(ConceptNodes, DiscussionNodes, AppearsIn)
    found = await queries.concepts_in(desk.plane, desk.caller, discussion_id, limit=limit)
    return [ConceptSeen.model_validate(it) for it in found]


def _check_move(row: Discussion, changes: Mapping[str, Any]) -> None:
    wanted = changes.get("status", row.status)
    if not states.may_become(states.DISCUSSION_MOVES, row.status, wanted):
        raise pp.Conflict(f"What is {row.status} cannot become {wanted}.", field="status")
