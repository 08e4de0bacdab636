"""The operator's routes: status, verify, repair and projections, behind the home's token."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from polyplane.errors import NotFound, Refused, Unavailable
from polyplane.flow import backfill as flow
from polyplane.model.blob import Blob
from polyplane.model.drift import Drift, Far, Mended
from polyplane.model.projection import Projection
from polyplane.model.stream import Stream
from polyplane.ops.health import EngineHealth, Status, Work
from polyplane.ops.lag import ProjectionLag
from polyplane.plane import Plane
from polyplane.runtime.generations import Rebuilt
from polyplane.runtime.proving import BLOBS, BOOKMARK_NAME, REQUESTS
from polyplane.runtime.requests import RequestCache
from polyplane.security.roles import OPERATE
from polyplane.serve.api import audit, cache, keys, people, sagas, senders, transformations
from polyplane.serve.api.acts import Operator
from polyplane.serve.api.embedding import EmbedderStatus, embedder_of
from polyplane.truth.dead import DeadLetter
from polyplane.web import PlaneOf, permission, problem_responses, within

LONG_TIMEOUT_S: Final = 3600.0
_LOOK_EVERY_S: Final = 0.5

T = TypeVar("T")

Name = Annotated[str, Path(max_length=200, description="Of a projection.")]
Projections = Annotated[Sequence[str], Query(description="Only these; none: all.")]
Deep = Annotated[bool, Query(description="Compare contents too, and not only digests.")]

router = APIRouter(
    tags=["operator"], dependencies=[permission(OPERATE)], responses=problem_responses(401, 403)
)


router.include_router(sagas.router)
router.include_router(keys.router)
router.include_router(audit.router)
router.include_router(people.router)
router.include_router(senders.router)
router.include_router(cache.router)
router.include_router(transformations.router)


class RelayStatus(BaseModel):
    """The way from the outbox to the feed."""

    leading: bool = Field(description="Whether this process publishes.")
    waiting_rows: int = Field(description="Outbox rows not published yet, at most 10,000 counted.")
    waiting_s: float = Field(description="Age of the oldest of them.")
    published_keys: int = Field(description="By this process, since its start.")


class FlowStatus(BaseModel):
    """A stream's ingest, or an inbound stream's receiver, in this process."""

    name: str
    done: int = Field(description="Points stored, or messages handled, since the start.")
    error: str = Field(
        default="", description="What it met last; empty: nothing since it last worked."
    )


class PlaneStatus(BaseModel):
    """The whole plane at one moment."""

    status: Status
    home: str
    namespace: str
    epoch: int
    engines: list[EngineHealth]
    work: list[Work] = Field(description="What is filled, built or waits; the last epoch begun.")
    relay: RelayStatus
    projections: list[ProjectionLag]
    streams: list[FlowStatus]
    inbound: list[FlowStatus]
    embedder: EmbedderStatus | None = Field(description="None where no text is embedded.")


class Backfilled(BaseModel):
    """What a backfill did."""

    projection: str
    items: int = Field(description="Items put or dropped.")


@router.get("/status", summary="What runs, and how far it is")
async def status(plane: PlaneOf) -> PlaneStatus:
    """Engines, relay, projections, streams and inbound streams of this process."""
    health, opened = await plane.health(), plane.opened
    waiting_rows, waiting_s = await opened.journal.pending()
    return PlaneStatus(
        status=health.status,
        home=str(plane.settings.home),
        namespace=plane.namespace,
        epoch=opened.epoch,
        engines=list(health.engines),
        work=list(health.work),
        relay=RelayStatus(
            leading=opened.relay is not None and opened.relay.leading,
            waiting_rows=waiting_rows,
            waiting_s=waiting_s,
            published_keys=opened.relay.published_keys if opened.relay else 0,
        ),
        projections=await plane.lag(),
        streams=[
            FlowStatus(name=name, done=it.stored_points, error=it.last_error)
            for name, it in opened.ingests.items()
        ],
        inbound=[
            FlowStatus(name=name, done=it.handled_messages, error=it.last_error)
            for name, it in opened.followers.items()
        ],
        embedder=await embedder_of(plane),
    )


@router.get("/urls", summary="Where the engines are, secrets included")
async def urls(plane: PlaneOf, by: Operator) -> dict[str, str]:
    """For programs of the operator that work on an engine directly."""
    await plane.audit(by, "plane.urls", "plane")
    return dict(plane.opened.urls)


@router.get("/projections", summary="Every projection, and how far it is behind")
async def projections(plane: PlaneOf) -> list[ProjectionLag]:
    """From the journal: also what other processes apply."""
    return await plane.lag()


@router.get("/verify", summary="How far each verify is that is at work")
async def proofs(plane: PlaneOf) -> list[Far]:
    """The latest last. Those of repairs, too."""
    return list(plane.opened.proofs.values())


@router.post(
    "/verify",
    summary="Compare every store with truth",
    dependencies=[within(LONG_TIMEOUT_S)],
    responses=problem_responses(404, 409),
)
async def verify(
    plane: PlaneOf,
    request: Request,
    projection: Annotated[
        Sequence[str], Query(description="Only these, or streams, `blobs`, `requests`; none: all.")
    ] = (),
    deep: Deep = False,
    sample: Annotated[int | None, Query(ge=1, description="Only so many rows of each.")] = None,
    seed: Annotated[int, Query(description="What chooses them.")] = 0,
    resume: Annotated[bool, Query(description="Go on with the one that was interrupted.")] = False,
) -> Drift:
    """Counts and digests of each projection, and the key of every missing, stale or extra item.

    Ends when its caller goes away; `resume` goes on then.
    """
    wanted = [it for name in projection for it in provable(plane, name)]
    asked: dict[str, Any] = {"deep": deep, "sample": sample, "seed": seed, "resume": resume}
    bookmark = plane.settings.home / BOOKMARK_NAME
    return await while_asked(request, plane.verify(*wanted, bookmark=bookmark, **asked))


@router.post(
    "/repair",
    summary="Mend what differs from truth",
    dependencies=[within(LONG_TIMEOUT_S)],
    responses=problem_responses(404),
)
async def repair(
    plane: PlaneOf,
    by: Operator,
    projection: Projections = (),
    deep: Deep = False,
    dry: Annotated[bool, Query(description="Only look: what is found is left.")] = False,
) -> Mended:
    """Verifies, has exactly the keys that drift derived anew, and looks at them again.

    Everything found is named under `found`; `left` is what those keys, and only they, are
    afterwards.
    """
    wanted = mendable(plane, projection)
    if dry:
        return await plane.repair(*wanted, deep=deep, dry=True)
    asked = {"projections": list(projection), "deep": deep}
    async with plane.audit.act(by, "plane.repair", "plane", detail=asked):
        return await plane.repair(*wanted, deep=deep)


@router.post(
    "/projections/{name}/backfill",
    summary="Derive all of one projection anew",
    dependencies=[within(LONG_TIMEOUT_S)],
    responses=problem_responses(404),
)
async def backfill(plane: PlaneOf, by: Operator, name: Name) -> Backfilled:
    """Beside the running flow; what is newer in the store stays."""
    async with plane.audit.act(by, "projection.backfill", "projection", name):
        return Backfilled(projection=name, items=await refill(plane, name))


@router.post(
    "/projections/{name}/rebuild",
    summary="Build a projection anew beside the one that is read",
    dependencies=[within(LONG_TIMEOUT_S)],
    responses=problem_responses(404, 409),
)
async def rebuild(plane: PlaneOf, by: Operator, name: Name) -> Rebuilt:
    """Answers when readers read the new collection, which was equal to truth; or when it was not.

    A rebuild that is under way is joined, and goes on when the request ends before it.
    """
    async with plane.audit.act(by, "projection.rebuild", "projection", name):
        return await plane.rebuild(named(plane, name))


@router.post(
    "/projections/{name}/rollback",
    summary="Go back to the collection that was read before",
    dependencies=[within(LONG_TIMEOUT_S)],
    responses=problem_responses(404, 409),
)
async def rollback(plane: PlaneOf, by: Operator, name: Name) -> Rebuilt:
    """Proves it first; answers when readers read it."""
    async with plane.audit.act(by, "projection.rollback", "projection", name):
        return await plane.rollback(named(plane, name))


class Pruned(BaseModel):
    """The collections that were dropped."""

    dropped: list[str]


@router.post(
    "/projections/prune",
    summary="Drop the collections that were read before",
    responses=problem_responses(404),
)
async def prune(plane: PlaneOf, by: Operator, projection: Projections = ()) -> Pruned:
    """What was read within the last seconds stays, for readers in other processes."""
    wanted = [named(plane, name) for name in projection]
    asked = {"projections": list(projection)}
    async with plane.audit.act(by, "projections.prune", "plane", detail=asked):
        return Pruned(dropped=await plane.prune(*wanted))


Keys = Annotated[Sequence[str], Query(description="Only these keys; none: all.")]


class Counted(BaseModel):
    """How many dead letters something was done to."""

    projection: str
    rows: int


@router.get(
    "/projections/{name}/dead",
    summary="The rows that nothing can be made of",
    responses=problem_responses(404),
)
async def dead(
    plane: PlaneOf,
    name: Name,
    key: Keys = (),
    after: Annotated[str, Query(description="Only keys after this one.")] = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> list[DeadLetter]:
    """By key: why, how often tried, and when again. The store keeps what it had of them."""
    letters = plane.opened.journal.dead.letters
    return await letters(collection_of(plane, name), keys=key or None, after=after, limit=limit)


@router.post(
    "/projections/{name}/dead/retry",
    summary="Try dead letters again now",
    responses=problem_responses(404),
)
async def retry_dead(plane: PlaneOf, by: Operator, name: Name, key: Keys = ()) -> Counted:
    """Truth is read anew. What works leaves the list within seconds."""
    where = collection_of(plane, name)
    async with plane.audit.act(by, "dead.retry", "projection", name, keys_told(key)):
        return Counted(
            projection=name, rows=await plane.opened.journal.dead.retry(where, key or None)
        )


@router.post(
    "/projections/{name}/dead/drop",
    summary="Forget dead letters",
    responses=problem_responses(404),
)
async def drop_dead(plane: PlaneOf, by: Operator, name: Name, key: Keys = ()) -> Counted:
    """The store stays as it is until the row changes again, or is repaired."""
    where = collection_of(plane, name)
    async with plane.audit.act(by, "dead.drop", "projection", name, keys_told(key)):
        return Counted(
            projection=name, rows=await plane.opened.journal.dead.unpark(where, key or None)
        )


def keys_told(keys: Sequence[str] | None) -> dict[str, Any]:
    """What audit says of the keys of an act; none: all."""
    return {"keys": len(keys), "first": keys[0]} if keys else {}


def collection_of(plane: Plane, name: str) -> str:
    """Where the items of the projection `name` are; NotFound when the plane declares none."""
    return plane.opened.generations.readings[named(plane, name).name].collection.target


async def refill(plane: Plane, name: str) -> int:
    """Backfill the projection `name`; the number of items put or dropped."""
    opened, projection = plane.opened, named(plane, name)
    return await flow.backfill(
        opened.generations.target(projection.name),
        opened.database,
        opened.journal,
        opened.feed,
        opened.feed.subjects,
        epoch=opened.epoch,
    )


def named(plane: Plane, name: str) -> type[Projection[Any]]:
    """The projection called `name`; NotFound when the plane declares none."""
    known: Sequence[type[Projection[Any]]] = plane.declared.projections
    for projection in known:
        if projection.name == name:
            return projection
    listed = ", ".join(projection.name for projection in known)
    raise NotFound(f"There is no projection {name!r}.", field="projection", fix=f"Known: {listed}.")


Provable = type[Projection[Any]] | type[Stream] | type[Blob] | type[RequestCache]


def provable(plane: Plane, name: str) -> list[Provable]:
    """The projection called `name`, or the stream, or (`blobs`) the files, or (`requests`) the
    request cache; NotFound for none of them.
    """
    beside: list[Provable] = [it for it in plane.declared.streams if it.name == name]
    if name == BLOBS and plane.declared.blobs:
        beside.append(Blob)
    if name == REQUESTS and "valkey" in plane.declared.engines():
        beside.append(RequestCache)
    if beside and all(it.name != name for it in plane.declared.projections):
        return beside
    return [named(plane, name), *beside]


def mendable(
    plane: Plane, names: Sequence[str]
) -> list[type[Projection[Any]] | type[Blob] | type[RequestCache]]:
    """What of these a repair can do something about; NotFound for one that there is not."""
    found = [it for name in names for it in provable(plane, name)]
    if any(issubclass(it, Stream) for it in found):
        raise Refused("What a stream has lost cannot be mended.", field="projection")
    return [it for it in found if not issubclass(it, Stream)]


async def while_asked(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` comes to; it is cancelled when whoever asked for it has gone away."""
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait([task], timeout=_LOOK_EVERY_S))[0]:
            if await request.is_disconnected():
                raise Unavailable("Whoever asked for it has gone away.")
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])
