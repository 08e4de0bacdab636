"""An agent with its tools, and operations of it, as the tests of agents begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from httpx import AsyncClient

import polyplane as pp
from polyplane.domains.agents.capabilities import CAPABILITIES
from polyplane.domains.agents.models import Agent, AgentTool, ExecutionStep, Operation, Tool
from polyplane.domains.agents.operations import StepWanted, start_operation

ALL = tuple(it.name for it in CAPABILITIES)


async def made(client: AsyncClient, path: str, **fields: Any) -> dict[str, Any]:
    """What a POST created."""
    answer = await client.post(path, json=fields)
    assert answer.status_code in (201, 202), answer.text
    created: dict[str, Any] = answer.json()
    return created


async def crew(
    plane: pp.Plane, caller: pp.Caller, *capabilities: str
) -> tuple[UUID, dict[str, UUID]]:
    """An agent that can do these (all, if none is named), and its tools by capability."""
    tools = {
        it: Tool(tenant_id=caller.tenant, name=it, capability=it) for it in capabilities or ALL
    }
    agent = Agent(tenant_id=caller.tenant, name="Librarian", type="researcher")
    async with plane.acting(caller).write() as tx:
        tx.add_all([agent, *tools.values()])
        await tx.flush()
        tx.add_all(
            [
                AgentTool(tenant_id=caller.tenant, agent_id=agent.id, tool_id=tool.id)
                for tool in tools.values()
            ]
        )
    return agent.id, {name: tool.id for name, tool in tools.items()}


async def started(
    plane: pp.Plane,
    caller: pp.Caller,
    agent_id: UUID,
    tools: Mapping[str, UUID],
    *steps: tuple[str, dict[str, Any]],
) -> Operation:
    """An operation of these (capability, arguments), begun."""
    wanted = [StepWanted(tools[name], name, arguments) for name, arguments in steps]
    async with plane.acting(caller).write() as tx:
        return await start_operation(plane, tx, agent_id=agent_id, type="test", steps=wanted)


async def ended(plane: pp.Plane, caller: pp.Caller, operation: Operation) -> Operation:
    """The operation when its saga is over."""
    assert operation.saga_id is not None
    await plane.acting(caller).sagas.finished(operation.saga_id, timeout_s=60)
    async with plane.acting(caller).read() as session:
        found = await session.get(Operation, operation.id)
    assert found is not None
    return found


async def steps_of(plane: pp.Plane, caller: pp.Caller, operation: Operation) -> list[ExecutionStep]:
    """The steps of an operation, in their order."""
    step = ExecutionStep
    query = sa.select(step).where(step.operation_id == operation.id).order_by(step.step_number)
    async with plane.acting(caller).read() as session:
        return list(await session.scalars(query))
