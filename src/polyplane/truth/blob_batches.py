"""What truth knows of many blobs at once: each call one statement, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow

from polyplane.errors import Conflict
from polyplane.truth.blobs import Execute
from polyplane.truth.session import refusal
from polyplane.truth.statements import statement

MANY_MAX: Final = 1_000
"""Blobs of one call."""


class Named(NamedTuple):
    """What is said of a content, and its digest (hexadecimal) and size."""

    name: str
    content_type: str
    sha256: str
    size: int


class Stored(NamedTuple):
    """An object that is durable: whose blob it is to be, and what the store says of it."""

    id: UUID
    sha256: str
    size: int
    etag: str
    version: str


class BlobBatches:
    """The rows of many blobs of one tenant and bucket, in autocommit or within a transaction."""

    def __init__(self, execute: Execute, bucket: str, tenant: str) -> None:
        self._execute = execute
        self._given = {"bucket": bucket, "tenant": tenant}

    async def _rows(self, block: str, /, **given: Any) -> list[TupleRow]:
        return await self._execute(statement("blobs", block), {**self._given, **given})

    async def held(self, digests: Sequence[str]) -> set[str]:
        """Which of these contents there are already."""
        return {row[0] for row in await self._rows("held_contents", digests=list(digests))}

    async def reserve(self, contents: Sequence[Named], *, expires_s: float) -> list[UUID]:
        """Note blobs that are going to be sent; their ids."""
        rows = await self._rows(
            "reserve_many",
            names=[it.name for it in contents],
            types=[it.content_type for it in contents],
            expires_s=expires_s,
        )
        return [row[0] for row in rows]

    async def commit(self, stored: Sequence[Stored]) -> dict[UUID, tuple[str, str]]:
        """These are durable: key and version of what each refers to, which may be an older object
        of the same content. Only within a transaction, and behind `wait_for`. Conflict when one
        was given up.
        """
        rows = await self._rows(
            "commit_many",
            ids=[it.id for it in stored],
            digests=[it.sha256 for it in stored],
            sizes=[it.size for it in stored],
            etags=[it.etag for it in stored],
            versions=[it.version for it in stored],
        )
        if len(rows) != len(stored):
            raise Conflict("This upload was given up meanwhile.", fix="Do it again.")
        return {row[0]: (row[1], row[2]) for row in rows}

    async def wait_for(self, digests: Sequence[str]) -> None:
        """Until the transaction ends nobody else commits one of these contents."""
        if digests:
            await self._rows("many_at_a_time", digests=sorted(set(digests)))

    async def share(self, contents: Sequence[Named]) -> list[UUID]:
        """Blobs of contents that there are already. Only within a transaction, behind `wait_for`.
        Conflict when nobody has one of them any more.
        """
        rows = await self._rows(
            "share_many",
            names=[it.name for it in contents],
            types=[it.content_type for it in contents],
            digests=[it.sha256 for it in contents],
            sizes=[it.size for it in contents],
        )
        if len(rows) != len(contents):
            raise Conflict("A file of the same content was deleted meanwhile.", fix="Do it again.")
        return [row[1] for row in rows]

    async def delete(self, ids: Sequence[UUID]) -> int:
        """Delete committed blobs; how many were. Conflict when a row refers to one of them."""
        try:
            return len(await self._rows("delete_many", ids=list(ids)))
        except psycopg.errors.ForeignKeyViolation as error:
            raise refusal(error) or error from error
