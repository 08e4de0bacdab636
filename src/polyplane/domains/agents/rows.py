"""Rows by id, as a tenant may see them."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

import polyplane as pp
from polyplane.domains.agents.models import Base, ExecutionStep

M = TypeVar("M", bound=Base)


async def row_of(session: AsyncSession, model: type[M], key: object, *, tenant: str) -> M:
    """The tenant's row of `model` under `key`; NotFound names the path parameter."""
    return _owned(await session.get(model, key), model, key, tenant)


async def locked(tx: pp.Write, model: type[M], key: object) -> M:
    """The same, locked until the transaction ends."""
    return _owned(await tx.get(model, key, for_update=True), model, key, tx.tenant)


async def check_refers(tx: pp.Write, model: type[Base], key: UUID, *, field: str) -> None:
    """Refused naming `field` unless `key` is the id of a row of the caller's tenant."""
    columns = sa.inspect(model).columns
    found = await tx.execute(
        sa.select(columns["id"]).where(columns["id"] == key, columns["tenant_id"] == tx.tenant)
    )
    if found.first() is None:
        raise pp.Refused(f"There is no {_noun(model)} {key}.", field=field)


async def steps_of(tx: pp.Write, operation_id: UUID) -> list[ExecutionStep]:
    """The steps of an operation in their order, locked. Lock the operation first."""
    step = ExecutionStep
    found = await tx.scalars(
        sa.select(step)
        .where(step.operation_id == operation_id, step.tenant_id == tx.tenant)
        .order_by(step.step_number)
        .with_for_update()
    )
    return list(found)


def _owned(row: M | None, model: type[M], key: object, tenant: str) -> M:
    if row is None or row.tenant_id != tenant:
        raise pp.NotFound(f"There is no {_noun(model)} {key}.", field=f"{_noun(model)}_id")
    return row


def _noun(model: type[Base]) -> str:
    return model.__name__.lower()
