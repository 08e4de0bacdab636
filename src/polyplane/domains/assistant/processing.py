"""Reading documents: a saga for many of them, which parses their files and writes their chunks.

Its one step may be done again at any moment: a document is written in one transaction, with all its
chunks, and only if it still has the content that was read and waits to be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final, NamedTuple, TypedDict
from uuid import UUID

import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.assistant.arrivals import Failure, Work
from polyplane.domains.assistant.bulk import any_of, table
from polyplane.domains.assistant.models import REASON_MAX, Document
from polyplane.domains.assistant.parsing.parsed import CHUNKER_VERSION, Parsed, Unreadable
from polyplane.domains.assistant.room import Room, room_of
from polyplane.domains.assistant.writing import Read, write
from polyplane.saga import Context, Retries, Saga, remote

GROUP_DOCUMENTS: Final = 100
GROUP_BYTES: Final = 4 << 20
"""What is read and written at a time, unless one document alone is larger."""
LARGE_BYTES: Final = 1 << 20
"""From here on a document is seen to be `parsing`: it takes a while."""
FETCHES_AT_ONCE: Final = 8
STEP_TIMEOUT_S: Final = 3_600.0
RETRIES: Final = Retries(attempts_max=100, first_wait_s=0.2, last_wait_s=60.0)

_DOCUMENTS: Final = table(Document)
_UNREAD: Final = Document.state.in_(("received", "parsing"))


class Given(TypedDict):
    """What a saga is given: ids."""

    documents: list[str]


class Unread(NamedTuple):
    """A document that is to be read."""

    id: UUID
    name: str
    blob_id: UUID
    sha256: str
    size: int
    media_type: str


async def read(context: Context[Given]) -> dict[str, int]:
    """Read the documents that still wait for it; what was done, by number."""
    plane, caller = context.plane, pp.Caller(context.actor, context.tenant)
    room, done = await room_of(plane), Work()
    ids = [UUID(it) for it in context.input["documents"]]
    for group in _groups(await _unread(plane, caller, ids)):
        async with room.groups:
            found = await _parsed(plane, caller, room, group)
            counted = await write(plane, caller, found, room.options, CHUNKER_VERSION)
        for name, value in counted.items():
            setattr(done, name, getattr(done, name) + value)
    counts = asdict(done)
    return {name: counts[name] for name in counts if name not in ("is_over", "failures")}


async def give_up(context: Context[Given]) -> None:
    """What could not be read in all this time has failed, and may be read again."""
    plane, caller = context.plane, pp.Caller(context.actor, context.tenant)
    why = (context.error or "Given up.")[:REASON_MAX]
    ids = [UUID(it) for it in context.input["documents"]]
    async with plane.acting(caller).write() as tx:
        locked = sa.select(Document.id).where(Document.id == any_of(ids), _UNREAD)
        locked = locked.order_by(Document.source, Document.name).with_for_update()
        left = [row[0] for row in await tx.execute(locked)]
        if left:
            values = {"state": "failed", "failure_code": "gave_up", "failure_reason": why}
            change = sa.update(_DOCUMENTS).where(_DOCUMENTS.c.id == any_of(left))
            await tx.execute(change.values(**values, updated_at=sa.func.now()))


class ReadDocuments(Saga[Given]):
    """Documents that were received are read."""

    name = "assistant_read_documents"
    steps = (remote(read, undo=give_up, timeout_s=STEP_TIMEOUT_S, retries=RETRIES),)


async def work_of(plane: pp.Plane, caller: pp.Caller, saga_id: UUID, *, wait_s: float = 0) -> Work:
    """How far a reading is; waits for its end, but not longer than `wait_s`. NotFound."""
    sagas = plane.acting(caller).sagas
    record = await sagas.show(saga_id)
    if not record.has_ended and wait_s > 0:
        try:
            record = await sagas.finished(saga_id, timeout_s=wait_s)
        except pp.NotSettled:
            return Work()
    if record.name != ReadDocuments.name:
        raise pp.NotFound(f"There is no work {saga_id}.", field="work")
    counts = record.results.get("read") or {}
    it, ids = Document, [UUID(given) for given in record.input["documents"]]
    query = sa.select(it.name, it.failure_code, it.failure_reason, it.id)
    query = query.where(it.id == any_of(ids), it.state == "failed").order_by(it.name)
    async with plane.acting(caller).read() as session:
        found = await session.execute(query)
        failures = [Failure(name, code or "", why or "", id) for name, code, why, id in found]
    return Work(is_over=record.has_ended, **counts, failures=failures)


async def _unread(plane: pp.Plane, caller: pp.Caller, ids: Sequence[UUID]) -> list[Unread]:
    it = Document
    columns = (it.id, it.name, it.blob_id, it.sha256, it.size, it.media_type)
    query = sa.select(*columns).where(it.id == any_of(ids), _UNREAD)
    async with plane.acting(caller).read() as session:
        rows = await session.execute(query.order_by(it.source, it.name))
        return [*map(Unread._make, rows)]


def _groups(unread: Sequence[Unread]) -> Iterator[list[Unread]]:
    """So many at a time that neither they nor their chunks are too many for the memory."""
    group: list[Unread] = []
    size = 0
    for it in unread:
        if group and (len(group) == GROUP_DOCUMENTS or size + it.size > GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(it)
        size += it.size
    if group:
        yield group


async def _parsed(
    plane: pp.Plane, caller: pp.Caller, room: Room, group: Sequence[Unread]
) -> list[Read]:
    if large := [it.id for it in group if it.size >= LARGE_BYTES]:
        async with plane.acting(caller).write() as tx:
            change = sa.update(_DOCUMENTS).where(_DOCUMENTS.c.id == any_of(large), _UNREAD)
            await tx.execute(change.values(state="parsing", updated_at=sa.func.now()))
    free = asyncio.Semaphore(FETCHES_AT_ONCE)

    async def fetch(it: Unread) -> bytes | Unreadable:
        if (content := room.contents.take(it.sha256)) is not None:
            return content
        async with free:
            return await _fetched(plane, caller, it)

    contents = await asyncio.gather(*map(fetch, group))
    sources, at = [], []
    for index, (it, content) in enumerate(zip(group, contents, strict=True)):
        if not isinstance(content, Unreadable):
            sources.append((it.name, None, content))
            at.append(index)
    found: list[Parsed | Unreadable | None] = [
        it if isinstance(it, Unreadable) else None for it in contents
    ]
    for index, parsed in zip(at, await room.parsers.read(sources), strict=True):
        found[index] = parsed
    return [
        Read(it.id, it.name, it.sha256, result)
        for it, result in zip(group, found, strict=True)
        if result is not None
    ]


async def _fetched(plane: pp.Plane, caller: pp.Caller, it: Unread) -> bytes | Unreadable:
    """The content, as it was put. What the store has lost says so; a store that is down raises."""
    pieces = plane.acting(caller).blobs.open(it.blob_id)
    try:
        return b"".join([piece async for piece in pieces])
    except pp.NotFound:  # removed meanwhile; there is nobody to be told
        return Unreadable("unreachable", "its file was removed")
    except pp.Unavailable:
        raise
    except pp.PolyplaneError as error:
        return Unreadable("unreachable", error.message[:REASON_MAX])
