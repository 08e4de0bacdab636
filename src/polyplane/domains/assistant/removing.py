"""Documents removed, with all that is of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar
from uuid import UUID

import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.assistant.bulk import any_of, table
from polyplane.domains.assistant.models import Document

T = TypeVar("T")

_AGAIN_MAX: Final = 3
_DOCUMENTS: Final = table(Document)


async def tried(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` gives; done again when who else takes in or removes the same came between."""
    for _ in range(_AGAIN_MAX - 1):
        with suppress(pp.Conflict):
            return await work()
    return await work()


async def remove(
    plane: pp.Plane, caller: pp.Caller, ids: Sequence[UUID]
) -> tuple[int, pp.Token | None]:
    """Remove documents with all that is of them: rows, chunks, what follows, and the files; how
    many there were, and the token. The content of a file goes when nobody else has the same.
    """
    acting = plane.acting(caller)

    async def work() -> tuple[int, pp.Token | None]:
        async with acting.write() as tx:
            blobs = await remove_in(tx, ids)
            await acting.blobs.delete_many(tx, [it for it in blobs.values() if it is not None])
            if blobs:
                tx.audit("documents.removed", "assistant.documents", detail={"n": len(blobs)})
        return len(blobs), tx.token

    return await tried(work)


async def remove_one(
    plane: pp.Plane, caller: pp.Caller, id: UUID, check: Callable[[Document], None]
) -> pp.Token | None:
    """Remove one document, if `check` lets it; the token. NotFound."""
    acting = plane.acting(caller)

    async def work() -> pp.Token | None:
        async with acting.write() as tx:
            row = await tx.get(Document, id, for_update=True)
            if row is None or row.tenant_id != tx.tenant:
                raise pp.NotFound(f"There is no document {id}.", field="document_id")
            check(row)
            blobs = await remove_in(tx, [id])
            await acting.blobs.delete_many(tx, [it for it in blobs.values() if it is not None])
            tx.audit("document.removed", "assistant.documents", str(id))
        return tx.token

    return await tried(work)


async def remove_in(tx: pp.Write, ids: Sequence[UUID]) -> dict[UUID, UUID | None]:
    """Delete documents and their chunks; by id, the blobs they had, which are to go after them."""
    it = Document
    query = (
        sa.select(it.id, it.blob_id)
        .where(it.id == any_of(ids), it.tenant_id == tx.tenant)
        .order_by(it.source, it.name)
        .with_for_update()
    )
    rows: Sequence[Any] = (await tx.execute(query)).all()
    found: dict[UUID, UUID | None] = {row[0]: row[1] for row in rows}
    if found:
        gone = sa.delete(_DOCUMENTS).where(_DOCUMENTS.c.id == any_of([*found]))
        await tx.execute(gone)
    return found
