"""Materials, and which experiment uses how much of them."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response

import polyplane as pp
from polyplane.domains.laboratory.models import Experiment, ExperimentMaterial, Material
from polyplane.domains.laboratory.permissions import READ, WRITE
from polyplane.domains.laboratory.rows import locked, row_of
from polyplane.domains.laboratory.shapes import (
    MaterialChange,
    MaterialGiven,
    MaterialShown,
    UseGiven,
    UseShown,
)
from polyplane.web import (
    After,
    Caller,
    Limit,
    Page,
    PlaneOf,
    TokenHeader,
    check_if_match,
    etag_of,
    paginate,
    problem_responses,
    repeatable,
)

router = APIRouter()


@router.post(
    "/materials",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses=problem_responses(409),
)
async def create_material(
    given: MaterialGiven, plane: PlaneOf, caller: Caller, token: TokenHeader, response: Response
) -> MaterialShown:
    """Add a material. Conflict when the id is taken."""
    async with plane.acting(caller).write() as tx:
        row = Material(tenant_id=caller.tenant, **given.model_dump(exclude_none=True))
        tx.add(row)
    return _written(row, tx, token, response)


@router.get("/materials", dependencies=[READ])
async def list_materials(
    plane: PlaneOf, caller: Caller, after: After = None, limit: Limit = 50
) -> Page[MaterialShown]:
    """Materials, newest first."""
    query = sa.select(Material).where(Material.tenant_id == caller.tenant)
    async with plane.acting(caller).read() as session:
        rows, cursor = await paginate(session, query, Material, after, limit)
    return Page(items=[MaterialShown.model_validate(row) for row in rows], next=cursor)


@router.get("/materials/{material_id}", dependencies=[READ], responses=problem_responses(404))
async def read_material(
    material_id: UUID, plane: PlaneOf, caller: Caller, response: Response
) -> MaterialShown:
    """One material."""
    async with plane.acting(caller).read() as session:
        row = await row_of(session, Material, material_id, tenant=caller.tenant)
    response.headers["ETag"] = etag_of(row)
    return MaterialShown.model_validate(row)


@router.patch(
    "/materials/{material_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def change_material(
    material_id: UUID,
    change: MaterialChange,
    plane: PlaneOf,
    caller: Caller,
    token: TokenHeader,
    request: Request,
    response: Response,
) -> MaterialShown:
    """Change what is named. With If-Match, only if nobody changed it meanwhile."""
    async with plane.acting(caller).write() as tx:
        row = await locked(tx, Material, material_id)
        check_if_match(request, row)
        for name, value in change.changes().items():
            setattr(row, name, value)
    return _written(row, tx, token, response)


@router.delete(
    "/materials/{material_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_material(
    material_id: UUID, plane: PlaneOf, caller: Caller, token: TokenHeader, request: Request
) -> None:
    """Delete a material that no experiment uses."""
    async with plane.acting(caller).write() as tx:
        row = await locked(tx, Material, material_id)
        check_if_match(request, row)
        await tx.delete(row)
    token.give(tx.token)


@router.get(
    "/experiments/{experiment_id}/materials", dependencies=[READ], responses=problem_responses(404)
)
async def list_uses(
    experiment_id: UUID, plane: PlaneOf, caller: Caller, after: After = None, limit: Limit = 50
) -> Page[UseShown]:
    """The materials of an experiment, newest first."""
    use = ExperimentMaterial
    query = sa.select(use).where(use.experiment_id == experiment_id)
    async with plane.acting(caller).read() as session:
        await row_of(session, Experiment, experiment_id, tenant=caller.tenant)
        rows, cursor = await paginate(
            session, query, use, after, limit, by=("created_at", "material_id")
        )
    return Page(items=[UseShown.model_validate(row) for row in rows], next=cursor)


@router.put(
    "/experiments/{experiment_id}/materials/{material_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409),
)
async def put_use(
    experiment_id: UUID,
    material_id: UUID,
    given: UseGiven,
    plane: PlaneOf,
    caller: Caller,
    token: TokenHeader,
) -> UseShown:
    """Say how much of a material an experiment uses, and as what; replaces what was said."""
    async with plane.acting(caller).write() as tx:
        await locked(tx, Experiment, experiment_id)
        await row_of(tx.session, Material, material_id, tenant=caller.tenant)
        key = {"experiment_id": experiment_id, "material_id": material_id}
        row = await tx.get(ExperimentMaterial, key)
        if row is None:
            row = ExperimentMaterial(tenant_id=caller.tenant, **key)
            tx.add(row)
        for name, value in given.model_dump().items():
            setattr(row, name, value)
    token.give(tx.token)
    return UseShown.model_validate(row)


@router.delete(
    "/experiments/{experiment_id}/materials/{material_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409),
)
async def delete_use(
    experiment_id: UUID, material_id: UUID, plane: PlaneOf, caller: Caller, token: TokenHeader
) -> None:
    """Take a material out of an experiment."""
    async with plane.acting(caller).write() as tx:
        await locked(tx, Experiment, experiment_id)
        row = await tx.get(
            ExperimentMaterial, {"experiment_id": experiment_id, "material_id": material_id}
        )
        if row is None:
            raise pp.NotFound("The experiment does not use this material.", field="material_id")
        await tx.delete(row)
    token.give(tx.token)


def _written(row: Material, tx: pp.Write, token: TokenHeader, response: Response) -> MaterialShown:
    token.give(tx.token)
    response.headers["ETag"] = etag_of(row)
    return MaterialShown.model_validate(row)
