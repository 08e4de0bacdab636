"""collect: takes away objects that nobody needs any more, after a while and never in a hurry.

An object whose row was deleted, or never committed, goes when that is longer ago than the grace
time; one that no row knows, when it is older than that. Each is asked for again just before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from polyplane.model.blob import BlobState, key_of
from polyplane.reconcile.blobs import TruthOfBlobs, sort_strays, stray_uploads, strays
from polyplane.steps import step
from polyplane.stores.object_protocol import HeldObject, ObjectStore
from polyplane.truth.blobs import Waiting

GRACE_S: Final = 24 * 3600.0


class Collecting(TruthOfBlobs, Protocol):
    """Truth that can let go of blobs."""

    async def expired(self, limit: int = ...) -> list[Waiting]:
        """Pending blobs whose time is over."""
        ...

    async def give_up(self, blob_id: UUID) -> bool:
        """A pending blob will never be; whether it was pending."""
        ...

    async def deleted(self, grace_s: float, limit: int = ...) -> list[Waiting]:
        """Blobs that were deleted so long ago."""
        ...

    async def forget(self, ids: Sequence[UUID]) -> None:
        """Their objects are gone."""
        ...


@dataclass(slots=True)
class Collected:
    """What was taken away; or, asked only to look, what would be.

    `expired` blobs were pending beyond their time and are given up; `blobs` were deleted long ago
    and are forgotten; `orphans` are versions of objects that no row knew, `uploads` were in parts
    and nobody's. `objects` versions of `bytes` in all. `young` orphans and uploads stay for now.
    """

    grace_s: float
    expired: int = 0
    blobs: int = 0
    objects: int = 0
    bytes: int = 0
    orphans: int = 0
    uploads: int = 0
    young: int = 0
    dry: bool = False


async def collect(
    truth: Collecting, store: ObjectStore, *, grace_s: float = GRACE_S, dry: bool = False
) -> Collected:
    """Take away what nobody has needed for `grace_s` seconds; with `dry`, only count it.

    Killed half way it has taken away what it has, and another run does the rest.
    """
    done = Collected(grace_s, dry=dry)
    await _give_up(truth, store, done)
    await _forget(truth, store, done)
    since = datetime.now(UTC) - timedelta(seconds=grace_s)
    async for orphan in strays(truth, store):
        if orphan.modified > since:
            done.young += 1
        elif await _take(truth, store, orphan, done):
            done.orphans += 1
    begun = {it.upload: it.begun for it in await store.uploads()}
    for key, upload in await stray_uploads(truth, store):
        if begun.get(upload, datetime.now(UTC)) > since:
            done.young += 1
            continue
        done.uploads += 1
        if not dry:
            await store.abort(key, upload)
    return done


async def _give_up(truth: Collecting, store: ObjectStore, done: Collected) -> None:
    """What was pending too long is deleted, and from now on waits for the grace time."""
    while expired := await truth.expired():
        done.expired += len(expired)
        if done.dry:
            return
        for it in expired:
            if it.upload:
                await store.abort(it.key, it.upload)
            await truth.give_up(it.id)
            step("blob.given_up")


async def _forget(truth: Collecting, store: ObjectStore, done: Collected) -> None:
    """The objects of what was deleted, unless another blob has the same content; then the rows."""
    while deleted := await truth.deleted(done.grace_s):
        for it in deleted:
            for key in {it.key, key_of(it.tenant, it.id)}:
                rows = await truth.told([key], [])
                if all(row.state is BlobState.DELETED for row in rows):
                    for version in await store.versions_of(key):
                        await _drop(store, version, done)
            step("blob.object_gone")
        done.blobs += len(deleted)
        if done.dry:
            return
        await truth.forget([it.id for it in deleted])


async def _take(truth: Collecting, store: ObjectStore, orphan: HeldObject, done: Collected) -> bool:
    found = await sort_strays(truth, [orphan])
    is_nobodys = bool(found.spare or found.orphans)
    if is_nobodys:
        await _drop(store, orphan, done)
    return is_nobodys


async def _drop(store: ObjectStore, it: HeldObject, done: Collected) -> None:
    done.objects += 1
    done.bytes += it.size
    if not done.dry:
        await store.delete(it.key, version=it.version)
