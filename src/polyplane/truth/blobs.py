"""What truth knows of blobs: rows and parts, each call one statement."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, LiteralString, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow, tuple_row

from polyplane.errors import Conflict, NotFound
from polyplane.model.blob import Blob, BlobState, SentPart
from polyplane.truth.database import Database
from polyplane.truth.session import Write, refusal
from polyplane.truth.statements import statement

Execute = Callable[[LiteralString, Any], Awaitable[list[TupleRow]]]

ROWS: Final = 1_000
NOBODY: Final = UUID(int=0)


class Waiting(NamedTuple):
    """A blob that is given up: what must go before its row can. `upload` of one in parts."""

    id: UUID
    tenant: str
    key: str
    upload: str | None = None


class Owned(NamedTuple):
    """A committed blob, as it is compared with its object."""

    key: str
    version: str
    etag: str
    size: int
    sha256: str
    id: UUID
    fault: str


class Told(NamedTuple):
    """What truth says about a blob whose object somebody has come across."""

    id: UUID
    key: str
    version: str | None
    state: BlobState


class BlobRows:
    """The rows of one bucket's blobs, in autocommit or within a transaction."""

    def __init__(self, execute: Execute, bucket: str) -> None:
        self._execute = execute
        self.bucket = bucket

    async def _rows(self, block: str, /, **given: Any) -> list[TupleRow]:
        return await self._execute(statement("blobs", block), {"bucket": self.bucket, **given})

    async def new_id(self) -> UUID:
        """An id for a blob."""
        return UUID(str((await self._rows("new_id"))[0][0]))

    async def reserve(
        self,
        blob_id: UUID,
        *,
        tenant: str,
        name: str,
        content_type: str,
        key: str,
        expires_s: float,
        idempotency_key: str | None = None,
    ) -> bool:
        """Note a blob that is going to be sent; whether its id and idempotency key were free."""
        rows = await self._rows(
            "reserve",
            id=blob_id,
            tenant=tenant,
            name=name,
            content_type=content_type,
            key=key,
            expires_s=expires_s,
            idempotency_key=idempotency_key,
        )
        return bool(rows)

    async def get(self, blob_id: UUID, tenant: str) -> Blob:
        """The blob, in whatever state; NotFound."""
        rows = await self._rows("get", id=blob_id, tenant=tenant)
        if not rows:
            raise NotFound(f"There is no blob {blob_id}.", field="id")
        return _blob(rows[0])

    async def by_idempotency_key(self, idempotency_key: str, tenant: str) -> Blob | None:
        """The blob that was put with this key and is not deleted."""
        rows = await self._rows(
            "by_idempotency_key", idempotency_key=idempotency_key, tenant=tenant
        )
        return _blob(rows[0]) if rows else None

    async def page(
        self, tenant: str, states: Sequence[BlobState], after: UUID | None, limit: int
    ) -> list[Blob]:
        """The newest blobs in these states, of those older than `after`."""
        rows = await self._rows(
            "page", tenant=tenant, states=[str(it) for it in states], after=after, limit=limit
        )
        return [_blob(row) for row in rows]

    # An upload

    async def begun(self, blob_id: UUID, upload: str) -> bool:
        """Note how the object store calls the upload; whether it is still wanted."""
        return bool(await self._rows("begun", id=blob_id, upload=upload))

    async def upload(self, blob_id: UUID) -> str | None:
        """How the object store calls the upload of a pending blob, once it has begun."""
        rows = await self._rows("upload", id=blob_id)
        return rows[0][0] if rows else None

    async def sent(self, blob_id: UUID, upload: str, part: SentPart) -> None:
        """Note a part that is acknowledged.

        Conflict when the upload was given up, or another content is sent to it at the same time.
        """
        if not await self._rows("part", id=blob_id, upload=upload, **_fields(part)):
            raise Conflict(
                "This upload was given up, or somebody sends another content to it.",
                fix="Put the file again.",
            )

    async def parts(self, blob_id: UUID) -> list[SentPart]:
        """The parts that are noted, in order."""
        return [SentPart(*row) for row in await self._rows("parts", id=blob_id)]

    async def commit(
        self, blob_id: UUID, *, tenant: str, sha256: str, size: int, etag: str, version: str
    ) -> Blob:
        """The content is whole and durable. Only within a transaction. Again changes nothing.

        The blob refers to an older object of the same content, if there is one. Raises Conflict
        when it was given up.
        """
        await self._rows("one_at_a_time", tenant=tenant, sha256=sha256)
        rows = await self._rows(
            "commit",
            id=blob_id,
            tenant=tenant,
            sha256=sha256,
            size=size,
            etag=etag,
            version=version,
        )
        blob = _blob(rows[0]) if rows else await self.get(blob_id, tenant)
        if blob.state is not BlobState.COMMITTED:
            raise Conflict("This upload was given up meanwhile.", fix="Put the file again.")
        return blob

    async def give_up(self, blob_id: UUID) -> bool:
        """A pending blob will never be; whether it was pending."""
        return bool(await self._rows("give_up", id=blob_id))

    # The end

    async def delete(self, blob_id: UUID, tenant: str) -> bool:
        """Delete a committed blob; whether it was one. Conflict when a row refers to it."""
        try:
            return bool(await self._rows("delete", id=blob_id, tenant=tenant))
        except psycopg.errors.ForeignKeyViolation as error:
            raise refusal(error) or error from error

    async def expired(self, limit: int = ROWS) -> list[Waiting]:
        """Pending blobs whose time is over."""
        return [Waiting(*row) for row in await self._rows("expired", limit=limit)]

    async def count_expired(self) -> int:
        """How many of them there are."""
        return int((await self._rows("count_expired"))[0][0])

    async def deleted(self, grace_s: float, limit: int = ROWS) -> list[Waiting]:
        """Blobs that were deleted so long ago, the oldest first."""
        return [Waiting(*row) for row in await self._rows("deleted", grace_s=grace_s, limit=limit)]

    async def forget(self, ids: Sequence[UUID]) -> None:
        """Their objects are gone."""
        await self._rows("forget", ids=list(ids))

    # The proof

    async def objects(self) -> AsyncIterator[list[Owned]]:
        """All committed blobs, in the order of their objects' keys, page by page."""
        after, after_id = "", NOBODY
        while rows := await self._rows("objects", after=after, after_id=after_id, limit=ROWS):
            page = [Owned(*row) for row in rows]
            yield page
            after, after_id = page[-1].key, page[-1].id

    async def told(self, keys: Sequence[str], ids: Sequence[UUID]) -> list[Told]:
        """What there is of these keys and ids, in any state."""
        rows = await self._rows("rows_of", keys=list(keys), ids=list(ids))
        return [Told(row[0], row[1], row[2], BlobState(row[3])) for row in rows]

    async def pending_uploads(self, uploads: Sequence[str]) -> set[str]:
        """Which of these uploads a pending blob waits for."""
        return {row[0] for row in await self._rows("pending_uploads", uploads=list(uploads))}

    async def mark(self, ids: Sequence[UUID], fault: str) -> int:
        """Note that their objects are "lost" or "damaged", or (empty) whole again; how many."""
        return len(await self._rows("mark", ids=list(ids), fault=fault))


