"""Organizations and members over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from polyplane.access.door import check_operates
from polyplane.serve.api.auth import Email
from polyplane.web import Caller, Limit, PlaneOf, problem_responses, repeatable

router = APIRouter(tags=["organizations"], responses=problem_responses(401, 403))

TENANT = r"^[A-Za-z0-9_-]{1,64}$"


Within = Annotated[str, Path(alias="acting_for", pattern=TENANT)]
"""The organization that the caller acts for, whatever X-Tenant says."""


class OrganizationGiven(BaseModel):
    """An organization to make."""

    id: str = Field(pattern=TENANT, examples=["acme"])
    name: str = Field(min_length=1, max_length=200)


class OrganizationShown(BaseModel):
    """A tenant."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    created_at: datetime


class OrganizationPage(BaseModel):
    """Some organizations, by id."""

    items: list[OrganizationShown]
    next: str | None = Field(default=None, description="Pass as `after` for the next page.")


class MemberGiven(BaseModel):
    """Whom to make a member, and as what."""

    email: Email
    role: str = Field(examples=["editor"])


class RoleGiven(BaseModel):
    """What a member is to be."""

    role: str = Field(examples=["viewer"])


class MemberShown(BaseModel):
    """Somebody in an organization."""

    model_config = ConfigDict(from_attributes=True)

    user_id: UUID
    email: str
    name: str
    status: str
    role: str
    created_at: datetime


class MemberPage(BaseModel):
    """Some members, by id."""

    items: list[MemberShown]
    next: UUID | None = Field(default=None, description="Pass as `after` for the next page.")


@router.post(
    "",
    dependencies=[repeatable],
    status_code=201,
    summary="Make an organization",
    responses=problem_responses(409),
)
async def add(given: OrganizationGiven, plane: PlaneOf, caller: Caller) -> OrganizationShown:
    """For administrators of the plane; whoever makes it owns it."""
    check_operates(caller)
    made = await plane.identity.members.add_organization(caller, given.id, given.name)
    return OrganizationShown.model_validate(made)


@router.get("", summary="All organizations")
async def list_(
    plane: PlaneOf,
    caller: Caller,
    after: Annotated[str, Query(max_length=64)] = "",
    limit: Limit = 50,
) -> OrganizationPage:
    """For administrators of the plane. One's own are under `/api/v1/auth/me`."""
    check_operates(caller)
    found = await plane.identity.members.organizations(after=after, limit=limit)
    items = [OrganizationShown.model_validate(it) for it in found]
    return OrganizationPage(items=items, next=items[-1].id if len(items) == limit else None)


@router.get("/{acting_for}/members", summary="Who is in it")
async def members(
    plane: PlaneOf,
    caller: Caller,
    _: Within,
    after: Annotated[UUID | None, Query()] = None,
    limit: Limit = 50,
) -> MemberPage:
    """Needs `members.read`."""
    caller.require("members.read")
    found = await plane.identity.members.list(caller.tenant, after=after, limit=limit)
    items = [MemberShown.model_validate(it) for it in found]
    return MemberPage(items=items, next=items[-1].user_id if len(items) == limit else None)


@router.post(
    "/{acting_for}/members",
    status_code=204,
    summary="Make a user a member",
    responses=problem_responses(404, 409),
)
async def invite(given: MemberGiven, plane: PlaneOf, caller: Caller, _: Within) -> None:
    """By the e-mail address of who has an account. Needs `members.manage`."""
    caller.require("members.manage")
    user = await plane.identity.people.find(given.email)
    await plane.identity.members.set(caller, user, given.role)


@router.put(
    "/{acting_for}/members/{user_id}",
    status_code=204,
    summary="Give a member another role",
    responses=problem_responses(404, 409),
)
async def change(
    given: RoleGiven, plane: PlaneOf, caller: Caller, _: Within, user_id: UUID
) -> None:
    """Holds at once, on every plane. Needs `members.manage`, and all that the role may."""
    caller.require("members.manage")
    await plane.identity.members.set(caller, user_id, given.role)


@router.delete(
    "/{acting_for}/members/{user_id}",
    status_code=204,
    summary="Take a member out",
    responses=problem_responses(404, 409),
)
async def remove(plane: PlaneOf, caller: Caller, _: Within, user_id: UUID) -> None:
    """At once, with their keys for it. Needs `members.manage`; anybody may leave."""
    if user_id != caller.user:
        caller.require("members.manage")
    await plane.identity.members.remove(caller, user_id)
