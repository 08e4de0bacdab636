"""What `plane.acting(caller)` offers: the plane, as that caller may see and change it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, overload
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from polyplane.errors import NotFound, Refused
from polyplane.feed.protocol import Ack, Outgoing, token
from polyplane.flow.content import Source
from polyplane.flow.sending import Progress
from polyplane.model.blob import Blob, BlobState
from polyplane.model.caller import Caller
from polyplane.model.projection import Cached, Vectors
from polyplane.model.saga import In, Saga, SagaRecord
from polyplane.model.scope import Scope
from polyplane.model.stream import Stream
from polyplane.runtime.access import CacheReader, StreamAccess
from polyplane.runtime.blobs import URL_S, Blobs, UploadUrl
from polyplane.runtime.declared import Declared
from polyplane.runtime.graph import Graph
from polyplane.runtime.live import LiveEvents, LivePubSub, LiveStates
from polyplane.runtime.opening import Open
from polyplane.runtime.readers import graph_of, reader_of
from polyplane.runtime.requests import RequestCache, request_cache_of
from polyplane.runtime.searching import VectorReader
from polyplane.runtime.staging import SmallFile, Staged, delete_many, staged
from polyplane.saga.sagas import Sagas
from polyplane.truth import session
from polyplane.truth.repeats import Repeat

V = TypeVar("V", bound=Vectors[Any, Any])
C = TypeVar("C", bound=Cached[Any])
S = TypeVar("S", bound=Stream)

_SUBJECT = re.compile(r"[^\s\x00-\x1f\x7f.*>]+(\.[^\s\x00-\x1f\x7f.*>]+)*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What would end a header, and begin one of NATS's own."""


@asynccontextmanager
async def writing(opened: Open, caller: Caller) -> AsyncIterator[session.Write]:
    """One transaction of `caller`; relays hear of it when it is committed."""
    async with session.write(opened.database, caller=caller, epoch=opened.epoch) as tx:
        yield tx
    repeat = caller.repeat
    if isinstance(repeat, Repeat) and repeat.session is not None:
        repeat.hints = [opened.feed.hint]  # it is committed with the answer
    else:
        await opened.feed.hint()


async def publishing(
    opened: Open, subject: str, body: bytes, headers: Mapping[str, str] | None, before: str = ""
) -> Ack:
    """Put a message on the inbound `subject`; `before` is what its id begins with.

    Raises Refused for what is no subject, or one of several messages.
    """
    if not _SUBJECT.fullmatch(subject):
        raise Refused(f"{subject!r:.200} is not a subject of one message.", field="subject")
    if any(_CONTROL.search(f"{name}{value}") for name, value in (headers or {}).items()):
        raise Refused("A header holds a control character.", field="headers")
    named = dict(headers or {})
    message_id = before + (named.pop("Nats-Msg-Id", "") or str(uuid4()))
    full = f"{opened.feed.subjects.namespace}.inbound.{subject}"
    return await opened.feed.publish(Outgoing(full, body, message_id, named))


