"""How a file becomes a blob: a small one by one request, a large one in parts, by a saga."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from polyplane.errors import Conflict, NotFound, NotSettled, Refused
from polyplane.flow.content import Content, Reader, Source, reading
from polyplane.flow.sending import Progress, Sending
from polyplane.model.blob import NAME_MAX, Blob, BlobState, key_of, part_bytes
from polyplane.runtime.opening import Open
from polyplane.runtime.uploads import (
    COMPLETE_TIMEOUT_S,
    PENDING_S,
    Begun,
    BlobUpload,
    discard,
    ready_store,
    store_of,
)
from polyplane.saga.sagas import Sagas
from polyplane.steps import step
from polyplane.stores.object_protocol import HeldObject, ObjectStore
from polyplane.truth.blobs import BlobRows, rows_of, transaction

_BEGIN_TIMEOUT_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.01
_GIVEN_UP: Final = "This upload was given up."
_ANEW: Final = "Put the file again."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is said of a file that is put (see `Blobs.put`)."""

    name: str
    content_type: str
    tenant: str
    actor: str = ""
    sha256: str | None = None
    progress: Progress | None = None


def check_described(wanted: Wanted) -> None:
    """Raise Refused for a name, type or digest that cannot be kept."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", wanted.tenant):  # part of the object's key
        raise Refused("A tenant has 1 to 64 letters, digits, - and _.", field="tenant")
    if len(wanted.name) > NAME_MAX or "\0" in wanted.name:
        raise Refused(f"A name has at most {NAME_MAX:,} characters, and no NUL.", field="name")
    kind = wanted.content_type
    if not kind.isascii() or not kind.isprintable() or not 0 < len(kind) <= 255:
        raise Refused("This is no media type.", field="content_type")
    digest = wanted.sha256
    if digest is not None and (len(digest) != 64 or not set(digest) <= set("0123456789abcdef")):
        raise Refused("A SHA-256 has 64 hexadecimal digits, in lower case.", field="sha256")


def check_digest(found: str, wanted: str | None) -> None:
    """Raise Refused when a content has not the digest that was said."""
    if wanted not in (None, found):
        raise Refused("The content has another SHA-256 than was said.", field="sha256")


class Putting:
    """Puts files on an open plane."""

    def __init__(self, opened: Open, sagas: Sagas) -> None:
        self._opened = opened
        self._sagas = sagas

    @property
    def _store(self) -> ObjectStore:
        return store_of(self._opened)

    @property
    def _rows(self) -> BlobRows:
        return rows_of(self._opened.database, self._store.bucket)

    async def new(self, source: Source, wanted: Wanted, key: str | None) -> Blob:
        """A file that was not put before; `key`: see `Blobs.put`."""
        check_described(wanted)
        await ready_store(self._opened)
        async with reading(source) as reader:
            first = await reader.next()
            blob_id = await self._rows.new_id()
            if len(first.bytes) == part_bytes(1):
                reader.put_back(first)
                del first
                return await self._in_parts(blob_id, reader, wanted, key)
            check_digest(reader.sha256, wanted.sha256)
            is_new = await self._rows.reserve(
                blob_id,
                tenant=wanted.tenant,
                name=wanted.name,
                content_type=wanted.content_type,
                key=key_of(wanted.tenant, blob_id),
                expires_s=PENDING_S,
                idempotency_key=key,
            )
            if not is_new:
                raise Conflict("Another put has this key at this moment.", fix="Do it again.")
            step("blob.reserved")
            return await self._whole(blob_id, first, wanted)

    async def again(self, known: Blob, source: Source, wanted: Wanted) -> Blob:
        """A file that was begun before, or is there already."""
        if known.state is BlobState.COMMITTED:
            if wanted.sha256 not in (None, known.sha256):
                raise Conflict("This key was used for another content.", fix="Use another key.")
            return known
        if known.state is BlobState.DELETED:
            raise Conflict(_GIVEN_UP, fix=_ANEW)
        check_described(wanted)
        async with reading(source) as reader:
            first = await reader.next()
            if len(first.bytes) == part_bytes(1):
                reader.put_back(first)
                del first
                return await self._in_parts(known.id, reader, wanted, None)
            if await self._rows.upload(known.id) is not None:
                raise Conflict("This content is shorter than what the upload was begun with.")
            check_digest(reader.sha256, wanted.sha256)
            blob = await self._whole(known.id, first, wanted)
        # What was put by who died is nobody's, now that the row says which version it is.
        await discard(self._store, known.key, blob)
        return blob

    async def _whole(self, blob_id: UUID, content: Content, wanted: Wanted) -> Blob:
        """Put a small one, in one request."""
        key = key_of(wanted.tenant, blob_id)
        put = await self._store.put(key, content.bytes, content_type=wanted.content_type)
        step("blob.put")
        blob = await self.commit(blob_id, wanted.tenant, put, content.prefix_sha256)
        if wanted.progress is not None:
            wanted.progress(len(content.bytes))
        return blob

    async def commit(self, blob_id: UUID, tenant: str, put: HeldObject, sha256: str) -> Blob:
        """Make an object durable that is whole, and say that its blob is there."""
        await self._store.barrier()
        step("blob.synced")
        async with transaction(self._opened.database, self._store.bucket) as rows:
            blob = await rows.commit(
                blob_id,
                tenant=tenant,
                sha256=sha256,
                size=put.size,
                etag=put.etag,
                version=put.version,
            )
        step("blob.committed")
        if (blob.key, blob.version) != (put.key, put.version):
            await discard(self._store, put.key, blob)
        return blob

    async def _in_parts(
        self, blob_id: UUID, reader: Reader, wanted: Wanted, key: str | None
    ) -> Blob:
        """Put a large one, through the saga; or go on with it."""
        saga = await self._saga(blob_id, wanted, key)
        upload = await self._begun(saga, blob_id)
        if upload is None:
            return await self._finished(saga, blob_id, wanted.tenant)
        object_key = key_of(wanted.tenant, blob_id)
        noted = {it.number: it for it in await self._rows.parts(blob_id)}
        try:
            held = {it.number: it for it in await self._store.parts(object_key, upload)}
        except NotFound:  # completed, by a saga that is just about to say so
            return await self._finished(saga, blob_id, wanted.tenant)
        sending = Sending(
            blob_id,
            object_key,
            upload,
            self._store,
            self._rows,
            noted=noted,
            held=held,
            progress=wanted.progress,
        )
        sent = await sending.run(reader)
        if wanted.sha256 not in (None, sent.sha256):
            await self._sagas.cancel(saga, "It had another digest than was said.")
        check_digest(sent.sha256, wanted.sha256)
        step("blob.sent")
        said = {"size": sent.size, "sha256": sent.sha256, "parts": sent.parts}
        await self._sagas.signal(saga, "sent", said)
        return await self._finished(saga, blob_id, wanted.tenant)

    async def _saga(self, blob_id: UUID, wanted: Wanted, key: str | None) -> UUID:
        """The saga of this upload, which is begun if it was not."""
        name = f"blob {blob_id}"
        known = await self._sagas.find(BlobUpload, name, tenant=wanted.tenant)
        if known is not None:
            return known
        begun = Begun(
            blob=str(blob_id),
            name=wanted.name,
            content_type=wanted.content_type,
            idempotency_key=key,
        )
        return await self._sagas.start(
            BlobUpload, begun, actor=wanted.actor, tenant=wanted.tenant, key=name
        )

    async def _begun(self, saga: UUID, blob_id: UUID) -> str | None:
        """Wait until the object store takes parts; None when there is nothing left to send: another
        process has gone on with an upload whose parts were all sent.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _BEGIN_TIMEOUT_S
        while (upload := await self._rows.upload(blob_id)) is None:
            record = await self._sagas.show(saga)
            if record.state == "done":
                return None
            if record.state != "running":
                raise Conflict(record.error or _GIVEN_UP, fix=_ANEW)
            if loop.time() > until:
                raise NotSettled(
                    "No process has begun this upload.", fix="Run a plane with flows: polyplane up"
                )
            await asyncio.sleep(_LOOK_EVERY_S)
        return upload

    async def _finished(self, saga: UUID, blob_id: UUID, tenant: str) -> Blob:
        record = await self._sagas.finished(saga, timeout_s=2 * COMPLETE_TIMEOUT_S)
        blob = await self._rows.get(blob_id, tenant)
        if blob.state is not BlobState.COMMITTED:
            raise Conflict(record.error or _GIVEN_UP, fix=_ANEW)
        return blob
