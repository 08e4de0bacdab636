"""The operator's routes for audit: search it, verify it, take it away with proofs."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import StreamingResponse

from polyplane.serve.api.acts import Operator
from polyplane.truth.audit import EVERYTHING, Wanted
from polyplane.web import PlaneOf, problem_responses, within

LONG_TIMEOUT_S = 3600.0

router = APIRouter(tags=["operator"], prefix="/audit")

Tenant = Annotated[str | None, Query(max_length=255, description="Only this tenant's.")]
Actor = Annotated[str | None, Query(max_length=200, description="Only what they did.")]
Action = Annotated[str | None, Query(max_length=200, description="Only this; `row.*`: all such.")]
Kind = Annotated[str | None, Query(max_length=200, description="Only of this kind of thing.")]
Id = Annotated[str | None, Query(max_length=1_000, description="Only of the thing with this id.")]


def _no_number(given: object) -> object:
    """Pydantic takes a bare number for seconds since 1970; nobody who sends one means that."""
    if isinstance(given, str) and re.fullmatch(r"[-+]?[0-9]*\.?[0-9]*", given.strip()):
        raise ValueError("Input should be a date and a time, as 2026-01-01T12:00:00Z")
    return given


Since = Annotated[datetime | None, BeforeValidator(_no_number), Query(description="From then on.")]
Until = Annotated[datetime | None, BeforeValidator(_no_number), Query(description="Before then.")]


class AuditLine(BaseModel):
    """One thing that was done. Personal and secret values are masked."""

    model_config = ConfigDict(from_attributes=True)

    seq: int
    at: datetime
    tenant: str = Field(examples=["default"])
    actor: str = Field(examples=["user:0198b0a0-0000-7000-8000-000000000000"])
    action: str = Field(examples=["row.changed"])
    resource_type: str = Field(examples=["laboratory.experiments"])
    resource_id: str | None
    before: Any = Field(description="The changed columns as they were, by field name.")
    after: Any = Field(description="The changed columns as they are.")
    detail: Any
    request_id: str
    address: str
    outcome: str = Field(examples=["done"])
    content: str = Field(description="SHA-256 of all this, but for `seq`.")


class AuditPage(BaseModel):
    """Some lines of audit, the newest first."""

    items: list[AuditLine]
    next: int | None = Field(description="To be given as `after`; null at the end.")


class Proven(BaseModel):
    """What a verify of audit has looked at and found."""

    is_whole: bool = Field(description="Whether everything is as it was sealed.")
    rows: int
    seals: int
    head: int = Field(description="Number of the last seal.")
    outside: int | None = Field(description="Number of the last seal that is known outside.")
    waiting: int = Field(description="Rows that no seal was made over yet.")
    found: int = Field(description="How much is not right.")
    kinds: dict[str, int] = Field(description="How much of each kind.")
    findings: list[dict[str, Any]] = Field(description="At most 1,000 of them.")


@router.get("", summary="Who did what, the newest first", responses=problem_responses(422))
async def search(
    plane: PlaneOf,
    tenant: Tenant = None,
    actor: Actor = None,
    action: Action = None,
    resource_type: Kind = None,
    resource_id: Id = None,
    since: Since = None,
    until: Until = None,
    after: Annotated[int | None, Query(description="Only those before this `seq`.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> AuditPage:
    """Of every tenant, unless one is named."""
    wanted = Wanted(tenant, actor, action, resource_type, resource_id, since, until)
    found = await plane.audit.search(**wanted.told(), before=after or EVERYTHING, limit=limit)
    items = [AuditLine.model_validate(it) for it in found]
    return AuditPage(items=items, next=found[-1].seq if len(found) == limit else None)


@router.post(
    "/verify",
    summary="Prove that nobody was at audit",
    dependencies=[within(LONG_TIMEOUT_S)],
)
async def verify(plane: PlaneOf) -> Proven:
    """Every row against its seal, every seal against the one before it and those kept outside."""
    return Proven(**(await plane.audit.verify()).as_json())


@router.get(
    "/export",
    summary="Lines of audit with the proofs that they are under seals",
    dependencies=[within(LONG_TIMEOUT_S)],
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}}},
)
async def export(
    plane: PlaneOf,
    by: Operator,
    tenant: Tenant = None,
    actor: Actor = None,
    action: Action = None,
    resource_type: Kind = None,
    resource_id: Id = None,
    since: Since = None,
    until: Until = None,
) -> StreamingResponse:
    """JSON lines: each row with its proof, before it the seal. That it was taken away is noted."""
    wanted = Wanted(tenant, actor, action, resource_type, resource_id, since, until)
    await plane.audit(by, "audit.export", "audit", detail=dict(wanted.told()))
    return StreamingResponse(plane.audit.export(**wanted.told()), media_type="application/jsonl")
