"""What the routes of all kinds do alike: rows in, pages out, versions and tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import sqlalchemy as sa
from fastapi import Depends, Request, Response
from pydantic import BaseModel

import polyplane as pp
from polyplane.domains.agents.models import Base
from polyplane.domains.agents.rows import locked, row_of
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

    async def add(self, row: M, shown: type[S]) -> S:
        """Add a row. Conflict when its id is taken."""
        async with self.plane.acting(self.caller).write() as tx:
            tx.add(row)
        return self.written(row, tx, shown)

    async def read(self, model: type[M], key: object, shown: type[S]) -> S:
        """One row. NotFound unless the tenant has it."""
        async with self.plane.acting(self.caller).read() as session:
            row = await row_of(session, model, key, tenant=self.tenant)
        self.response.headers["ETag"] = etag_of(row)
        return shown.model_validate(row)

    async def change(
        self,
        model: type[M],
        key: object,
        changes: Mapping[str, Any],
        shown: type[S],
        *,
        check: Callable[[M, Mapping[str, Any]], None] | None = None,
    ) -> S:
        """Change a row, if it is the version that If-Match names, and `check` lets it."""
        async with self.plane.acting(self.caller).write() as tx:
            row = await locked(tx, model, key)
            check_if_match(self.request, row)
            if check is not None:
                check(row, changes)
            for name, value in changes.items():
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
        """A page of the tenant's rows that meet the conditions, newest first."""
        query = sa.select(model).where(model.tenant_id == self.tenant, *conditions)
        async with self.plane.acting(self.caller).read() as session:
            rows, cursor = await paginate(session, query, model, after, limit, by=by)
        return Page(items=[shown.model_validate(row) for row in rows], next=cursor)

    async def tie(
        self,
        row: Base,
        shown: type[S],
        ends: Mapping[type[Base], object],
        **set_: Any,
    ) -> S:
        """Make a row that ties others, or give the one there is these columns. `ends` are the
        tied rows; NotFound unless the tenant has them all.
        """
        model = type(row)
        async with self.plane.acting(self.caller).write() as tx:
            for end, key in ends.items():
                await row_of(tx.session, end, key, tenant=self.tenant)
            columns = [column.name for column in sa.inspect(model).primary_key]
            found = await tx.get(model, {key: getattr(row, key) for key in columns})
            if found is None:
                tx.add(found := row)
            for name, value in set_.items():
                setattr(found, name, value)
        self.token.give(tx.token)
        return shown.model_validate(found)

    async def untie(self, model: type[M], key: Mapping[str, object]) -> None:
        """Delete a row that ties others. NotFound unless the tenant has it."""
        async with self.plane.acting(self.caller).write() as tx:
            row = await tx.get(model, dict(key), for_update=True)
            if row is None or row.tenant_id != self.tenant:
                raise pp.NotFound("There is no such tie.", field=[*key][-1])
            await tx.delete(row)
        self.token.give(tx.token)

    def written(self, row: Base, tx: pp.Write, shown: type[S]) -> S:
        """The answer that shows what was just written."""
        self.token.give(tx.token)
        self.response.headers["ETag"] = etag_of(row)
        return shown.model_validate(row)


async def _desk(
    plane: PlaneOf, caller: Caller, token: TokenHeader, request: Request, response: Response
) -> Desk:
    return Desk(plane, caller, token, request, response)


AtDesk = Annotated[Desk, Depends(_desk)]
"""`async def route(desk: AtDesk)`."""
