"""What the routes of all these things do alike: rows in, pages out, versions and tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from fastapi import Depends, Request, Response
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

import polyplane as pp
from polyplane.domains.assistant.models import Base
from polyplane.web import (
    Caller,
    Page,
    PlaneOf,
    TokenExchange,
    TokenHeader,
    check_if_match,
    etag_of,
    paginate,
)

M = TypeVar("M", bound=Base)
S = TypeVar("S", bound=BaseModel)
Check = Callable[[M, Mapping[str, Any]], Mapping[str, Any]]
"""What to change of a row, given what was asked to. Raises Refused or Conflict."""


async def own(session: AsyncSession, tenant: str, model: type[M], key: object) -> M:
    """The tenant's row, if whoever reads sees it; NotFound names the path parameter."""
    return _seen(await session.get(model, key), tenant, model, key)


async def locked(tx: pp.Write, model: type[M], key: object) -> M:
    """The same, locked until the transaction ends."""
    return _seen(await tx.get(model, key, for_update=True), tx.tenant, model, key)


def _seen(row: M | None, tenant: str, model: type[M], key: object) -> M:
    if row is None or row.tenant_id != tenant:
        noun = model.__name__.lower()
        raise pp.NotFound(f"There is no {noun} {key}.", field=f"{noun}_id")
    return row


@dataclass(frozen=True, slots=True)
class Desk:
    """One request: the plane, who calls, and what goes with their answer."""

    plane: pp.Plane
    caller: pp.Caller
    token: TokenExchange
    request: Request
    response: Response

    @property
    def tenant(self) -> str:
        """Whose rows are meant."""
        return self.caller.tenant

    def owner(self, given: UUID | None) -> UUID | None:
        """Whose a new row is: the one named, else who calls. Truth refuses another's name of who
        does not see all.
        """
        return given or self.caller.user

    async def add(self, row: M, shown: type[S]) -> S:
        """Add a row."""
        async with self.plane.acting(self.caller).write() as tx:
            tx.add(row)
        return self.written(row, tx, shown)

    async def read(self, model: type[M], key: object, shown: type[S]) -> S:
        """One row. NotFound unless the caller sees it."""
        async with self.plane.acting(self.caller).read() as session:
            row = await own(session, self.tenant, model, key)
        self.response.headers["ETag"] = etag_of(row)
        return shown.model_validate(row)

    async def change(
        self,
        model: type[M],
        key: object,
        changes: Mapping[str, Any],
        shown: type[S],
        *,
        check: Check[M] | None = None,
    ) -> S:
        """Change a row, if it is the version that If-Match names, and `check` lets it."""
        async with self.plane.acting(self.caller).write() as tx:
            row = await locked(tx, model, key)
            check_if_match(self.request, row)
            for name, value in (changes if check is None else check(row, changes)).items():
                setattr(row, name, value)
        return self.written(row, tx, shown)

    async def delete(self, model: type[M], key: object) -> None:
        """Delete a row, if it is the version that If-Match names."""
        async with self.plane.acting(self.caller).write() as tx:
            row = await locked(tx, model, key)
            check_if_match(self.request, row)
            await tx.delete(row)
        self.token.give(tx.token)

    async def page(
        self,
        model: type[M],
        shown: type[S],
        after: str | None,
        limit: int,
        *conditions: sa.ColumnElement[bool],
        by: Sequence[str] = ("created_at", "id"),
    ) -> Page[S]:
        """A page of the rows that the caller sees and that meet the conditions, newest first."""
        query = sa.select(model).where(model.tenant_id == self.tenant, *conditions)
        async with self.plane.acting(self.caller).read() as session:
            rows, cursor = await paginate(session, query, model, after, limit, by=by)
        return Page(items=[shown.model_validate(row) for row in rows], next=cursor)

    def written(self, row: Base, tx: pp.Write, shown: type[S]) -> S:
        """The answer that shows what was just written."""
        self.versioned(row, tx)
        return shown.model_validate(row)

    def versioned(self, row: Base, tx: pp.Write) -> None:
        """Send what a write comes with: its token, and the row's ETag."""
        self.token.give(tx.token)
        self.response.headers["ETag"] = etag_of(row)


async def _desk(
    plane: PlaneOf, caller: Caller, token: TokenHeader, request: Request, response: Response
) -> Desk:
    return Desk(plane, caller, token, request, response)


AtDesk = Annotated[Desk, Depends(_desk)]
"""`async def route(desk: AtDesk)`."""
