"""Documents, their chunks and their text, as a caller may see them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

import polyplane as pp
from polyplane.domains.assistant.models import Document, DocumentChunk


async def document(session: AsyncSession, tenant: str, id: UUID) -> Document:
    """One document; NotFound unless the caller may see it."""
    row = await session.get(Document, id)
    if row is None or row.tenant_id != tenant:
        raise pp.NotFound(f"There is no document {id}.", field="document_id")
    return row


async def chunks(
    session: AsyncSession, tenant: str, id: UUID, *, after: int = -1, limit: int = 50
) -> Sequence[DocumentChunk]:
    """Chunks of a document in their order, behind the one of that ordinal."""
    await document(session, tenant, id)
    it = DocumentChunk
    query = sa.select(it).where(it.document_id == id, it.tenant_id == tenant, it.ordinal > after)
    return (await session.scalars(query.order_by(it.ordinal).limit(limit))).all()


async def text(session: AsyncSession, tenant: str, id: UUID, start: int, end: int) -> str:
    """The text of a document from character `start` to and without `end`, as its chunks have it."""
    it = DocumentChunk
    query = sa.select(it.start_at, it.end_at, it.text).where(
        it.document_id == id, it.tenant_id == tenant, it.end_at > start, it.start_at < end
    )
    found, at = [], start
    for begins, ends, piece in await session.execute(query.order_by(it.ordinal)):
        if ends > at:  # chunks may overlap
            found.append(piece[max(0, at - begins) : end - begins])
            at = ends
    return "".join(found)
