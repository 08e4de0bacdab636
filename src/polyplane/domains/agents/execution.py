"""Operations as sagas: one for each number of steps, for a saga's steps are declared.

    announce, begin, step_1 ... step_n, finish, tell

What is true of an operation and its steps is rows; the saga brings it from one to the next, tries
again, and undoes what was done when a step fails for good or somebody cancels. A step is begun and
completed in a transaction each, under the operation's lock; between them the tool is at work. A
step that is completed is never performed again; one that is performed again has the same key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from types import new_class
from typing import Any, ClassVar, Final, NamedTuple, TypedDict, cast
from uuid import UUID

import orjson
import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.agents import states
from polyplane.domains.agents.capabilities import Capability, Task
from polyplane.domains.agents.models import (
    STEPS_MAX,
    AgentTool,
    ExecutionStep,
    Operation,
    Tool,
)
from polyplane.domains.agents.progress import show_progress
from polyplane.domains.agents.rows import locked, steps_of
from polyplane.saga import Context, Retries, Saga, SagaRefused, Step, local, remote

RETRIES: Final = Retries(attempts_max=5, first_wait_s=0.2, last_wait_s=30.0)
STEP_TIMEOUT_S: Final = 60.0
"""For one attempt."""
ERROR_CHARACTERS_MAX: Final = 4_000
FAILURES_KEPT: Final = 10
RESULT_BYTES_MAX: Final = 64 << 10

Skills = Mapping[str, Capability]
"""Capabilities by name."""


class Given(TypedDict):
    """What a saga is given."""

    operation_id: str


class Skilled:
    """What the sagas of operations have besides: the capabilities that their steps are done by."""

    skills: ClassVar[Skills]


class Operating(NamedTuple):
    """The saga of operations with so many steps, and what its steps are done by."""

    saga: type[Saga[Given]]
    skills: Skills


def sagas_of(capabilities: Sequence[Capability]) -> tuple[type[Saga[Given]], ...]:
    """The sagas of 1 to STEPS_MAX steps, done by these capabilities."""
    skills = {it.name: it for it in capabilities}
    return tuple(_saga(number, skills) for number in range(1, STEPS_MAX + 1))


def operating(plane: pp.Plane, steps: int) -> Operating:
    """How `plane` does operations with so many steps. Raises Misconfigured when it does not."""
    for saga in plane.declared.sagas:
        if saga.name == _name(steps) and issubclass(saga, Skilled):
            return Operating(saga, saga.skills)
    raise pp.Misconfigured("This plane does no operations.", fix="Give it the agents.")


def _name(steps: int) -> str:
    return f"agents_operation_{steps}"


def _saga(steps: int, skills: Skills) -> type[Saga[Given]]:
    declared = {
        "__doc__": f"An operation of {steps} steps.",
        "name": _name(steps),
        "skills": skills,
        "steps": (
            remote(announce, undo=close, undo_unbegun=True),
            local(begin, undo=give_up, final=(pp.NotFound,)),
            *(_step(number, skills) for number in range(1, steps + 1)),
            local(finish, final=(pp.NotFound,)),
            remote(announce, name="tell"),
        ),
    }
    bases = (Skilled, Saga[Given])
    made = new_class(f"OperationOf{steps}", bases, {}, lambda at: at.update(declared))
    return cast(type[Saga[Given]], made)


def _step(number: int, skills: Skills) -> Step:
    return remote(
        partial(perform, number=number, skills=skills),
        name=f"step_{number}",
        undo=partial(take_back, number=number, skills=skills),
        retries=RETRIES,
        timeout_s=STEP_TIMEOUT_S,
        final=(pp.NotFound,),
    )


class Begun(NamedTuple):
    """A step that was begun: its task, or what it gave when it is completed already."""

    capability: Capability | None
    task: Task
    is_done: bool = False


async def announce(context: Context[Given]) -> None:
    """Show what the operation is at in its live state, as truth has it."""
    await show_progress(context.plane, _caller(context), _id(context))


async def close(context: Context[Given]) -> None:
    """The last that is undone: one that never began is cancelled, and what it is now is shown."""
    async with context.plane.acting(_caller(context)).write() as tx:
        operation = await tx.get(Operation, _id(context), for_update=True)
        if operation is not None and operation.status == "queued":
            await cancel_unbegun(tx, operation, context.error or "Given up.")
    await announce(context)


async def cancel_unbegun(tx: pp.Write, operation: Operation, why: str) -> None:
    """Cancel a locked operation that is queued, with all of its steps."""
    for row in await steps_of(tx, operation.id):
        row.status = "skipped"
    await tx.flush()  # what has ended has no step at work, as the database sees to
    operation.status, operation.error = "cancelled", why[:ERROR_CHARACTERS_MAX]
    operation.completed_at = datetime.now(UTC)
    tx.emit("agents.operation.cancelled", _told(operation), subject=str(operation.id))
    tx.audit("operation.cancelled", "agents.operations", str(operation.id), _told(operation))


async def begin(tx: pp.Write, context: Context[Given]) -> None:
    """The operation runs, unless it was cancelled before."""
    operation = await locked(tx, Operation, _id(context))
    if not states.may_become(states.OPERATION_MOVES, operation.status, "running"):
        raise SagaRefused(f"The operation is {operation.status} already.")
    operation.status = "running"
    operation.started_at = datetime.now(UTC)
    tx.emit("agents.operation.started", _told(operation), subject=str(operation.id))


async def give_up(tx: pp.Write, context: Context[Given]) -> None:
    """The operation has failed or is cancelled; what was not begun is skipped."""
    operation = await tx.get(Operation, _id(context), for_update=True)
    if operation is None or not states.OPERATION_MOVES[operation.status]:
        return
    now, error = datetime.now(UTC), context.error[:ERROR_CHARACTERS_MAX] or "Given up."
    for row in await steps_of(tx, operation.id):
        if row.status == "pending":
            row.status = "skipped"
        elif row.status in ("running", "retrying"):
            _end_step(row, "failed", row.error or error, now)
    await tx.flush()
    operation.status = "cancelled" if operation.status == "cancelling" else "failed"
    operation.error, operation.completed_at = error, now
    ended = f"operation.{operation.status}"
    tx.emit(f"agents.{ended}", _told(operation), subject=str(operation.id))
    tx.audit(ended, "agents.operations", str(operation.id), _told(operation))


async def finish(tx: pp.Write, context: Context[Given]) -> None:
    """The operation is completed; its results are those of its steps, by number."""
    operation = await locked(tx, Operation, _id(context))
    if not states.may_become(states.OPERATION_MOVES, operation.status, "completed"):
        raise SagaRefused(f"The operation is {operation.status}.")
    rows = await steps_of(tx, operation.id)
    operation.results = {str(row.step_number): row.details.get("result") for row in rows}
    operation.status, operation.completed_at = "completed", datetime.now(UTC)
    tx.emit("agents.operation.completed", _told(operation), subject=str(operation.id))
    tx.audit("operation.completed", "agents.operations", str(operation.id), _told(operation))


async def perform(context: Context[Given], *, number: int, skills: Skills) -> dict[str, Any]:
    """Have the tool of one step do it, once; its failures are noted, and tried again."""
    begun = await _begin(context, number, skills)
    if begun.is_done:
        return {"step": number, "attempt": begun.task.attempt}
    task = begun.task
    await announce(context)
    try:
        if begun.capability is None:
            raise SagaRefused("No code does what this tool is for.")
        result = await begun.capability.perform(task)
        if len(orjson.dumps(result)) > RESULT_BYTES_MAX:
            raise SagaRefused(f"The result has more than {RESULT_BYTES_MAX:,} bytes.")
    except Exception as error:
        is_last = isinstance(error, SagaRefused | pp.NotFound)
        is_last = is_last or context.attempt >= RETRIES.attempts_max
        await _note_failure(task, error, is_last=is_last)
        raise
    await _complete(task, result)
    await announce(context)
    return {"step": number, "attempt": task.attempt}


async def take_back(context: Context[Given], *, number: int, skills: Skills) -> None:
    """Undo one step, also when nobody knows whether it took effect."""
    caller = _caller(context)
    async with context.plane.acting(caller).read() as session:
        operation = await session.get(Operation, _id(context))
        row = await session.scalar(_one_step(_id(context), number, caller.tenant))
        tool = None if row is None else await session.get(Tool, row.tool_id)
    if operation is None or row is None or row.status in ("pending", "skipped", "undone"):
        return
    capability = None if tool is None else skills.get(tool.capability)
    has_undo = capability is not None and capability.undo is not None
    if capability is not None and capability.undo is not None:
        await capability.undo(_task(context, capability, operation, row, {}))
    async with context.plane.acting(caller).write() as tx:
        operation, row = await _locked_step(tx, _id(context), number)
        if row.status in ("running", "retrying"):
            error = row.error or context.error or "Its time was over."
            _end_step(row, "failed", error, datetime.now(UTC))
        elif row.status == "completed" and has_undo:
            _end_step(row, "undone", row.error, datetime.now(UTC))
            operation.steps_done -= 1
    await announce(context)


async def _begin(context: Context[Given], number: int, skills: Skills) -> Begun:
    """Note one more attempt. Raises SagaRefused when the step is not to be done (any more)."""
    caller = _caller(context)
    async with context.plane.acting(caller).write() as tx:
        operation, row = await _locked_step(tx, _id(context), number)
        rows = await steps_of(tx, operation.id)
        results = {it.step_number: it.details.get("result") or {} for it in rows[: number - 1]}
        tool = await tx.get(Tool, row.tool_id)
        capability = None if tool is None else skills.get(tool.capability)
        if row.status == "completed":
            return Begun(None, _task(context, None, operation, row, results), is_done=True)
        if operation.status != "running":
            raise SagaRefused(f"The operation is {operation.status}.")
        if not states.may_become(states.STEP_MOVES, row.status, "running"):
            raise SagaRefused(f"Step {number} is {row.status}.")
        key = {"agent_id": operation.agent_id, "tool_id": row.tool_id}
        if await tx.get(AgentTool, key) is None:
            raise SagaRefused(f"The agent cannot use the tool of step {number} any more.")
        row.status, row.attempts = "running", row.attempts + 1
        row.started_at = row.started_at or datetime.now(UTC)
        return Begun(capability, _task(context, capability, operation, row, results))


async def _complete(task: Task, result: Mapping[str, Any]) -> None:
    async with task.write() as tx:
        operation, row = await _locked_step(tx, task.operation_id, task.step_number)
        row.details = {**row.details, "result": dict(result)}
        _end_step(row, "completed", None, datetime.now(UTC))
        operation.steps_done += 1


async def _note_failure(task: Task, error: Exception, *, is_last: bool) -> None:
    """Note why an attempt failed; not for who was overtaken by another."""
    said = (str(error) or type(error).__name__)[:ERROR_CHARACTERS_MAX]
    now = datetime.now(UTC)
    async with task.plane.acting(task.caller).write() as tx:
        _, row = await _locked_step(tx, task.operation_id, task.step_number)
        if row.attempts != task.attempt or row.status != "running":
            return
        failures = [*row.details.get("failures", ()), {"attempt": task.attempt, "error": said}]
        row.details = {**row.details, "failures": failures[-FAILURES_KEPT:]}
        if is_last:
            _end_step(row, "failed", said, now)
        else:
            row.status, row.error = "retrying", said


@asynccontextmanager
async def written(
    plane: pp.Plane, caller: pp.Caller, operation_id: UUID, number: int, attempt: int
) -> AsyncIterator[pp.Write]:
    """A transaction of one attempt: whoever was overtaken meanwhile changes nothing."""
    async with plane.acting(caller).write() as tx:
        _, row = await _locked_step(tx, operation_id, number)
        if row.status != "running" or row.attempts != attempt:
            raise pp.Conflict(f"Another attempt of step {number} came after this one.")
        yield tx


def _task(
    context: Context[Given],
    capability: Capability | None,
    operation: Operation,
    row: ExecutionStep,
    results: Mapping[int, Mapping[str, Any]],
) -> Task:
    caller, number, attempt = _caller(context), row.step_number, row.attempts
    given = row.details.get("arguments", {})
    arguments = None if capability is None else capability.checked(given, f"steps.{number}")
    return Task(
        plane=context.plane,
        caller=caller,
        operation_id=operation.id,
        agent_id=operation.agent_id,
        step_number=number,
        attempt=attempt,
        arguments=arguments,
        results=results,
        write=partial(written, context.plane, caller, operation.id, number, attempt),
    )


async def _locked_step(
    tx: pp.Write, operation_id: UUID, number: int
) -> tuple[Operation, ExecutionStep]:
    """An operation and one of its steps, locked in that order, as all who change them do."""
    operation = await locked(tx, Operation, operation_id)
    query = _one_step(operation_id, number, tx.tenant).with_for_update()
    return operation, (await tx.scalars(query)).one()


def _one_step(operation_id: UUID, number: int, tenant: str) -> sa.Select[ExecutionStep]:
    step = ExecutionStep
    return sa.select(step).where(
        step.operation_id == operation_id, step.step_number == number, step.tenant_id == tenant
    )


def _end_step(row: ExecutionStep, status: str, error: str | None, now: datetime) -> None:
    row.status, row.error, row.completed_at = status, error, now


def _told(operation: Operation) -> dict[str, Any]:
    """What events and audit say of an operation: nothing personal, nothing large."""
    return {
        "operation_id": str(operation.id),
        "type": operation.type,
        "agent_id": str(operation.agent_id),
        "steps_total": operation.steps_total,
    }


def _caller(context: Context[Given]) -> pp.Caller:
    return pp.Caller(context.actor, context.tenant)


def _id(context: Context[Given]) -> UUID:
    return UUID(context.input["operation_id"])
