"""Users: who creates experiments."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Response

from polyplane.domains.laboratory.models import User
from polyplane.domains.laboratory.permissions import READ, WRITE
from polyplane.domains.laboratory.rows import row_of
from polyplane.domains.laboratory.shapes import UserGiven, UserShown
from polyplane.web import (
    After,
    Caller,
    Limit,
    Page,
    PlaneOf,
    TokenHeader,
    etag_of,
    paginate,
    problem_responses,
    repeatable,
)

router = APIRouter()


@router.post(
    "/users", dependencies=[WRITE, repeatable], status_code=201, responses=problem_responses(409)
)
async def create_user(
    given: UserGiven, plane: PlaneOf, caller: Caller, token: TokenHeader, response: Response
) -> UserShown:
    """Add a user. Conflict when the id or the e-mail address is taken."""
    async with plane.acting(caller).write() as tx:
        row = User(tenant_id=caller.tenant, **given.model_dump(exclude_none=True))
        tx.add(row)
    token.give(tx.token)
    response.headers["ETag"] = etag_of(row)
    return UserShown.model_validate(row)


@router.get("/users/{user_id}", dependencies=[READ], responses=problem_responses(404))
async def read_user(user_id: UUID, plane: PlaneOf, caller: Caller, response: Response) -> UserShown:
    """One user."""
    async with plane.acting(caller).read() as session:
        row = await row_of(session, User, user_id, tenant=caller.tenant)
    response.headers["ETag"] = etag_of(row)
    return UserShown.model_validate(row)


@router.get("/users", dependencies=[READ])
async def list_users(
    plane: PlaneOf, caller: Caller, after: After = None, limit: Limit = 50
) -> Page[UserShown]:
    """Users, newest first."""
    query = sa.select(User).where(User.tenant_id == caller.tenant)
    async with plane.acting(caller).read() as session:
        rows, cursor = await paginate(session, query, User, after, limit)
    return Page(items=[UserShown.model_validate(row) for row in rows], next=cursor)
