"""Operations: asked for, and cancelled. What happens between is `execution`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.agents import states
from polyplane.domains.agents.execution import Given, cancel_unbegun, operating
from polyplane.domains.agents.models import Agent, AgentTool, ExecutionStep, Operation, Tool
from polyplane.domains.agents.rows import check_refers, locked


class StepWanted(NamedTuple):
    """One step: which tool is given what."""

    tool_id: UUID
    name: str
    arguments: Mapping[str, Any]


async def start_operation(
    plane: pp.Plane,
    tx: pp.Write,
    *,
    agent_id: UUID,
    type: str,
    steps: Sequence[StepWanted],
    context: Mapping[str, Any] | None = None,
    id: UUID | None = None,
) -> Operation:
    """Have an agent do these steps in their order, if and only if `tx` commits.

    Raises Refused, naming the field, for an agent there is not, a tool it cannot use, one that no
    code is for, or arguments that this does not take; Conflict when the id is taken.
    """
    await check_refers(tx, Agent, agent_id, field="agent_id")
    saga, skills = operating(plane, len(steps))
    tools = await _usable(tx, agent_id, [step.tool_id for step in steps])
    given = []
    for at, step in enumerate(steps):
        tool = tools.get(step.tool_id)
        if tool is None:
            raise pp.Refused("The agent has no such tool.", field=f"steps.{at}.tool_id")
        capability = skills.get(tool.capability)
        if capability is None:
            raise pp.Refused(
                f"No code does {tool.capability}.",
                field=f"steps.{at}.tool_id",
                fix=f"There is: {', '.join(sorted(skills))}.",
            )
        arguments = capability.checked(step.arguments, f"steps.{at}.arguments")
        given.append(arguments.model_dump(mode="json", exclude_unset=True))
    operation = Operation(
        id=id,
        tenant_id=tx.tenant,
        type=type,
        agent_id=agent_id,
        user_id=tx.caller.user,
        context=dict(context or {}),
        steps_total=len(steps),
    )
    tx.add(operation)
    await tx.flush()
    tx.add_all(
        [
            ExecutionStep(
                tenant_id=tx.tenant,
                operation_id=operation.id,
                step_number=number,
                tool_id=step.tool_id,
                name=step.name,
                details={"arguments": arguments},
            )
            for number, (step, arguments) in enumerate(zip(steps, given, strict=True), 1)
        ]
    )
    await tx.flush()
    key = str(operation.id)
    sagas = plane.acting(tx.caller).sagas
    operation.saga_id = await sagas.start(saga, Given(operation_id=key), key=key, tx=tx)
    tx.audit("operation.asked", "agents.operations", key, {"type": type, "steps": len(steps)})
    await tx.flush()
    return operation


async def cancel_operation(plane: pp.Plane, caller: pp.Caller, operation_id: UUID) -> Operation:
    """Have an operation undone, from wherever it is; as it stands now.

    Raises NotFound, Conflict when it is over. Whoever asks twice is told the same.
    """
    async with plane.acting(caller).write() as tx:
        operation = await locked(tx, Operation, operation_id)
        if operation.status in ("cancelling", "cancelled"):
            return operation
        tx.audit("operation.cancel_asked", "agents.operations", str(operation_id))
        if operation.status == "queued":
            await cancel_unbegun(tx, operation, "Cancelled before it began.")
        elif states.may_become(states.OPERATION_MOVES, operation.status, "cancelling"):
            operation.status = "cancelling"
        else:
            raise pp.Conflict(f"The operation is {operation.status} already.", field="status")
    if operation.saga_id is not None:
        await _undo(plane, caller, operation.saga_id)
    return operation


async def _undo(plane: pp.Plane, caller: pp.Caller, saga_id: UUID) -> None:
    """Undo the saga now. It would find out by itself at its next step."""
    try:
        await plane.acting(caller).sagas.cancel(saga_id, "Cancelled.")
    except pp.Conflict:
        return  # it ended meanwhile


async def _usable(tx: pp.Write, agent_id: UUID, wanted: Sequence[UUID]) -> dict[UUID, Tool]:
    """The tools among those wanted that the agent can use, by id."""
    found = await tx.scalars(
        sa.select(Tool)
        .join(AgentTool, AgentTool.tool_id == Tool.id)
        .where(
            AgentTool.agent_id == agent_id,
            Tool.tenant_id == tx.tenant,
            Tool.id.in_(set(wanted)),
        )
    )
    return {tool.id: tool for tool in found}
