"""Many small files at once: their objects are put side by side and made durable by one barrier;
their blobs are there with whatever else a transaction writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final
from uuid import UUID

from polyplane.errors import Refused, TooLarge
from polyplane.model.blob import key_of
from polyplane.runtime.opening import Open
from polyplane.runtime.putting import Wanted, check_described
from polyplane.runtime.uploads import PENDING_S, discard, ready_store, store_of
from polyplane.steps import step
from polyplane.truth.blob_batches import MANY_MAX, BlobBatches, Named, Stored
from polyplane.truth.blobs import rows_of, running_on
from polyplane.truth.session import Write

AT_ONCE: Final = 16
"""Objects on their way to the store."""


FILE_BYTES_MAX: Final = 64 << 20
"""Of one of them: it is put in one request."""

SmallFile = tuple[str, str, bytes]
"""Its name, content type and content."""


class Staged:
    """Files whose objects are durable, and that are not there yet: see `ActingBlobs.staged`."""

    def __init__(
        self, opened: Open, tenant: str, named: Sequence[Named], stored: Sequence[Stored]
    ) -> None:
        self._opened = opened
        self._tenant = tenant
        self._named = named
        self._stored = {it.sha256: it for it in stored}
        self._committed: dict[UUID, tuple[str, str]] = {}

    async def commit(self, tx: Write) -> list[UUID]:
        """Their blobs, in the order of the files, if and only if `tx` commits.

        Raises Refused for a transaction of another tenant; Conflict when a file of the same content
        was deleted meanwhile: stage them again.
        """
        if tx.tenant != self._tenant:
            raise Refused("The transaction is another tenant's.", field="tx")
        if not self._named:
            return []
        batches = await _within(tx, self._opened, self._tenant)
        await batches.wait_for([it.sha256 for it in self._named])
        own, ids = dict(self._stored), [UUID(int=0)] * len(self._named)
        others = []
        for index, named in enumerate(self._named):
            first = own.pop(named.sha256, None)  # of equal ones the first has been put
            if first is None:
                others.append(index)
            else:
                ids[index] = first.id
        if self._stored:
            self._committed = await batches.commit(list(self._stored.values()))
        if others:
            shared = await batches.share([self._named[index] for index in others])
            for index, id in zip(others, shared, strict=True):
                ids[index] = id
        step("blob.many_committing")
        return ids

    async def spare(self) -> None:
        """Drop the objects of contents that somebody else has put meanwhile."""
        store, rows = store_of(self._opened), None
        for it in self._stored.values():
            key = key_of(self._tenant, it.id)
            if self._committed.get(it.id, (key, it.version)) != (key, it.version):
                rows = rows or rows_of(self._opened.database, store.bucket)
                await discard(store, key, await rows.get(it.id, self._tenant))


@asynccontextmanager
async def staged(opened: Open, tenant: str, files: Sequence[SmallFile]) -> AsyncIterator[Staged]:
    """The files, durable and not there yet; they are once `commit` is. What is never committed is
    given up after a day.
    """
    if len(files) > MANY_MAX:
        raise TooLarge(f"At most {MANY_MAX:,} files are put at once.", field="files")
    named = await asyncio.to_thread(_named, tenant, files)
    store = await ready_store(opened)
    batches = BlobBatches(opened.database.rows, store.bucket, tenant)
    held = await batches.held(sorted({it.sha256 for it in named})) if named else set()
    first = {it.sha256: index for index, it in reversed([*enumerate(named)])}
    new = [index for digest, index in first.items() if digest not in held]
    ids = await batches.reserve([named[it] for it in new], expires_s=PENDING_S) if new else []
    step("blob.many_reserved")
    free = asyncio.Semaphore(AT_ONCE)

    async def put(index: int, id: UUID) -> Stored:
        (_, content_type, content), it = files[index], named[index]
        async with free:
            made = await store.put(key_of(tenant, id), content, content_type=content_type)
        return Stored(id, it.sha256, made.size, made.etag, made.version)

    try:
        async with asyncio.TaskGroup() as group:
            putting = [group.create_task(put(*it)) for it in zip(new, ids, strict=True)]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    step("blob.many_put")
    if putting:
        await store.barrier()
    step("blob.many_synced")
    made = Staged(opened, tenant, named, [it.result() for it in putting])
    yield made
    await made.spare()


async def delete_many(opened: Open, tx: Write, ids: Sequence[UUID]) -> int:
    """Delete committed blobs of the transaction's tenant with it; how many were."""
    return await (await _within(tx, opened, tx.tenant)).delete(ids) if ids else 0


def _named(tenant: str, files: Sequence[SmallFile]) -> list[Named]:
    named = []
    for name, content_type, content in files:
        check_described(Wanted(name, content_type, tenant))
        if len(content) > FILE_BYTES_MAX:
            raise TooLarge(f"One has at most {FILE_BYTES_MAX:,} bytes.", fix="Put it alone.")
        named.append(Named(name, content_type, sha256(content).hexdigest(), len(content)))
    return named


async def _within(tx: Write, opened: Open, tenant: str) -> BlobBatches:
    return BlobBatches(await running_on(tx), store_of(opened).bucket, tenant)
