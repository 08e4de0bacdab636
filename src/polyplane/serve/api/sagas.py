"""The operator's routes for sagas: list, show, signal, cancel, retry."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, Field

from polyplane.model.saga import SagaRecord
from polyplane.serve.api.acts import Operator
from polyplane.web import PlaneOf, problem_responses

router = APIRouter(tags=["operator"], prefix="/sagas")


class SagaPage(BaseModel):
    """Some sagas, the latest first, without their steps."""

    items: list[SagaRecord]
    next: UUID | None = Field(description="To be given as `after`; null at the end.")


class Told(BaseModel):
    """What became of a signal."""

    first: bool = Field(description="Whether it was the first of its name; only that is kept.")


@router.get("", summary="Sagas, the latest first", responses=problem_responses(422))
async def sagas(
    plane: PlaneOf,
    state: Annotated[str | None, Query(description="Only those in this state.")] = None,
    name: Annotated[str | None, Query(description="Only sagas of this name.")] = None,
    tenant: Annotated[str | None, Query(description="Only this tenant's.")] = None,
    after: Annotated[UUID | None, Query(description="Only those after this one.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> SagaPage:
    """Of every process: the journal in truth is asked."""
    found = await plane.sagas.list(state=state, name=name, tenant=tenant, after=after, limit=limit)
    return SagaPage(items=found, next=found[-1].id if len(found) == limit else None)


@router.get("/{saga_id}", summary="One saga with its steps", responses=problem_responses(404))
async def show(plane: PlaneOf, saga_id: UUID) -> SagaRecord:
    """What was done in which order, what of it was undone, and what it is at."""
    return await plane.sagas.show(saga_id)


@router.post("/{saga_id}/cancel", summary="Undo a saga", responses=problem_responses(404, 409))
async def cancel(
    plane: PlaneOf,
    by: Operator,
    saga_id: UUID,
    why: Annotated[str, Query(max_length=500, description="To be shown.")] = "Cancelled.",
) -> SagaRecord:
    """Answers at once: undoing takes its time. 409 when it has ended."""
    async with plane.audit.act(by, "saga.cancel", "saga", str(saga_id), {"why": why}):
        return await plane.sagas.cancel(saga_id, why)


@router.post(
    "/{saga_id}/retry",
    summary="Try again what waits or is stuck",
    responses=problem_responses(404, 409),
)
async def retry(
    plane: PlaneOf,
    by: Operator,
    saga_id: UUID,
    anyway: Annotated[bool, Query(description="Even if its declaration has changed.")] = False,
) -> SagaRecord:
    """With `anyway` it goes on by what is declared now. 409 when it has ended."""
    async with plane.audit.act(by, "saga.retry", "saga", str(saga_id), {"anyway": anyway}):
        return await plane.sagas.retry(saga_id, anyway=anyway)


@router.post(
    "/{saga_id}/signals/{name}",
    summary="Give a saga what it waits for",
    responses=problem_responses(404, 409, 413),
)
async def signal(
    plane: PlaneOf,
    by: Operator,
    saga_id: UUID,
    name: str,
    payload: Annotated[Any, Body()] = None,
) -> Told:
    """The body is the payload, and becomes the step's result. 409 when it has ended."""
    async with plane.audit.act(by, "saga.signal", "saga", str(saga_id), {"signal": name}):
        return Told(first=await plane.sagas.signal(saga_id, name, payload))