class Acting:
    """A plane in the hands of one caller. Nothing of it reads or writes for another tenant."""

    def __init__(self, caller: Caller, declared: Declared, opened: Open) -> None:
        self.caller = caller
        self._declared = declared
        self._opened = opened

    def write(self) -> AbstractAsyncContextManager[session.Write]:
        """One transaction of truth, committed when the block ends; then `tx.token` is known.

        Raises Conflict or Refused for what constraints refuse, TruthDown when PostgreSQL does not
        answer.
        """
        return writing(self._opened, self.caller)

    def read(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A read-only session on one snapshot of truth."""
        return session.read(self._opened.database, caller=self.caller)

    @overload
    def __getitem__(self, declared: type[V]) -> VectorReader[V]: ...
    @overload
    def __getitem__(self, declared: type[C]) -> CacheReader[C]: ...
    @overload
    def __getitem__(self, declared: type[S]) -> StreamAccess: ...
    def __getitem__(self, declared: Any) -> Any:
        """The reader of a projection, or the access to a stream: of what the caller may see."""
        return reader_of(self._declared, self._opened, declared, Scope.of(self.caller))

    @property
    def graph(self) -> Graph:
        """The graph, of which the caller sees what they may."""
        return graph_of(self._declared, self._opened, self.caller)

    @property
    def request_cache(self) -> RequestCache:
        """What the caller's requests load, kept for a while: theirs, or their tenant's."""
        return request_cache_of(self._opened.requests, Scope.of(self.caller))

    @property
    def blobs(self) -> ActingBlobs:
        """The files of the caller's tenant."""
        return ActingBlobs(self.caller, self._opened)

    @property
    def events(self) -> LiveEvents:
        """What happens in the caller's tenant, as it happens."""
        return LiveEvents(self._opened.live, self.caller)

    @property
    def state(self) -> LiveStates:
        """The short-lived states of the caller's tenant."""
        return LiveStates(self._opened.live, self.caller.tenant)

    @property
    def pubsub(self) -> LivePubSub:
        """Messages within the caller's tenant, to who listens at that moment."""
        return LivePubSub(self._opened.live, self.caller.tenant)

    @property
    def sagas(self) -> ActingSagas:
        """The sagas of the caller's tenant."""
        return ActingSagas(self.caller, self._opened.sagas)

    async def publish(
        self, subject: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Ack:
        """Put a message on an inbound stream, durably: `<application>.<inbound>.<rest>`.

        It comes in as `<application>.<inbound>.<tenant>.<rest>`. The header Nats-Msg-Id, when
        given, drops a quick repetition of the same tenant. Raises Refused for a subject that names
        no inbound stream, FeedDown when NATS does not answer.
        """
        application, _, rest = subject.partition(".")
        inbound, _, rest = rest.partition(".")
        if not (application and inbound and rest):
            raise Refused(f"{subject!r} is not <application>.<inbound>.<rest>.", field="subject")
        tenant = token(self.caller.tenant)
        full = f"{application}.{inbound}.{tenant}.{rest}"
        return await publishing(self._opened, full, body, headers, before=f"{tenant}:")


class ActingBlobs:
    """As `plane.blobs`, for the files of one tenant. Each verb: see there."""

    def __init__(self, caller: Caller, opened: Open) -> None:
        self._caller = caller
        self._tenant = caller.tenant
        self._opened = opened
        self._blobs = Blobs(opened, opened.sagas)

    async def put(
        self,
        source: Source,
        *,
        name: str = "",
        content_type: str = "application/octet-stream",
        sha256: str | None = None,
        key: str | None = None,
        progress: Progress | None = None,
    ) -> Blob:
        """Put a file; durable then."""
        return await self._blobs.put(
            source,
            name=name,
            content_type=content_type,
            tenant=self._tenant,
            actor=self._caller.actor,
            sha256=sha256,
            key=key,
            progress=progress,
        )

    async def resume(
        self,
        blob_id: UUID,
        source: Source,
        *,
        sha256: str | None = None,
        progress: Progress | None = None,
    ) -> Blob:
        """Go on with a put that was interrupted."""
        return await self._blobs.resume(
            blob_id,
            source,
            tenant=self._tenant,
            actor=self._caller.actor,
            sha256=sha256,
            progress=progress,
        )

    async def upload_url(
        self,
        name: str,
        size: int,
        *,
        content_type: str = "application/octet-stream",
        expires_s: int = URL_S,
    ) -> UploadUrl:
        """A URL for one PUT of exactly `size` bytes."""
        by, tenant = self._caller, self._tenant
        return await self._blobs.upload_url(
            name, size, content_type=content_type, tenant=tenant, expires_s=expires_s, by=by
        )

    async def confirm(self, blob_id: UUID, *, sha256: str | None = None) -> Blob:
        """Commit what was put by a URL."""
        return await self._blobs.confirm(blob_id, tenant=self._tenant, sha256=sha256)

    async def url(self, blob_id: UUID, *, expires_s: int = URL_S) -> str:
        """A URL that anyone may GET this one content with."""
        by, tenant = self._caller, self._tenant
        return await self._blobs.url(blob_id, tenant=tenant, expires_s=expires_s, by=by)

    async def head(self, blob_id: UUID) -> Blob:
        """What is known of a committed blob."""
        return await self._blobs.head(blob_id, tenant=self._tenant)

    async def open(
        self, blob: Blob | UUID, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """The content, in pieces. NotFound for a blob of another tenant, given or named."""
        known = await self.head(blob.id if isinstance(blob, Blob) else blob)
        async for piece in self._blobs.open(known.id, start=start, end=end, tenant=self._tenant):
            yield piece

    async def list(
        self,
        *,
        states: Sequence[BlobState] = (BlobState.COMMITTED,),
        after: UUID | None = None,
        limit: int = 50,
    ) -> Sequence[Blob]:
        """The newest blobs, of those older than `after`."""
        return await self._blobs.list(tenant=self._tenant, states=states, after=after, limit=limit)

    async def delete(self, blob_id: UUID) -> None:
        """Delete a committed blob."""
        await self._blobs.delete(blob_id, tenant=self._tenant, by=self._caller)

    def staged(self, files: Sequence[SmallFile]) -> AbstractAsyncContextManager[Staged]:
        """Many small files, durable, and there once a transaction is::

            async with acting.blobs.staged(files) as staged, acting.write() as tx:
                ids = await staged.commit(tx)

        Each is its name, content type and content. They share one barrier, and equal contents one
        object. At most 1,000, each of at most 64 MiB: TooLarge. What is never committed is given
        up after a day.
        """
        return staged(self._opened, self._tenant, files)

    async def delete_many(self, tx: session.Write, ids: Sequence[UUID]) -> int:
        """Delete committed blobs if and only if `tx` commits; how many are. Conflict while a row
        refers to one of them.
        """
        if tx.tenant != self._tenant:
            raise Refused("The transaction is another tenant's.", field="tx")
        return await delete_many(self._opened, tx, ids)


class ActingSagas:
    """As `plane.sagas`, for the sagas of one tenant. NotFound for another's."""

    def __init__(self, caller: Caller, sagas: Sagas) -> None:
        self._caller = caller
        self._sagas = sagas

    async def start(
        self,
        saga: type[Saga[In]],
        input: In,
        *,
        key: str | None = None,
        tx: session.Write | None = None,
    ) -> UUID:
        """Start a saga of the caller; its id. Refused for a `tx` of another tenant."""
        if tx is not None and tx.tenant != self._caller.tenant:
            raise Refused("The transaction is another tenant's.", field="tx")
        caller = self._caller
        return await self._sagas.start(
            saga, input, actor=caller.actor, tenant=caller.tenant, key=key, tx=tx
        )

    async def finished(self, saga_id: UUID, *, timeout_s: float = 60.0) -> SagaRecord:
        """Return when the saga has ended."""
        await self.show(saga_id)
        return await self._sagas.finished(saga_id, timeout_s=timeout_s)

    async def signal(
        self, saga_id: UUID, name: str, payload: Any = None, *, tx: session.Write | None = None
    ) -> bool:
        """Give a saga what it waits for; whether it was the first."""
        await self.show(saga_id)
        return await self._sagas.signal(saga_id, name, payload, tx=tx)

    async def find(self, saga: type[Saga[Any]], key: str) -> UUID | None:
        """The id of the saga that was started with `key`, or None."""
        return await self._sagas.find(saga, key, tenant=self._caller.tenant)

    async def show(self, saga_id: UUID) -> SagaRecord:
        """One saga with its steps."""
        found = await self._sagas.show(saga_id)
        if found.tenant != self._caller.tenant:
            raise NotFound(f"There is no saga {saga_id}.", fix="See: polyplane sagas list")
        return found

    async def list(
        self,
        *,
        state: str | None = None,
        name: str | None = None,
        after: UUID | None = None,
        limit: int = 50,
    ) -> Sequence[SagaRecord]:
        """The latest sagas first, without their steps."""
        if after is not None:
            await self.show(after)  # a place in the list of another tenant's would tell of it
        return await self._sagas.list(
            state=state, name=name, tenant=self._caller.tenant, after=after, limit=limit
        )

    async def cancel(self, saga_id: UUID, why: str = "Cancelled.") -> SagaRecord:
        """Undo a saga, from wherever it is."""
        await self.show(saga_id)
        return await self._sagas.cancel(saga_id, why)

    async def retry(self, saga_id: UUID, *, anyway: bool = False) -> SagaRecord:
        """Try again at once what waits, or is stuck."""
        await self.show(saga_id)
        return await self._sagas.retry(saga_id, anyway=anyway)
