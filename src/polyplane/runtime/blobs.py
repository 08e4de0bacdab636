"""What `plane.blobs` offers: put files, go on with what was interrupted, read, share, delete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from polyplane.errors import NotFound, ObjectLost, Refused, StoreDown
from polyplane.flow.content import Source
from polyplane.flow.sending import Progress
from polyplane.model.blob import Blob, BlobState, key_of
from polyplane.model.caller import Caller
from polyplane.model.scope import Scope
from polyplane.reconcile.collect import GRACE_S, Collected, collect
from polyplane.runtime.opening import Open
from polyplane.runtime.putting import Putting, Wanted, check_described, check_digest
from polyplane.runtime.uploads import PENDING_S, ready_store, store_of
from polyplane.saga.sagas import Sagas
from polyplane.stores.object_protocol import ObjectStore
from polyplane.truth import session
from polyplane.truth.blobs import BlobRows, rows_of, within

PUT_URL_BYTES_MAX: Final = 5 << 30
"""S3 takes no more in one PUT."""
URL_S: Final = 300
PROGRAM: Final = "program"


@dataclass(frozen=True, slots=True)
class UploadUrl:
    """Where somebody without keys may PUT one content: `url` with exactly these `headers`.

    Then `confirm(blob)`, before `expires_at` for the PUT and within a day for the rest.
    """

    blob: UUID
    url: str
    headers: dict[str, str]
    expires_at: datetime


class Blobs:
    """The files of a plane. A blob is there as a whole, once `put` has returned, or not at all."""

    def __init__(self, opened: Open, sagas: Sagas) -> None:
        self._opened = opened
        self._putting = Putting(opened, sagas)

    @property
    def _store(self) -> ObjectStore:
        return store_of(self._opened)

    @property
    def _rows(self) -> BlobRows:
        return rows_of(self._opened.database, self._store.bucket)

    # Putting

    async def put(
        self,
        source: Source,
        *,
        name: str = "",
        content_type: str = "application/octet-stream",
        tenant: str = "default",
        actor: str = "",
        sha256: str | None = None,
        key: str | None = None,
        progress: Progress | None = None,
    ) -> Blob:
        """Put a file: a Path, bytes, a binary file or an async iterator of bytes; durable then.

        `name` is what people call it (default: the file's own). With `sha256` (hexadecimal) it
        must have this digest: Refused, and nothing is kept, when it has another. The same `key`
        again gives the blob that was put with it, or goes on with its upload. Equal contents share
        one object. `progress` hears how many bytes are stored. Interrupted, it is gone on with by
        `resume`, or by the same `key`, within a day. Raises StoreDown when the store does not
        answer for a minute, TooLarge beyond 3.1 TiB.
        """
        own = getattr(source, "name", "")  # that of an open file may be a number
        name = name or (Path(own).name if isinstance(own, str) else "")
        wanted = Wanted(name, content_type, tenant, actor, sha256, progress)
        if key is not None:
            known = await self._rows.by_idempotency_key(key, tenant)
            if known is not None:
                return await self._putting.again(known, source, wanted)
        return await self._putting.new(source, wanted, key)

    async def resume(
        self,
        blob_id: UUID,
        source: Source,
        *,
        tenant: str = "default",
        actor: str = "",
        sha256: str | None = None,
        progress: Progress | None = None,
    ) -> Blob:
        """Go on with a put that was interrupted, given the same content from its start.

        No part is sent that the object store has. Raises Conflict when it is another content, or
        the blob is deleted or given up; NotFound.
        """
        known = await self._rows.get(blob_id, tenant)
        wanted = Wanted(known.name, known.content_type, tenant, actor, sha256, progress)
        return await self._putting.again(known, source, wanted)

    # By a URL

    async def upload_url(
        self,
        name: str,
        size: int,
        *,
        content_type: str = "application/octet-stream",
        tenant: str = "default",
        expires_s: int = URL_S,
        by: Caller | None = None,
    ) -> UploadUrl:
        """A URL for one PUT of exactly `size` bytes, 5 GiB at most, good for 15 minutes at most.

        It goes past us, to a key of ours, and becomes a blob by `confirm`. Audit has who (`by`)
        was given it.
        """
        check_described(Wanted(name, content_type, tenant))
        if not 0 <= size <= PUT_URL_BYTES_MAX:
            raise Refused(f"One PUT takes up to {PUT_URL_BYTES_MAX:,} bytes.", field="size")
        blob_id = await self._rows.new_id()
        key = key_of(tenant, blob_id)
        url = (await ready_store(self._opened)).url_to_put(
            Scope(tenant), key, size=size, content_type=content_type, expires_s=expires_s
        )
        await self._rows.reserve(
            blob_id,
            tenant=tenant,
            name=name,
            content_type=content_type,
            key=key,
            expires_s=PENDING_S,
        )
        detail = {"name": name, "size": size, "expires_s": expires_s}
        await self._told(by, tenant, "blob.upload_url", blob_id, detail)
        headers = {"Content-Type": content_type, "Content-Length": str(size)}
        until = datetime.now(UTC) + timedelta(seconds=expires_s)
        return UploadUrl(blob_id, url, headers, until)

    async def confirm(
        self, blob_id: UUID, *, tenant: str = "default", sha256: str | None = None
    ) -> Blob:
        """Commit what was put by a URL: it is read once, for its digest.

        Raises NotFound when nothing was put yet, Refused when it has not the digest `sha256`.
        """
        blob = await self._rows.get(blob_id, tenant)
        if blob.state is not BlobState.PENDING:
            return await self._putting.again(blob, b"", Wanted("", "", tenant, sha256=sha256))
        scope = self._scope(blob, tenant)
        found = await self._store.head(scope, blob.key)
        digest, size = new_sha256(), 0
        async for piece in self._store.read(scope, blob.key, version=found.version):
            digest.update(piece)
            size += len(piece)
        if size != found.size:
            raise StoreDown("The object store has given fewer bytes than it has.")
        check_digest(digest.hexdigest(), sha256)
        return await self._putting.commit(blob_id, tenant, found, digest.hexdigest())

    async def url(
        self,
        blob_id: UUID,
        *,
        tenant: str = "default",
        expires_s: int = URL_S,
        by: Caller | None = None,
    ) -> str:
        """A URL that anyone may GET this one content with, for 15 minutes at most.

        Audit has who (`by`) was given it.
        """
        blob = await self.head(blob_id, tenant=tenant)
        name = blob.name or str(blob.id)
        url = self._store.url_to_get(
            self._scope(blob, tenant),
            blob.key,
            version=blob.version,
            expires_s=expires_s,
            name=name,
        )
        await self._told(by, tenant, "blob.url", blob_id, {"expires_s": expires_s})
        return url

    # Reading

    async def head(self, blob_id: UUID, *, tenant: str = "default") -> Blob:
        """What is known of a committed blob. Raises NotFound, ObjectLost when it is marked so."""
        blob = await self._rows.get(blob_id, tenant)
        if blob.state is not BlobState.COMMITTED:
            raise NotFound(f"There is no blob {blob_id}.", field="id")
        if blob.fault:
            raise _lost(blob)
        return blob

    async def open(
        self, blob: Blob | UUID, *, start: int = 0, end: int | None = None, tenant: str = "default"
    ) -> AsyncIterator[bytes]:
        """The content from byte `start` to and without `end`, in pieces of about a megabyte.

        A `blob` that is given as such is read for its own tenant. What is read as a whole is
        digested on the way. Raises ObjectLost when the object is gone, or, before the last piece,
        when it is not what was put.
        """
        it = blob if isinstance(blob, Blob) else await self.head(blob, tenant=tenant)
        scope = self._scope(it, it.tenant if it is blob else tenant)
        assert it.size is not None
        end = it.size if end is None else min(end, it.size)
        digest, left, last = new_sha256(), max(0, end - start), b""
        is_whole = start == 0 and end == it.size
        try:
            async for piece in self._store.read(
                scope, it.key, version=it.version, start=start, end=end
            ):
                if is_whole:
                    await asyncio.to_thread(digest.update, piece)
                left -= len(piece)
                if last:
                    yield last
                last = piece
        except NotFound as error:
            raise _lost(it) from error
        if left:
            raise ObjectLost(f"The object of blob {it.id} has another size than was put.")
        if is_whole and digest.hexdigest() != it.sha256:
            raise ObjectLost(f"The object of blob {it.id} is not what was put.")
        if last:
            yield last

    async def list(
        self,
        *,
        tenant: str = "default",
        states: Sequence[BlobState] = (BlobState.COMMITTED,),
        after: UUID | None = None,
        limit: int = 50,
    ) -> Sequence[Blob]:
        """The newest blobs, of those older than `after`; at most 200."""
        if not 1 <= limit <= 200:
            raise Refused("limit must be from 1 to 200.", field="limit")
        return await self._rows.page(tenant, states, after, limit)

    def _scope(self, blob: Blob, tenant: str) -> Scope:
        """The scope of `tenant`, which must be that of the row and of its object."""
        scope = Scope(tenant)
        if blob.tenant != tenant or blob.key.partition("/")[0] != tenant:
            raise self._opened.alarms.violated("blobs", f"blob {blob.id}")
        return scope

    # The end

    async def delete(
        self, blob_id: UUID, *, tenant: str = "default", by: Caller | None = None
    ) -> None:
        """Delete a committed blob; its object goes when it is collected. Audit has by whom.

        Raises Conflict while a row of a model refers to it, NotFound.
        """
        async with self._write(by, tenant) as tx:
            rows = await within(tx, self._store.bucket)
            if not await rows.delete(blob_id, tenant):
                raise NotFound(f"There is no blob {blob_id}.", field="id")
            tx.audit("blob.delete", "blob", str(blob_id))

    def _write(self, by: Caller | None, tenant: str) -> AbstractAsyncContextManager[session.Write]:
        """A transaction of who acts for a tenant: a program, if nobody is named."""
        caller = replace(by, tenant=tenant) if by else Caller(PROGRAM, tenant)
        opened = self._opened
        return session.write(opened.database, caller=caller, epoch=opened.epoch)

    async def _told(
        self, by: Caller | None, tenant: str, action: str, blob_id: UUID, detail: dict[str, Any]
    ) -> None:
        async with self._write(by, tenant) as tx:
            tx.audit(action, "blob", str(blob_id), detail)

    async def collect(self, *, grace_s: float = GRACE_S, dry: bool = False) -> Collected:
        """Take away objects that nobody has needed for `grace_s` seconds; `dry`: only count."""
        return await collect(self._rows, await ready_store(self._opened), grace_s=grace_s, dry=dry)


def _lost(blob: Blob) -> ObjectLost:
    what = "damaged" if blob.fault == "damaged" else "lost"
    return ObjectLost(f"The object of blob {blob.id} is {what}.", fix="Restore it from a backup.")
