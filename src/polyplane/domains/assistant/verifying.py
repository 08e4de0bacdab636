"""The functions of seed 002 by their names: one document processed, and consistency verified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.assistant import keeping
from polyplane.domains.assistant.arrivals import Arrival
from polyplane.domains.assistant.bulk import parts
from polyplane.domains.assistant.models import Document, DocumentChunk
from polyplane.domains.assistant.processing import work_of
from polyplane.domains.assistant.projections import DocumentChunks, ProcessedDocuments

PROCESS_TIMEOUT_S: Final = 120.0
VERIFY_TIMEOUT_S: Final = 600.0
AT_ONCE: Final = 500
ACTOR: Final = "consistency"


@dataclass(frozen=True, slots=True)
class Consistency:
    """What was found and left: `before` and `after` are drifts, `read_again` the ids of documents
    whose chunks were not what reading them gave, and which were read anew.
    """

    before: Any
    after: Any
    read_again: tuple[str, ...]


async def process_document(
    plane: pp.Plane,
    document_id: UUID,
    user_id: UUID | None,
    content: bytes,
    *,
    name: str = "",
    media_type: str = "application/octet-stream",
    tenant: str = "default",
    timeout_s: float = PROCESS_TIMEOUT_S,
) -> dict[str, str]:
    """Store metadata and content of a document of a user (None: all) under this id, and wait
    until it is read and its vectors are stored.

    Returns both references: `postgres_id`, and `lancedb_status`: "stored", or "failed: " and why.
    Raises NotSettled when that takes longer than `timeout_s` seconds; it goes on.
    """
    caller = pp.Caller("process_document", tenant, user_id)
    arrival = Arrival("upload", name or str(document_id), content, media_type)
    taken = await keeping.take(plane, caller, [arrival], owner=user_id, id=document_id)
    if taken.work is not None:
        work = await work_of(plane, caller, taken.work, wait_s=timeout_s)
        if not work.is_over:
            raise pp.NotSettled(f"The document {document_id} is not read yet.", fix="It goes on.")
    id = taken.landed[0].id
    async with plane.acting(caller).read() as session:
        row = await session.get(Document, id)
    if row is None:
        raise pp.NotFound(f"The document {document_id} was removed.", field="document_id")
    if row.state == "failed":
        return {"postgres_id": str(row.id), "lancedb_status": f"failed: {row.failure_reason}"}
    await plane.caught_up(ProcessedDocuments, DocumentChunks, timeout_s=timeout_s)
    return {"postgres_id": str(row.id), "lancedb_status": "stored"}


async def verify_data_consistency(
    plane: pp.Plane, *, tenant: str = "default", timeout_s: float = VERIFY_TIMEOUT_S
) -> Consistency:
    """Compare chunks with their vectors and files with their objects, and a tenant's documents with
    their chunks; have what is missing read anew, and what drifted mended.

    Raises NotSettled when that takes longer than `timeout_s` seconds.
    """
    before = await plane.verify(ProcessedDocuments, DocumentChunks, pp.Blob, timeout_s=timeout_s)
    caller = pp.Caller(ACTOR, tenant)
    wrong = await _wrong(plane, caller)
    for ids in parts(wrong, AT_ONCE):
        work, _ = await keeping.read_again(plane, caller, ids)
        if work is not None:
            await work_of(plane, caller, work, wait_s=timeout_s)
    if not before.clean:
        await plane.repair(ProcessedDocuments, DocumentChunks, timeout_s=timeout_s)
    after = await plane.verify(ProcessedDocuments, DocumentChunks, pp.Blob, timeout_s=timeout_s)
    return Consistency(before, after, tuple(map(str, wrong)))


async def _wrong(plane: pp.Plane, caller: pp.Caller) -> list[UUID]:
    """Documents that say another number of chunks, or another end of the text, than these do; and
    those that nobody is going to read.
    """
    it, chunk = Document, DocumentChunk
    many, end = sa.func.count().label("many"), sa.func.max(chunk.end_at).label("end")
    counted = (
        sa.select(chunk.document_id, many, end)
        .where(chunk.tenant_id == caller.tenant)
        .group_by(chunk.document_id)
        .subquery()
    )
    is_other = (it.chunk_count != sa.func.coalesce(counted.c.many, 0)) | (
        it.text_length != sa.func.coalesce(counted.c.end, 0)
    )
    query = (
        sa.select(it.id)
        .outerjoin(counted, counted.c.document_id == it.id)
        .where(
            it.tenant_id == caller.tenant,
            keeping.is_left() | (it.state == "ready") & is_other,
        )
        .order_by(it.source, it.name)
    )
    async with plane.acting(caller).read() as session:
        return [*await session.scalars(query)]
