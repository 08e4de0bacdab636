"""The operator's routes for the keys of secrets: list, rotate, destroy."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from polyplane.runtime.keys import Destroyed, KeyList, Rotated
from polyplane.serve.api.acts import Operator
from polyplane.web import PlaneOf, problem_responses

router = APIRouter(tags=["operator"], prefix="/keys")


@router.get("", summary="Encryption keys and how many data keys each wraps")
async def keys(plane: PlaneOf) -> KeyList:
    """Their ids only; nothing of it is a key."""
    return await plane.keys.list()


@router.post("/rotate", summary="Wrap every data key with a new primary key")
async def rotate(plane: PlaneOf, by: Operator) -> Rotated:
    """While everything runs; goes on with one that was interrupted. Rows stay as they are."""
    async with plane.audit.act(by, "keys.rotate", "keys"):
        return await plane.keys.rotate()


@router.post(
    "/destroy",
    summary="Destroy the data keys of a person or of a tenant",
    responses=problem_responses(404),
)
async def destroy(
    plane: PlaneOf,
    by: Operator,
    person: Annotated[str | None, Query(description="Whose, as owner columns have them.")] = None,
    tenant: Annotated[str | None, Query(description="Only in it; alone: all of it.")] = None,
    dry: Annotated[bool, Query(description="Only count what would be lost.")] = False,
) -> Destroyed:
    """What they have encrypted can never be read again; what follows from it goes too."""
    if dry:
        return await plane.keys.destroy(person=person, tenant=tenant, dry=True)
    asked = {"person": person, "tenant": tenant}  # ids, which mean nobody once they are erased
    async with plane.audit.act(by, "keys.destroy", "keys", detail=asked):
        return await plane.keys.destroy(person=person, tenant=tenant, dry=False)