def rows_of(database: Database, bucket: str) -> BlobRows:
    """In autocommit."""
    return BlobRows(database.rows, bucket)


@asynccontextmanager
async def transaction(database: Database, bucket: str) -> AsyncIterator[BlobRows]:
    """In a transaction of their own."""
    async with database.connection() as connection, connection.transaction():
        yield BlobRows(_on(connection), bucket)


async def within(tx: Write, bucket: str) -> BlobRows:
    """In the transaction `tx`, with all else it does."""
    return BlobRows(await running_on(tx), bucket)


async def running_on(tx: Write) -> Execute:
    """Runs statements in the transaction `tx`, behind what was added to it so far."""
    await tx.flush()
    pooled = await (await tx.session.connection()).get_raw_connection()
    driver = pooled.driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    return _on(driver)


def _on(connection: psycopg.AsyncConnection[Any]) -> Execute:
    async def execute(query: LiteralString, parameters: Any) -> list[TupleRow]:
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(query, parameters)
            return await cursor.fetchall() if cursor.description else []

    return execute


def _fields(part: SentPart) -> dict[str, Any]:
    return {name: getattr(part, name) for name in ("number", "size", "etag", "prefix_sha256")}


def _blob(row: TupleRow) -> Blob:
    blob_id, tenant, name, content_type, state, bucket, key, created_at, *rest = row
    return Blob(
        blob_id, tenant, name, content_type, BlobState(state), bucket, key, created_at, *rest
    )
