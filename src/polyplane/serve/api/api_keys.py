"""API keys over HTTP: make, list, revoke."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from polyplane.access.door import Admitted
from polyplane.errors import Forbidden
from polyplane.web import Limit, PlaneOf, admitted, problem_responses

MANAGE: Final = "keys.manage"
DAY_S: Final = 86_400

router = APIRouter(tags=["auth"], responses=problem_responses(401, 403))

AdmittedOf = Annotated[Admitted, Depends(admitted)]


class KeyGiven(BaseModel):
    """A key to make."""

    client: str = Field(min_length=1, max_length=100, description="What it is for.")
    role: str | None = Field(
        default=None,
        description="Of a program: service_reader, service_writer, service_operator. None: mine.",
    )
    scopes: list[str] | None = Field(
        default=None, max_length=100, description="Only these permissions; null: all of the role."
    )
    expires_s: int = Field(default=90 * DAY_S, ge=60, le=366 * DAY_S)


class KeyMade(BaseModel):
    """A new key, shown once."""

    id: str
    key: str = Field(description="Send it as a bearer token. Only its hash is kept.")
    expires_at: datetime


class KeyShown(BaseModel):
    """A key, without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    client: str
    user_id: UUID | None = Field(description="Whose it is; null: a program's.")
    role: str | None = Field(description="Of a program.")
    scopes: list[str] | None
    made_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = Field(description="To the minute.")


class KeyPage(BaseModel):
    """Some keys, by id."""

    items: list[KeyShown]
    next: str | None = Field(default=None, description="Pass as `after` for the next page.")


@router.post("", status_code=201, summary="Make an API key", responses=problem_responses(409))
async def make(given: KeyGiven, plane: PlaneOf, who: AdmittedOf) -> KeyMade:
    """For X-Tenant: one's own, or with `keys.manage` a program's. A client has two at most."""
    if who.standing is not None and who.session_id is None:
        raise Forbidden("A key makes no keys.", fix="Sign in with the password.")
    if given.role is not None:
        who.caller.require(MANAGE)
    made = await plane.identity.keys.make(
        who.caller,
        given.client,
        role=given.role,
        scopes=given.scopes,
        expires_s=given.expires_s,
    )
    return KeyMade(id=made.id, key=made.text, expires_at=made.expires_at)


@router.get("", summary="API keys")
async def list_(
    plane: PlaneOf,
    who: AdmittedOf,
    every: Annotated[bool, Query(description="All of the tenant: needs `keys.manage`.")] = False,
    after: Annotated[str, Query(max_length=64)] = "",
    limit: Limit = 50,
) -> KeyPage:
    """One's own for X-Tenant, or all of them."""
    user = _whose(who, every)
    found = await plane.identity.keys.list(who.caller, user=user, after=after, limit=limit)
    items = [KeyShown.model_validate(it) for it in found]
    return KeyPage(items=items, next=items[-1].id if len(items) == limit else None)


@router.delete(
    "/{key_id}", status_code=204, summary="Revoke an API key", responses=problem_responses(404)
)
async def revoke(plane: PlaneOf, who: AdmittedOf, key_id: str) -> None:
    """At once, on every plane. One's own; any of the tenant with `keys.manage`."""
    user = _whose(who, who.caller.may(MANAGE))
    await plane.identity.keys.revoke(who.caller, key_id, user=user)


def _whose(who: Admitted, every: bool) -> UUID | None:
    """The user whose keys are meant; None: all of the tenant."""
    if every or who.caller.user is None:
        who.caller.require(MANAGE)
        return None
    return who.caller.user
