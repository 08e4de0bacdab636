"""Operations: done step by step, tried again, undone, cancelled; never what they cannot be."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy as sa
from redis.asyncio import Redis

import polyplane as pp
from polyplane.domains.agents import execution
from polyplane.domains.agents.capabilities import CAPABILITIES
from polyplane.domains.agents.models import Concept, Operation
from polyplane.domains.agents.operations import StepWanted, cancel_operation, start_operation
from polyplane.live import OPERATION, States
from polyplane.saga import Context
from tests.flow.agents.crew import crew, ended, started, steps_of
from tests.flow.things import becomes, by_hand, connect

WITHIN_S = 30.0


async def test_an_operation_is_done_step_by_step_and_told_of(
    plane: pp.Plane, caller: pp.Caller
) -> None:
    """Failures are tried again; results, live state, events and audit say what happened."""
    agent, tools = await crew(plane, caller)
    id = uuid4()
    told: list[Any] = []
    async with plane.acting(caller).events.follow(States(OPERATION, str(id))) as news:
        async with plane.acting(caller).write() as tx:
            operation = await start_operation(
                plane,
                tx,
                id=id,
                agent_id=agent,
                type="research",
                context={"why": "a test"},
                steps=[
                    StepWanted(tools["text.measure"], "measure", {"text": "one two\nthree"}),
                    StepWanted(tools["drill"], "try", {"failures": 2}),
                    StepWanted(tools["concepts.note"], "note", {"name": "outbox"}),
                ],
            )
            assert (operation.status, operation.steps_total) == ("queued", 3)
        while not told or told[-1]["status"] != "completed":
            batch = await news.next(wait_s=WITHIN_S)
            assert batch is not None
            told += [it.state for it in batch.updates if it.state]
    shares = [state["progress"] for state in told]
    assert shares == sorted(shares) and shares[-1] == 1.0
    done = await ended(plane, caller, operation)
    assert (done.status, done.steps_done, done.error) == ("completed", 3, None)
    steps = await steps_of(plane, caller, done)
    assert [(it.step_number, it.status, it.attempts) for it in steps] == [
        (1, "completed", 1),
        (2, "completed", 3),
        (3, "completed", 1),
    ]
    assert [it["attempt"] for it in steps[1].details["failures"]] == [1, 2]
    assert done.results is not None
    assert (done.results["1"]["words"], done.results["2"]) == (3, {"attempt": 3})
    async with plane.acting(caller).read() as session:
        noted = await session.get(Concept, UUID(done.results["3"]["concept_id"]))
    assert noted is not None and noted.name == "outbox"
    key = await becomes_state(plane, caller, id, "completed")
    assert 0 < key <= 3600
    lines = [it.action for it in await plane.audit.search(tenant=caller.tenant, limit=100)]
    assert {"operation.asked", "operation.completed", "row.created"} <= set(lines)


async def becomes_state(plane: pp.Plane, caller: pp.Caller, id: UUID, status: str) -> int:
    """Wait until the live state says so; the seconds `operation:<id>` has to live."""

    async def look() -> object:
        found = await plane.acting(caller).state.get(OPERATION, str(id))
        return found and found["status"]

    await becomes(look, status, within_s=WITHIN_S)
    async with Redis.from_url(plane.settings.url("cache_url") or "") as client:
        left_s: int = await client.ttl(f"{plane.namespace}:{caller.tenant}:operation:{id}")
    return left_s


async def test_a_step_that_refuses_has_what_was_done_undone(
    plane: pp.Plane, caller: pp.Caller
) -> None:
    agent, tools = await crew(plane, caller)
    operation = await started(
        plane,
        caller,
        agent,
        tools,
        ("concepts.note", {"name": "short-lived"}),
        ("text.measure", {"text": "x"}),
        ("drill", {"refuses": True}),
        ("concepts.note", {"name": "never"}),
    )
    failed = await ended(plane, caller, operation)
    assert (failed.status, failed.results) == ("failed", None)
    assert failed.error is not None and "refuses" in failed.error
    steps = await steps_of(plane, caller, failed)
    # What has no undo stays as it was; what was never begun is skipped.
    assert [it.status for it in steps] == ["undone", "completed", "failed", "skipped"]
    assert failed.steps_done == 1
    async with plane.acting(caller).read() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(Concept)) == 0
    await becomes_state(plane, caller, operation.id, "failed")
    with pytest.raises(pp.Conflict):
        await cancel_operation(plane, caller, operation.id)


async def test_who_fails_too_often_has_failed(plane: pp.Plane, caller: pp.Caller) -> None:
    agent, tools = await crew(plane, caller, "drill")
    operation = await started(plane, caller, agent, tools, ("drill", {"failures": 100}))
    failed = await ended(plane, caller, operation)
    [step] = await steps_of(plane, caller, failed)
    assert (failed.status, step.status) == ("failed", "failed")
    assert step.attempts == execution.RETRIES.attempts_max == len(step.details["failures"])


async def test_a_cancelled_operation_is_undone_wherever_it_is(
    plane: pp.Plane, caller: pp.Caller
) -> None:
    agent, tools = await crew(plane, caller)
    operation = await started(
        plane,
        caller,
        agent,
        tools,
        ("concepts.note", {"name": "gone"}),
        ("drill", {"failures": 100}),
    )

    async def tries() -> bool:
        rows = await steps_of(plane, caller, operation)
        return rows[1].attempts > 0

    await becomes(tries, True, within_s=WITHIN_S)
    asked = await cancel_operation(plane, caller, operation.id)
    assert asked.status in ("cancelling", "cancelled")
    over = await ended(plane, caller, operation)
    assert (over.status, over.steps_done) == ("cancelled", 0)
    assert [it.status for it in await steps_of(plane, caller, over)] == ["undone", "failed"]
    again = await cancel_operation(plane, caller, operation.id)
    assert again.status == "cancelled"


async def test_whose_saga_is_cancelled_before_it_began_is_cancelled(
    plane: pp.Plane, caller: pp.Caller
) -> None:
    """As by `polyplane sagas cancel` in the moment before a process takes it up."""
    agent, tools = await crew(plane, caller, "drill")
    async with plane.acting(caller).write() as tx:
        steps = [StepWanted(tools["drill"], "try", {}), StepWanted(tools["drill"], "again", {})]
        operation = await start_operation(plane, tx, agent_id=agent, type="test", steps=steps)
        cancelled = "UPDATE polyplane.saga SET cancelled = 'Too early.' WHERE id = :id"
        await tx.execute(sa.text(cancelled), {"id": operation.saga_id})
    over = await ended(plane, caller, operation)
    assert (over.status, over.error, over.started_at) == ("cancelled", "Too early.", None)
    assert [it.status for it in await steps_of(plane, caller, over)] == ["skipped", "skipped"]
    await becomes_state(plane, caller, operation.id, "cancelled")


async def test_a_completed_step_is_not_done_again_nor_by_who_was_overtaken(
    plane: pp.Plane, caller: pp.Caller
) -> None:
    """A crash between an effect and its note has the step performed again: to no effect."""
    agent, tools = await crew(plane, caller, "concepts.note")
    operation = await started(plane, caller, agent, tools, ("concepts.note", {"name": "one"}))
    await ended(plane, caller, operation)
    context: Context[Any] = Context(
        saga_id=uuid4(),
        input={"operation_id": str(operation.id)},
        results={},
        attempt=1,
        idempotency_key="k",
        deadline=None,
        tenant=caller.tenant,
        actor="tests",
        plane=plane,
    )
    skills = {it.name: it for it in CAPABILITIES}
    again = await execution.perform(context, number=1, skills=skills)
    assert again == {"step": 1, "attempt": 1}
    [step] = await steps_of(plane, caller, operation)
    assert (step.status, step.attempts) == ("completed", 1)
    async with plane.acting(caller).read() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(Concept)) == 1
    with pytest.raises(pp.Conflict):
        async with execution.written(plane, caller, operation.id, 1, 1) as tx:
            tx.add(Concept(tenant_id=caller.tenant, name="late", category="x"))


IMPOSSIBLE = [
    "UPDATE agents.operations SET status = 'queued', started_at = NULL, completed_at = NULL,"
    " results = NULL WHERE id = %(op)s",
    "UPDATE agents.operations SET status = 'running', completed_at = NULL, results = NULL"
    " WHERE id = %(op)s",
    "UPDATE agents.operations SET steps_done = steps_total + 1 WHERE id = %(op)s",
    "UPDATE agents.operations SET results = NULL WHERE id = %(op)s",
    "UPDATE agents.operations SET error = 'x' WHERE id = %(op)s",
    "UPDATE agents.operations SET completed_at = started_at - interval '1 s' WHERE id = %(op)s",
    "UPDATE agents.operations SET completed_at = NULL WHERE id = %(op)s",
    "UPDATE agents.execution_steps SET status = 'pending' WHERE operation_id = %(op)s",
    "UPDATE agents.execution_steps SET attempts = 0 WHERE operation_id = %(op)s",
    "UPDATE agents.execution_steps SET step_number = 0 WHERE operation_id = %(op)s",
    "UPDATE agents.execution_steps SET completed_at = NULL WHERE operation_id = %(op)s",
    "INSERT INTO agents.execution_steps (tenant_id, operation_id, step_number, tool_id, name)"
    " SELECT tenant_id, operation_id, step_number, tool_id, 'twice' FROM agents.execution_steps"
    " WHERE operation_id = %(op)s",
    "INSERT INTO agents.execution_steps (tenant_id, operation_id, step_number, tool_id, name,"
    " status, attempts, started_at, completed_at) SELECT tenant_id, operation_id, 2, tool_id,"
    " 'done', 'completed', 1, now(), now() FROM agents.execution_steps WHERE operation_id = %(op)s",
    "UPDATE agents.execution_steps SET status = 'undone' WHERE operation_id = %(op)s",
    "INSERT INTO agents.execution_steps (tenant_id, operation_id, step_number, tool_id, name)"
    " SELECT tenant_id, operation_id, 2, tool_id, 'late' FROM agents.execution_steps"
    " WHERE operation_id = %(op)s",
    "INSERT INTO agents.operations (tenant_id, type, agent_id, steps_total, status, started_at)"
    " SELECT tenant_id, 'x', agent_id, 1, 'running', now() FROM agents.operations"
    " WHERE id = %(op)s",
    "INSERT INTO agents.concept_relations (tenant_id, source_id, target_id, type, strength)"
    " SELECT tenant_id, id, id, 'x', 1.5 FROM agents.concepts WHERE tenant_id = %(t)s",
]


async def test_no_state_is_impossible_whoever_writes(plane: pp.Plane, caller: pp.Caller) -> None:
    """The database refuses it to psql, too."""
    agent, tools = await crew(plane, caller, "concepts.note")
    operation = await started(plane, caller, agent, tools, ("concepts.note", {"name": "one"}))
    await ended(plane, caller, operation)
    async with await connect(plane) as connection:
        before = await everything(connection, operation.id)
        taken = []
        for statement in IMPOSSIBLE:
            try:
                named = {"op": operation.id, "t": caller.tenant}
                await connection.execute(statement.encode(), named)
                taken.append(statement)
            except psycopg.errors.IntegrityError:
                continue
        assert taken == []
        # What is queued cannot be over before its steps are.
        with pytest.raises(psycopg.errors.CheckViolation):
            async with connection.transaction():
                row = await connection.execute(
                    "INSERT INTO agents.operations (tenant_id, type, agent_id, steps_total)"
                    " SELECT tenant_id, 'x', agent_id, 1 FROM agents.operations WHERE id = %s"
                    " RETURNING id",
                    [operation.id],
                )
                [id] = await row.fetchone() or [None]
                await connection.execute(
                    "UPDATE agents.operations SET status = 'running', started_at = now()"
                    " WHERE id = %s",
                    [id],
                )
                await connection.execute(
                    "UPDATE agents.operations SET status = 'completed', steps_done = 1,"
                    " results = '{}', completed_at = now() WHERE id = %s",
                    [id],
                )
        assert await everything(connection, operation.id) == before


async def everything(connection: psycopg.AsyncConnection[Any], id: UUID) -> list[Any]:
    """An operation and its steps, as the database has them."""
    rows = await connection.execute(
        "SELECT o::text, s::text FROM agents.operations o"
        " JOIN agents.execution_steps s ON s.operation_id = o.id WHERE o.id = %s",
        [id],
    )
    return await rows.fetchall()


async def test_what_an_operation_may_be_asked(plane: pp.Plane, caller: pp.Caller) -> None:
    """An agent of the tenant, tools it can use, arguments they take; once under one id."""
    agent, tools = await crew(plane, caller, "drill", "text.measure")
    other, others = await crew(plane, caller, "drill")
    right = StepWanted(tools["drill"], "x", {})

    async def ask(*steps: StepWanted, agent_id: UUID = agent, **more: Any) -> Operation:
        async with plane.acting(caller).write() as tx:
            return await start_operation(
                plane, tx, agent_id=agent_id, type="x", steps=steps, **more
            )

    wrong: list[tuple[StepWanted, str]] = [
        (StepWanted(others["drill"], "x", {}), "steps.1.tool_id"),
        (StepWanted(uuid4(), "x", {}), "steps.1.tool_id"),
        (StepWanted(tools["drill"], "x", {"failures": -1}), "steps.1.arguments.failures"),
        (StepWanted(tools["drill"], "x", {"colour": "red"}), "steps.1.arguments.colour"),
        (StepWanted(tools["text.measure"], "x", {}), "steps.1.arguments.text"),
    ]
    for step, field in wrong:
        with pytest.raises(pp.Refused) as refused:
            await ask(right, step)
        assert refused.value.field == field
    with pytest.raises(pp.Refused) as refused:
        await ask(right, agent_id=uuid4())
    assert refused.value.field == "agent_id"
    first = await ask(right, id=uuid4())
    with pytest.raises(pp.Conflict):
        await ask(right, id=first.id)
    await ended(plane, caller, first)
    assert await by_hand(
        plane, "SELECT count(*) FROM agents.operations WHERE tenant_id = %s", caller.tenant
    ) == [(1,)]
    assert other != agent


async def test_many_operations_with_many_failures_all_end_as_they_should(
    plane: pp.Plane, caller: pp.Caller
) -> None:
    """Random ones at once, some cancelled: each ends, and none in a way that contradicts itself."""
    rng = random.Random(7)
    agent, tools = await crew(plane, caller)

    def step() -> tuple[str, dict[str, Any]]:
        kind = rng.choice(["note", "measure", "drill", "refuse"] + ["note"] * 4)
        match kind:
            case "note":
                return "concepts.note", {"name": f"n{rng.random()}"}
            case "measure":
                return "text.measure", {"text": "a b c"}
            case "refuse":
                return "drill", {"refuses": True}
        return "drill", {"failures": rng.choice([1, 1, 2])}

    begun = [
        await started(plane, caller, agent, tools, *(step() for _ in range(rng.randint(1, 6))))
        for _ in range(8)
    ]
    for operation in rng.sample(begun, 2):
        try:
            await cancel_operation(plane, caller, operation.id)
        except pp.Conflict:
            continue  # it was over already
    noted = 0
    for operation in begun:
        over = await ended(plane, caller, operation)
        steps = await steps_of(plane, caller, over)
        done = [it for it in steps if it.status == "completed"]
        assert over.steps_done == len(done)
        assert {it.status for it in steps} <= {"completed", "failed", "undone", "skipped"}
        noted += sum("name" in it.details["arguments"] for it in done)
        if over.status == "completed":
            assert len(done) == over.steps_total
        else:
            assert over.status in ("failed", "cancelled")
            assert not [it for it in done if it.name == "concepts.note"]
    async with plane.acting(caller).read() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(Concept)) == noted


async def test_a_capability_of_ones_own(plane: pp.Plane, caller: pp.Caller) -> None:
    """Another list of capabilities: what an application's own tools do (see conftest)."""
    agent, tools = await crew(plane, caller, "greet")
    operation = await started(plane, caller, agent, tools, ("greet", {"name": "Ada"}))
    done = await ended(plane, caller, operation)
    assert done.results == {"1": {"said": "Hello, Ada!"}}
