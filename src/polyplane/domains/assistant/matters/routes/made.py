"""The application's configuration, and what models made."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Body, Path, Query

import polyplane as pp
from polyplane.domains.assistant.matters import outputs
from polyplane.domains.assistant.matters.desk import AtDesk, own
from polyplane.domains.assistant.matters.models_made import Configuration, ModelOutput
from polyplane.domains.assistant.matters.outputs import ModelOutputs
from polyplane.domains.assistant.matters.shapes_kept import (
    VALUES,
    ConfigurationGiven,
    ConfigurationShown,
    OutputFound,
    OutputGiven,
    OutputShown,
)
from polyplane.domains.assistant.permissions import CONFIGURE, READ, WRITE
from polyplane.web import (
    After,
    Limit,
    Page,
    check_if_match,
    etag_of,
    paginate,
    problem_responses,
    repeatable,
)

router = APIRouter()
Key = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_.-]{0,254}$")]


def _of_key(desk: AtDesk, key: str) -> list[sa.ColumnElement[bool]]:
    return [Configuration.tenant_id == desk.tenant, Configuration.key == key]


@router.get("/configuration", dependencies=[READ])
async def list_configuration(
    desk: AtDesk, after: After = None, limit: Limit = 50
) -> Page[ConfigurationShown]:
    """The values of the application's configuration, newest first."""
    return await desk.page(Configuration, ConfigurationShown, after, limit)


@router.get("/configuration/{key}", dependencies=[READ], responses=problem_responses(404))
async def read_configuration(key: Key, desk: AtDesk) -> ConfigurationShown:
    """One value."""
    async with desk.plane.acting(desk.caller).read() as session:
        row = await session.scalar(sa.select(Configuration).where(*_of_key(desk, key)))
    if row is None:
        raise pp.NotFound("There is no such value.", field="key")
    desk.response.headers["ETag"] = etag_of(row)
    return ConfigurationShown.model_validate(row)


@router.put(
    "/configuration/{key}",
    dependencies=[CONFIGURE, repeatable],
    responses=problem_responses(409, 412),
)
async def set_configuration(
    key: Key,
    given: Annotated[ConfigurationGiven, Body(openapi_examples=VALUES)],
    desk: AtDesk,
) -> ConfigurationShown:
    """Set a value; each time is one more version. With If-Match, only if nobody set it meanwhile.

    A value that is not of its kind is refused: by PostgreSQL, too.
    """
    async with desk.plane.acting(desk.caller).write() as tx:
        asked = sa.select(Configuration).where(*_of_key(desk, key)).with_for_update()
        row = (await tx.scalars(asked)).one_or_none()
        if row is None:
            row = Configuration(tenant_id=desk.tenant, key=key, **given.model_dump())
            tx.add(row)
        else:
            check_if_match(desk.request, row)
            row.kind, row.value, row.version = given.kind, given.value, row.version + 1
            row.description = given.description
    return desk.written(row, tx, ConfigurationShown)


@router.delete(
    "/configuration/{key}",
    dependencies=[CONFIGURE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_configuration(key: Key, desk: AtDesk) -> None:
    """Delete a value."""
    async with desk.plane.acting(desk.caller).write() as tx:
        asked = sa.select(Configuration).where(*_of_key(desk, key)).with_for_update()
        row = (await tx.scalars(asked)).one_or_none()
        if row is None:
            raise pp.NotFound("There is no such value.", field="key")
        check_if_match(desk.request, row)
        await tx.delete(row)
    desk.token.give(tx.token)


@router.post(
    "/model-outputs",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses=problem_responses(409),
)
async def keep_output(given: OutputGiven, desk: AtDesk) -> OutputShown:
    """Keep what a model made. Conflict when its external id is known."""
    row = ModelOutput(
        tenant_id=desk.tenant,
        owner_id=desk.owner(given.owner_id),
        cost=Decimal(given.cost),
        **given.model_dump(exclude={"owner_id", "document_ids", "cost"}),
    )
    async with desk.plane.acting(desk.caller).write() as tx:
        await outputs.keep(tx, row, given.document_ids)
    shown = desk.written(row, tx, OutputShown)
    return shown.model_copy(update={"document_ids": list(dict.fromkeys(given.document_ids))})


@router.get("/model-outputs", dependencies=[READ])
async def list_outputs(
    desk: AtDesk, model: str | None = None, after: After = None, limit: Limit = 50
) -> Page[OutputShown]:
    """What models made, newest first; with `model`, what that one did."""
    query = sa.select(ModelOutput).where(ModelOutput.tenant_id == desk.tenant)
    if model is not None:
        query = query.where(ModelOutput.model == model)
    async with desk.plane.acting(desk.caller).read() as session:
        rows, cursor = await paginate(session, query, ModelOutput, after, limit)
        made_from = await outputs.documents_of(session, desk.tenant, [row.id for row in rows])
    return Page(items=[_shown(row, made_from[row.id]) for row in rows], next=cursor)


@router.get("/model-outputs/search", dependencies=[READ], responses=problem_responses(504))
async def search_outputs(
    desk: AtDesk,
    q: Annotated[str, Query(min_length=1, max_length=2_000)],
    model: str | None = None,
    purpose: str | None = None,
    limit: Limit = 10,
) -> list[OutputFound]:
    """What models made, by its meaning, best first; shown as it is in truth."""
    await desk.token.wait(ModelOutputs)
    named = {"model": model, "purpose": purpose}
    tags = {name: value for name, value in named.items() if value is not None}
    acting = desk.plane.acting(desk.caller)
    hits = await acting[ModelOutputs].search(q, tags=tags, limit=limit)
    keys = {UUID(hit.key): hit.score for hit in hits}
    query = sa.select(ModelOutput).where(
        ModelOutput.tenant_id == desk.tenant, ModelOutput.id.in_(keys)
    )
    async with acting.read() as session:
        rows = {row.id: row for row in await session.scalars(query)}
        made_from = await outputs.documents_of(session, desk.tenant, list(rows))
    return [
        OutputFound(score=score, output=_shown(rows[key], made_from[key]))
        for key, score in keys.items()
        if key in rows
    ]


@router.get("/model-outputs/{output_id}", dependencies=[READ], responses=problem_responses(404))
async def read_output(output_id: UUID, desk: AtDesk) -> OutputShown:
    """One output."""
    async with desk.plane.acting(desk.caller).read() as session:
        row = await own(session, desk.tenant, ModelOutput, output_id)
        made_from = await outputs.documents_of(session, desk.tenant, [row.id])
    desk.response.headers["ETag"] = etag_of(row)
    return _shown(row, made_from[row.id])


@router.delete(
    "/model-outputs/{output_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_output(output_id: UUID, desk: AtDesk) -> None:
    """Delete an output; it is found no more."""
    await desk.delete(ModelOutput, output_id)


def _shown(row: ModelOutput, made_from: list[UUID]) -> OutputShown:
    return OutputShown.model_validate(row).model_copy(update={"document_ids": made_from})
