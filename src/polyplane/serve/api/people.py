"""The operator's routes for users: add, list, disable, roles."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from polyplane.serve.api.auth import Email, Password
from polyplane.web import Caller, Limit, PlaneOf, problem_responses

router = APIRouter(tags=["operator"], prefix="/users")


class UserGiven(BaseModel):
    """A user to add."""

    email: Email
    password: Password
    name: str = Field(default="", max_length=200)
    is_administrator: bool = Field(default=False, description="Of the whole plane.")


class UserChange(BaseModel):
    """What is to be changed of a user; what is not named stays."""

    status: Literal["active", "disabled"] | None = None
    is_administrator: bool | None = None
    password: Password | None = None


class UserShown(BaseModel):
    """Somebody who may sign in."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    name: str
    status: str
    is_administrator: bool
    created_at: datetime
    updated_at: datetime


class IdentityShown(BaseModel):
    """What a provider calls a user."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    issuer: str
    subject: str
    created_at: datetime
    used_at: datetime


class UserPage(BaseModel):
    """Some users, by id."""

    items: list[UserShown]
    next: UUID | None = Field(default=None, description="Pass as `after` for the next page.")


@router.post("", status_code=201, summary="Add a user", responses=problem_responses(409))
async def add(given: UserGiven, plane: PlaneOf, caller: Caller) -> UserShown:
    """A member of nothing yet."""
    made = await plane.identity.people.add(
        caller,
        given.email,
        given.password,
        name=given.name,
        is_administrator=given.is_administrator,
    )
    return UserShown.model_validate(made)


@router.get("", summary="All users", responses=problem_responses(404))
async def list_(
    plane: PlaneOf,
    email: Annotated[str | None, Query(description="Only who has this address.")] = None,
    after: Annotated[UUID | None, Query()] = None,
    limit: Limit = 50,
) -> UserPage:
    """By id."""
    people = plane.identity.people
    if email is not None:
        found = [await people.user(await people.find(email))]
    else:
        found = await people.list(after=after, limit=limit)
    items = [UserShown.model_validate(it) for it in found]
    return UserPage(items=items, next=items[-1].id if len(items) == limit else None)


@router.patch("/{user_id}", summary="Change a user", responses=problem_responses(404, 409))
async def change(given: UserChange, plane: PlaneOf, caller: Caller, user_id: UUID) -> UserShown:
    """Disable or enable them, give or take the powers of an administrator, set the password."""
    people = plane.identity.people
    if given.status is not None:
        await people.set_status(caller, user_id, given.status)
    if given.is_administrator is not None:
        await people.set_administrator(caller, user_id, given.is_administrator)
    if given.password is not None:
        await people.set_password(caller, user_id, given.password)
    return UserShown.model_validate(await people.user(user_id))


@router.delete(
    "/{user_id}", status_code=204, summary="Delete a user", responses=problem_responses(404, 409)
)
async def delete(plane: PlaneOf, caller: Caller, user_id: UUID) -> None:
    """With their sessions, keys and memberships. What they have written stays."""
    await plane.identity.people.delete(caller, user_id)


@router.get(
    "/{user_id}/identities",
    summary="What providers call a user",
    responses=problem_responses(404),
)
async def identities(plane: PlaneOf, user_id: UUID) -> list[IdentityShown]:
    """By which they may sign in; 100 at most."""
    user = await plane.identity.people.user(user_id)
    found = await plane.identity.external.identities(user.id)
    return [IdentityShown.model_validate(it) for it in found]


@router.delete(
    "/{user_id}/identities/{identity_id}",
    status_code=204,
    summary="Let a user sign in by it no more",
    responses=problem_responses(404, 409),
)
async def unlink(plane: PlaneOf, caller: Caller, user_id: UUID, identity_id: UUID) -> None:
    """Ends all their sessions. Not the only way into an account."""
    await plane.identity.external.unlink(caller, user_id, identity_id)
