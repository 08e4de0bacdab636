"""Learnings: written, corrected, and found by meaning."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response

import polyplane as pp
from polyplane.domains.laboratory import queries
from polyplane.domains.laboratory.models import Experiment, Learning
from polyplane.domains.laboratory.permissions import READ, WRITE
from polyplane.domains.laboratory.projections import ExperimentLearnings
from polyplane.domains.laboratory.rows import check_refers, locked, row_of
from polyplane.domains.laboratory.shapes import (
    Found,
    LearningChange,
    LearningFound,
    LearningGiven,
    LearningShown,
    LearningType,
    Question,
)
from polyplane.web import (
    After,
    Caller,
    Limit,
    Page,
    PlaneOf,
    TokenHeader,
    check_if_match,
    etag_of,
    paginate,
    problem_responses,
    repeatable,
)

router = APIRouter()


@router.post(
    "/learnings",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses=problem_responses(409),
)
async def create_learning(
    given: LearningGiven, plane: PlaneOf, caller: Caller, token: TokenHeader, response: Response
) -> LearningShown:
    """Add a learning. Conflict when the id is taken."""
    async with plane.acting(caller).write() as tx:
        await check_refers(tx, Experiment, given.experiment_id, field="experiment_id")
        row = Learning(tenant_id=caller.tenant, **given.model_dump(exclude_none=True))
        tx.add(row)
    return _written(row, tx, token, response)


@router.post("/learnings/search", dependencies=[READ], responses=problem_responses(504))
async def search_learnings(
    question: Question, plane: PlaneOf, caller: Caller, token: TokenHeader
) -> Found:
    """The learnings nearest in meaning. With a token, those of its write are among them."""
    await token.wait(ExperimentLearnings)
    hits = await queries.search_learnings(
        plane,
        caller,
        question.question,
        min_confidence=question.min_confidence,
        type=question.type,
        experiment_id=question.experiment_id,
        limit=question.limit,
    )
    return Found(hits=[_found(hit) for hit in hits])


@router.get("/learnings", dependencies=[READ])
async def list_learnings(
    plane: PlaneOf,
    caller: Caller,
    experiment_id: Annotated[UUID | None, Query(description="Only its learnings.")] = None,
    type: Annotated[LearningType | None, Query(description="Only these.")] = None,
    after: After = None,
    limit: Limit = 50,
) -> Page[LearningShown]:
    """Learnings, newest first."""
    query = sa.select(Learning).where(Learning.tenant_id == caller.tenant)
    if experiment_id is not None:
        query = query.where(Learning.experiment_id == experiment_id)
    if type is not None:
        query = query.where(Learning.type == type)
    async with plane.acting(caller).read() as session:
        rows, cursor = await paginate(session, query, Learning, after, limit)
    return Page(items=[LearningShown.model_validate(row) for row in rows], next=cursor)


@router.get("/learnings/{learning_id}", dependencies=[READ], responses=problem_responses(404))
async def read_learning(
    learning_id: UUID, plane: PlaneOf, caller: Caller, response: Response
) -> LearningShown:
    """One learning."""
    async with plane.acting(caller).read() as session:
        row = await row_of(session, Learning, learning_id, tenant=caller.tenant)
    response.headers["ETag"] = etag_of(row)
    return LearningShown.model_validate(row)


@router.patch(
    "/learnings/{learning_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def change_learning(
    learning_id: UUID,
    change: LearningChange,
    plane: PlaneOf,
    caller: Caller,
    token: TokenHeader,
    request: Request,
    response: Response,
) -> LearningShown:
    """Change what is named. With If-Match, only if nobody changed it meanwhile."""
    async with plane.acting(caller).write() as tx:
        row = await locked(tx, Learning, learning_id)
        check_if_match(request, row)
        for name, value in change.changes().items():
            setattr(row, name, value)
    return _written(row, tx, token, response)


@router.delete(
    "/learnings/{learning_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_learning(
    learning_id: UUID, plane: PlaneOf, caller: Caller, token: TokenHeader, request: Request
) -> None:
    """Forget a learning."""
    async with plane.acting(caller).write() as tx:
        row = await locked(tx, Learning, learning_id)
        check_if_match(request, row)
        await tx.delete(row)
    token.give(tx.token)


def _written(row: Learning, tx: pp.Write, token: TokenHeader, response: Response) -> LearningShown:
    token.give(tx.token)
    response.headers["ETag"] = etag_of(row)
    return LearningShown.model_validate(row)


def _found(hit: pp.Hit) -> LearningFound:
    return LearningFound(
        id=UUID(hit.key),
        score=hit.score,
        insight=hit.text,
        type=hit.tags["type"],
        experiment_id=hit.tags["experimentId"],
        confidence=hit.tags["confidence"],
        created_at=hit.tags["createdAt"],
    )
