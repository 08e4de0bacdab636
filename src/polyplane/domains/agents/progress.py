"""What an operation is at, for who looks on: `operation:<id>` in the cache, told as it changes."""

from __future__ import annotations

from uuid import UUID

import structlog

import polyplane as pp
from polyplane.domains.agents.models import Operation
from polyplane.domains.agents.rows import row_of
from polyplane.domains.agents.states import progress_of
from polyplane.live import OPERATION

_log = structlog.get_logger("polyplane.agents")


async def show_progress(plane: pp.Plane, caller: pp.Caller, operation_id: UUID) -> None:
    """Make the live state of an operation what truth has. Of one that is gone there is none.

    The state is a courtesy: work goes on when the cache is down.
    """
    async with plane.acting(caller).read() as session:
        row = await session.get(Operation, operation_id)
    state, key = plane.acting(caller).state, str(operation_id)
    try:
        if row is None or row.tenant_id != caller.tenant:
            await state.end(OPERATION, key)
        else:
            done = progress_of(row.steps_done, row.steps_total)
            await state.set(OPERATION, key, status=row.status, progress=done)
    except pp.Unavailable as error:
        _log.warning("agents.progress_not_shown", operation=key, error=error.message)


async def read_progress(
    plane: pp.Plane, caller: pp.Caller, operation_id: UUID
) -> dict[str, object]:
    """`status`, `progress` (0 to 1) and `lastUpdate`: from the cache, else from truth.

    Raises NotFound when the tenant has no such operation.
    """
    try:
        found = await plane.acting(caller).state.get(OPERATION, str(operation_id))
    except pp.Unavailable:
        found = None  # truth knows
    if found is not None:
        return found
    async with plane.acting(caller).read() as session:
        row = await row_of(session, Operation, operation_id, tenant=caller.tenant)
    return {
        "status": row.status,
        "progress": progress_of(row.steps_done, row.steps_total),
        "lastUpdate": row.updated_at.isoformat(),
    }
