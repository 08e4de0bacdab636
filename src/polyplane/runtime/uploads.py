"""The upload of a blob in parts, as a saga: whoever dies meanwhile, it is whole or nothing is left.

The saga does what any process can: begin, complete, make durable, commit; or undo it all. Between
begin and complete it waits for who has the content, and sends it (see `flow.sending`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, TypedDict
from uuid import UUID

import structlog

from polyplane.errors import Misconfigured, NotFound, PolyplaneError, Refused, SagaRefused
from polyplane.model.blob import Blob, BlobState, composite_etag, key_of
from polyplane.model.saga import Context, Saga, local, remote, signal
from polyplane.model.scope import Scope
from polyplane.runtime.declared import Declared
from polyplane.runtime.opening import Open
from polyplane.steps import step
from polyplane.stores.object_protocol import HeldPart, ObjectStore
from polyplane.truth.blobs import BlobRows, rows_of, within
from polyplane.truth.session import Write

_log = structlog.get_logger(__name__)

PENDING_S: Final = 24 * 3600.0
"""How long a blob may be pending."""
COMPLETE_TIMEOUT_S: Final = 600.0
"""S3 may take minutes to make one object of many parts."""


class Begun(TypedDict):
    """What an upload is begun with."""

    blob: str
    name: str
    content_type: str
    idempotency_key: str | None


def store_of(opened: Open) -> ObjectStore:
    """The object store; Misconfigured when the plane has none."""
    if opened.stores.objects is None:
        raise Misconfigured(
            "This plane keeps no blobs.",
            fix="Plane(blobs=True), or refer to them in a model with Blob.reference().",
        )
    return opened.stores.objects


def with_uploads(declared: Declared) -> Declared:
    """`declared`, with the saga that uploads of files need, if it keeps any."""
    if not declared.blobs:
        return declared
    return replace(declared, sagas=(*declared.sagas, BlobUpload))


async def ready_store(opened: Open) -> ObjectStore:
    """The object store, whose bucket is there and as it must be."""
    store = store_of(opened)
    if not opened.stores.objects_ready:
        await store.prepare()
        opened.stores.objects_ready = True
    return store


def _about(context: Context[Begun]) -> tuple[UUID, str, ObjectStore, BlobRows]:
    opened: Open = context.plane.opened
    blob_id, store = UUID(context.input["blob"]), store_of(opened)
    return blob_id, key_of(context.tenant, blob_id), store, rows_of(opened.database, store.bucket)


async def reserve(tx: Write, context: Context[Begun]) -> None:
    """Note the blob as pending."""
    blob_id, key, store, _ = _about(context)
    rows, given = await within(tx, store.bucket), context.input
    is_new = await rows.reserve(
        blob_id,
        tenant=context.tenant,
        name=given["name"],
        content_type=given["content_type"],
        key=key,
        expires_s=PENDING_S,
        idempotency_key=given["idempotency_key"],
    )
    if not is_new:  # it was put as a small one before, and grew; or its key is another one's
        try:
            found = await rows.get(blob_id, context.tenant)
        except NotFound:
            raise SagaRefused("Another blob has this idempotency key.") from None
        if found.state is not BlobState.PENDING:
            raise SagaRefused("This blob is not pending any more.")


async def unreserve(tx: Write, context: Context[Begun]) -> None:
    """It will never be."""
    blob_id, _, store, _ = _about(context)
    await (await within(tx, store.bucket)).give_up(blob_id)


async def begin(context: Context[Begun]) -> dict[str, str]:
    """Begin the upload; or find the one that was begun and never noted."""
    blob_id, key, store, rows = _about(context)
    begun = [it.upload for it in await store.uploads(key)]
    content_type = context.input["content_type"]
    upload = begun[0] if begun else await store.begin(key, content_type=content_type)
    step("blob.begun")
    if not await rows.begun(blob_id, upload):
        raise PolyplaneError("This blob is not pending any more.")
    return {"upload": upload}


async def abort(context: Context[Begun]) -> None:
    """Leave nothing behind: no upload with its parts, and no object."""
    blob_id, key, store, rows = _about(context)
    try:
        if (await rows.get(blob_id, context.tenant)).state is BlobState.COMMITTED:
            return  # cancelled too late
    except NotFound:
        pass  # nobody has noted it; but the store may have something
    for it in await store.uploads(key):
        await store.abort(key, it.upload)
    for version in await store.versions_of(key):
        await store.delete(key, version=version.version)
    step("blob.aborted")


async def complete(context: Context[Begun]) -> dict[str, Any]:
    """Make one object of the parts, and see that it is the one that was sent."""
    blob_id, key, store, rows = _about(context)
    sent, parts = context.results["sent"], await rows.parts(blob_id)
    if (len(parts), sum(it.size for it in parts)) != (sent["parts"], sent["size"]):
        raise SagaRefused("The parts that are noted are not all that was sent.")
    if parts[-1].prefix_sha256 != sent["sha256"]:
        raise SagaRefused("The parts that are noted have another digest than all that was sent.")
    upload = context.results["begin"]["upload"]
    try:
        await store.complete(key, upload, [HeldPart(it.number, it.size, it.etag) for it in parts])
    except Refused as refused:
        if not isinstance(refused, NotFound):
            raise SagaRefused(refused.message) from refused
        # Completed before, by somebody who died and told nobody; or else `head` finds nothing.
    step("blob.completed")
    try:
        found = await store.head(Scope(context.tenant), key)
    except NotFound as error:
        raise SagaRefused("The object store knows nothing of this upload any more.") from error
    wanted = composite_etag([it.etag for it in parts])
    if found.size != sent["size"] or wanted not in (None, found.etag):
        raise SagaRefused("The object store has made another object of the parts.")
    return {"etag": found.etag, "version": found.version}


async def make_durable(context: Context[Begun]) -> None:
    """Only what survives a power cut is committed."""
    _, _, store, _ = _about(context)
    await store.barrier()
    step("blob.durable")


async def commit(tx: Write, context: Context[Begun]) -> dict[str, str]:
    """The blob is there, for everybody, from now on."""
    blob_id, _, store, _ = _about(context)
    sent, made = context.results["sent"], context.results["complete"]
    rows = await within(tx, store.bucket)
    blob = await rows.commit(
        blob_id,
        tenant=context.tenant,
        sha256=sent["sha256"],
        size=sent["size"],
        etag=made["etag"],
        version=made["version"],
    )
    step("blob.committing")
    return {"key": blob.key, "version": blob.version or ""}


async def spare(context: Context[Begun]) -> None:
    """Where the content was there already, the object that was made now is nobody's."""
    blob_id, key, store, rows = _about(context)
    made, kept = context.results["complete"], context.results["commit"]
    if (key, made["version"]) != (kept["key"], kept["version"]):
        await discard(store, key, await rows.get(blob_id, context.tenant))


async def discard(store: ObjectStore, key: str, blob: Blob) -> None:
    """Drop what is at `key`, where `blob` was put, and it does not refer to; it is committed.

    What cannot be dropped now is collected later.
    """
    try:
        for it in await store.versions_of(key):
            if (key, it.version) != (blob.key, blob.version):
                await store.delete(key, version=it.version)
    except PolyplaneError as error:
        _log.warning("blob.spare_left", key=key, error=error.message)


class BlobUpload(Saga[Begun]):
    """A blob in parts."""

    version = 1
    steps = (
        local(reserve, undo=unreserve),
        remote(begin, undo=abort),
        signal("sent", deadline_s=PENDING_S),
        remote(complete, timeout_s=COMPLETE_TIMEOUT_S),
        remote(make_durable, timeout_s=COMPLETE_TIMEOUT_S),
        local(commit),
        remote(spare),
    )
