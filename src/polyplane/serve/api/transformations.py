"""The operator's routes for transformations: run, stop, look at them and at their dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from polyplane.runtime.transformations import LETTERS_PAGE_MAX
from polyplane.serve.api.acts import Operator
from polyplane.transform import DryRun, TransformationLetter, TransformationRecord
from polyplane.web import PlaneOf, problem_responses

router = APIRouter(tags=["operator"], prefix="/transformations", responses=problem_responses(404))

DRY_ROWS_MAX = 100_000

Name = Annotated[str, Path(max_length=63, description="Of a transformation.")]
Keys = Annotated[Sequence[str], Query(max_length=1_000, description="Keys of rows; none: all.")]


class LettersDone(BaseModel):
    """Of how many dead letters it is true."""

    transformation: str
    rows: int = Field(description="Letters that are due now, or are forgotten.")


@router.get("", summary="The transformations, and how far they are")
async def transformations(plane: PlaneOf) -> list[TransformationRecord]:
    """All that are declared; `state` is empty for one that was never begun."""
    return await plane.transformations.records()


@router.get("/{name}", summary="How far one transformation is")
async def show(plane: PlaneOf, name: Name) -> TransformationRecord:
    """Of whichever process is at work on it: truth is asked."""
    return await plane.transformations.show(name)


@router.post("/{name}/run", summary="Have a transformation run", responses=problem_responses(409))
async def run(
    plane: PlaneOf,
    by: Operator,
    name: Name,
    anew: Annotated[bool, Query(description="From the first row.")] = False,
) -> TransformationRecord:
    """Answers at once; it goes on from where it was. 409 when other code has begun it."""
    async with plane.audit.act(by, "transformation.run", "transformation", name, {"anew": anew}):
        await plane.transformations.start(name, actor=by.actor, anew=anew)
    return await plane.transformations.show(name)


@router.post("/{name}/dry-run", summary="What would come of a transformation")
async def dry_run(
    plane: PlaneOf,
    name: Name,
    rows: Annotated[int, Query(ge=1, le=DRY_ROWS_MAX, description="So many rows.")] = 10_000,
) -> DryRun:
    """The first rows are written, and rolled back, page by page."""
    return await plane.transformations.dry_run(name, rows=rows)


@router.post(
    "/{name}/stop", summary="Stop a transformation where it is", responses=problem_responses(409)
)
async def stop(plane: PlaneOf, by: Operator, name: Name) -> TransformationRecord:
    """`run` goes on with it. 409 when it does not run."""
    async with plane.audit.act(by, "transformation.stop", "transformation", name):
        return await plane.transformations.stop(name)


@router.get("/{name}/dead", summary="The dead letters of a transformation")
async def dead(
    plane: PlaneOf,
    name: Name,
    key: Keys = (),
    after: Annotated[str, Query(max_length=1_000, description="Only keys behind it.")] = "",
    limit: Annotated[int, Query(ge=1, le=LETTERS_PAGE_MAX)] = 100,
) -> list[TransformationLetter]:
    """Rows that nothing could be made of, by their keys: why, and how often they were tried."""
    return await plane.transformations.dead(name, keys=key or None, after=after, limit=limit)


@router.post(
    "/{name}/dead/retry", summary="Try dead letters again", responses=problem_responses(409)
)
async def retry(plane: PlaneOf, by: Operator, name: Name, key: Keys = ()) -> LettersDone:
    """What works leaves the list. 409 when they are of another version of the transformation."""
    told = _told(key)
    async with plane.audit.act(by, "transformation.retry", "transformation", name, told):
        rows = await plane.transformations.retry_dead(name, key or None)
    return LettersDone(transformation=name, rows=rows)


@router.post("/{name}/dead/drop", summary="Forget dead letters")
async def drop(plane: PlaneOf, by: Operator, name: Name, key: Keys = ()) -> LettersDone:
    """The target stays as it is."""
    told = _told(key)
    async with plane.audit.act(by, "transformation.drop", "transformation", name, told):
        rows = await plane.transformations.drop_dead(name, key or None)
    return LettersDone(transformation=name, rows=rows)


def _told(keys: Sequence[str]) -> dict[str, Any]:
    """What audit says of the keys of an act; none: all."""
    return {"keys": len(keys), "first": keys[0]} if keys else {}
