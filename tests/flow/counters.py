"""An application whose routes are limited, and may be repeated."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Mapped

import polyplane as pp
from polyplane import marks
from polyplane.web import (
    Caller,
    PlaneOf,
    TokenHeader,
    etag_of,
    limited,
    permission,
    problem_responses,
    repeatable,
)

READ, WRITE = permission("counters.read"), permission("counters.write")
router = APIRouter(responses=problem_responses(429))


class Count(pp.Model):
    """What was counted."""

    __tablename__ = "count"
    metadata = pp.metadata()

    id: Mapped[UUID] = pp.key()
    tenant_id: Mapped[str] = marks.tenant()
    name: Mapped[str]


class Given(BaseModel):
    """What to count; how its writing is to end."""

    name: str = Field(max_length=100)
    size: int = Field(default=0, le=1 << 20)
    fails: str = ""
    wait_s: float = 0


class Shown(BaseModel):
    """What was counted."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    padding: str = ""


@router.post("/counts", dependencies=[WRITE, repeatable], status_code=201)
async def add(
    given: Given, plane: PlaneOf, caller: Caller, token: TokenHeader, response: Response
) -> Shown:
    """Two transactions and a look at what they wrote; each may go wrong."""
    acting = plane.acting(caller)
    async with acting.write() as tx:
        row = Count(tenant_id=caller.tenant, name=given.name)
        tx.add(row)
        tx.emit("counters.added", {"name": given.name})
        tx.audit("count.added", "count", given.name)
        await tx.flush()
        if given.fails == "inside":
            raise pp.Refused("It fails inside.")
    if given.fails == "between":
        raise pp.Refused("It fails between.")
    if given.wait_s:
        await asyncio.sleep(given.wait_s)
    try:
        async with acting.write() as again:
            again.add(Count(tenant_id=caller.tenant, name=f"{given.name}, again"))
            if given.fails == "again":
                raise pp.Conflict("It fails again.")
    except pp.Conflict:
        pass
    async with acting.read() as session:
        await session.scalars(sa.select(Count.id).where(Count.id == row.id))
    token.give(tx.token)
    response.headers["ETag"] = etag_of(row)
    shown = Shown.model_validate(row)
    return shown.model_copy(update={"padding": "x" * given.size})


@router.delete("/counts/{key}", dependencies=[WRITE, repeatable], status_code=204)
async def drop(key: UUID, plane: PlaneOf, caller: Caller) -> None:
    """Delete one."""
    async with plane.acting(caller).write() as tx:
        row = await tx.get(Count, key)
        if row is None:
            raise pp.NotFound("There is no such count.")
        await tx.delete(row)


@router.get("/seldom", dependencies=[READ, limited(3, 3_600)])
async def seldom() -> str:
    """Three times an hour for each caller."""
    return "now"


@router.get("/places", dependencies=[READ, limited(2, 3_600, by="address")])
async def places() -> str:
    """Twice an hour for each address."""
    return "now"


@router.get("/together", dependencies=[READ, limited(4, 3_600, burst=2, by="everybody")])
async def together() -> str:
    """Twice at once for all of them."""
    return "now"


@router.get("/often", dependencies=[READ])
async def often() -> dict[str, Any]:
    """As often as the settings let anybody."""
    return {}


application = pp.Application(
    name="counters",
    models=[Count],
    routes=lambda: router,
    permissions={"counters.read": "viewer", "counters.write": "editor"},
)
