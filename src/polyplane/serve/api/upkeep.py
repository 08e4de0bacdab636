"""The operator's routes for what engines are asked to do now and then."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from polyplane.model.table import table_of
from polyplane.serve.api.acts import Operator
from polyplane.truth.database import Database
from polyplane.truth.upkeep import vacuum
from polyplane.web import PlaneOf, within

router = APIRouter(prefix="/maintain")

LONG_TIMEOUT_S: Final = 3600.0


class TruthMaintained(BaseModel):
    """Tables of PostgreSQL that were looked after."""

    tables: int


class StoresMaintained(BaseModel):
    """Collections that were compacted, by the role of their store."""

    collections: dict[str, int] = Field(examples=[{"graph": 8, "vector": 1}])


@router.post(
    "/truth", dependencies=[within(LONG_TIMEOUT_S)], summary="VACUUM and ANALYZE the plane's tables"
)
async def truth(
    plane: PlaneOf,
    by: Operator,
    statistics_only: Annotated[bool, Query(description="Only ANALYZE.")] = False,
) -> TruthMaintained:
    """Those of the plane and of its applications; nobody is held up."""
    tables = [table_of(model) for model in plane.declared.models]
    schemas = sorted({"polyplane", *(it.schema or "public" for it in tables)})
    detail = {"statistics_only": statistics_only}
    owner = Database(plane.opened.urls["postgres"], max_connections=2)
    try:
        async with plane.audit.act(by, "maintain.truth", "plane", detail=detail):
            done = await vacuum(owner, schemas, statistics_only=statistics_only)
    finally:
        await owner.close()
    return TruthMaintained(tables=done)


@router.post(
    "/stores", dependencies=[within(LONG_TIMEOUT_S)], summary="Compact the collections in stores"
)
async def stores(plane: PlaneOf, by: Operator) -> StoresMaintained:
    """Each by its engine's own means, whether that pays or not."""
    done: dict[str, int] = {}
    async with plane.audit.act(by, "maintain.stores", "plane"):
        for target in plane.opened.targets.values():
            await target.store.maintain(target.collection, full=True)
            done[target.collection.kind] = done.get(target.collection.kind, 0) + 1
    return StoresMaintained(collections=done)
