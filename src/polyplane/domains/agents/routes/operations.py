"""Operations: asked for, followed, cancelled."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from polyplane.domains.agents import operations, progress
from polyplane.domains.agents.models import ExecutionStep, Operation
from polyplane.domains.agents.permissions import OPERATE, READ
from polyplane.domains.agents.routes.desk import AtDesk
from polyplane.domains.agents.shapes import (
    Kind,
    OperationGiven,
    OperationShown,
    Progress,
    StepShown,
)
from polyplane.domains.agents.states import OperationStatus
from polyplane.web import After, Limit, Page, limited, problem_responses, repeatable

router = APIRouter()


@router.post(
    "/operations",
    dependencies=[OPERATE, limited(600, 60), repeatable],
    status_code=202,
    responses=problem_responses(409),
)
async def start_operation(given: OperationGiven, desk: AtDesk) -> OperationShown:
    """Have an agent do these steps, in their order. It is durable when this answers."""
    steps = [operations.StepWanted(it.tool_id, it.name, it.arguments) for it in given.steps]
    async with desk.plane.acting(desk.caller).write() as tx:
        row = await operations.start_operation(
            desk.plane,
            tx,
            agent_id=given.agent_id,
            type=given.type,
            steps=steps,
            context=given.context,
            id=given.id,
        )
    return desk.written(row, tx, OperationShown)


@router.get("/operations", dependencies=[READ])
async def list_operations(
    desk: AtDesk,
    status: Annotated[OperationStatus | None, Query(description="Only these.")] = None,
    type: Annotated[Kind | None, Query(description="Only these.")] = None,
    agent_id: Annotated[UUID | None, Query(description="Only this agent's.")] = None,
    after: After = None,
    limit: Limit = 50,
) -> Page[OperationShown]:
    """Operations, newest first."""
    only = [] if status is None else [Operation.status == status]
    if type is not None:
        only.append(Operation.type == type)
    if agent_id is not None:
        only.append(Operation.agent_id == agent_id)
    return await desk.page(Operation, OperationShown, after, limit, *only)


@router.get("/operations/{operation_id}", dependencies=[READ], responses=problem_responses(404))
async def read_operation(operation_id: UUID, desk: AtDesk) -> OperationShown:
    """One operation; its results once it is completed."""
    return await desk.read(Operation, operation_id, OperationShown)


@router.get(
    "/operations/{operation_id}/steps", dependencies=[READ], responses=problem_responses(404)
)
async def list_steps(
    operation_id: UUID, desk: AtDesk, after: After = None, limit: Limit = 50
) -> Page[StepShown]:
    """The steps of an operation, the last first."""
    await desk.read(Operation, operation_id, OperationShown)
    mine = ExecutionStep.operation_id == operation_id
    return await desk.page(ExecutionStep, StepShown, after, limit, mine, by=("step_number",))


@router.get(
    "/operations/{operation_id}/progress", dependencies=[READ], responses=problem_responses(404)
)
async def read_progress(operation_id: UUID, desk: AtDesk) -> Progress:
    """What an operation is at, as `operation:<id>` in the cache has it, else truth.

    To be told of changes, follow the topic `agents.operations/<id>`.
    """
    found = await progress.read_progress(desk.plane, desk.caller, operation_id)
    return Progress.model_validate(found)


@router.post(
    "/operations/{operation_id}/cancel",
    dependencies=[OPERATE],
    status_code=202,
    responses=problem_responses(404, 409),
)
async def cancel_operation(operation_id: UUID, desk: AtDesk) -> OperationShown:
    """Undo an operation, from wherever it is. Conflict when it is over."""
    row = await operations.cancel_operation(desk.plane, desk.caller, operation_id)
    return OperationShown.model_validate(row)
