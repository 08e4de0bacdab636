"""The operator's routes of the request cache: what it holds, and how to empty it."""

from __future__ import annotations

from collections import Counter

from fastapi import APIRouter
from pydantic import BaseModel, Field

from polyplane.errors import NotFound
from polyplane.plane import Plane
from polyplane.serve.api.acts import Operator
from polyplane.stores.request_protocol import RequestStore
from polyplane.web import PlaneOf, problem_responses

router = APIRouter(responses=problem_responses(404))


class CacheHeld(BaseModel):
    """What the request cache of this plane's namespace holds, whoever's."""

    entries: int
    bytes: int
    counting: int = Field(description="Those that readers are given.")
    changed: int = Field(description="Those of which something has changed.")
    unattended: int = Field(description="Those that nobody vouches for.")
    damaged: int = Field(description="Those that are not as they were put.")


class CacheCleared(BaseModel):
    """How many entries were deleted."""

    entries: int


@router.get("/cache", summary="What the request cache holds")
async def held(plane: PlaneOf) -> CacheHeld:
    """Counted by name, in the plane's own namespace; the server may hold more, for others."""
    return await held_in(plane)


@router.post("/cache/clear", summary="Empty the request cache")
async def clear(plane: PlaneOf, by: Operator) -> CacheCleared:
    """Deletes the entries of the plane's namespace, and nothing else; they are loaded again."""
    async with plane.audit.act(by, "cache.clear", "plane"):
        return CacheCleared(entries=await store_of(plane).clear())


def store_of(plane: Plane) -> RequestStore:
    """Where entries are kept; NotFound when the plane has no cache."""
    if plane.opened.requests is None:
        raise NotFound("This plane has no cache.", fix="Set REDIS_URL or a home.")
    return plane.opened.requests.store


async def held_in(plane: Plane) -> CacheHeld:
    """What the request cache holds."""
    counts: Counter[str] = Counter()
    size = 0
    async for some in store_of(plane).entries():
        counts.update(entry.standing or "damaged" for entry in some)
        size += sum(entry.size for entry in some)
    return CacheHeld(
        entries=counts.total(),
        bytes=size,
        counting=counts["good"],
        changed=counts["changed"],
        unattended=counts["unattended"],
        damaged=counts["damaged"],
    )
