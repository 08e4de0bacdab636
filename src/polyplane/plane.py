"""The plane: the composition root, and what applications hold in their hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar, overload

from sqlalchemy.ext.asyncio import AsyncSession

from polyplane.access.identity import Identity
from polyplane.errors import Misconfigured
from polyplane.feed.protocol import Ack
from polyplane.flow.settling import caught_up, settled
from polyplane.model.application import Application
from polyplane.model.blob import Blob
from polyplane.model.caller import Caller
from polyplane.model.drift import Drift, Far, Mended
from polyplane.model.position import Token
from polyplane.model.projection import Cached, Projection, Vectors
from polyplane.model.saga import Saga
from polyplane.model.scope import Scope
from polyplane.model.stream import Stream
from polyplane.model.table import Model
from polyplane.ops.health import Health, examine
from polyplane.ops.lag import ProjectionLag, lags
from polyplane.runtime.access import CacheReader, StreamAccess
from polyplane.runtime.acting import Acting, publishing, writing
from polyplane.runtime.auditing import Audit
from polyplane.runtime.blobs import Blobs
from polyplane.runtime.checks import checks_of, sagas_of, work_of
from polyplane.runtime.declared import Declared
from polyplane.runtime.embeddings import Embeddings
from polyplane.runtime.generations import Rebuilt, Telling
from polyplane.runtime.graph import Graph
from polyplane.runtime.keeping import prune
from polyplane.runtime.keys import Keys
from polyplane.runtime.live import LiveEvents, LivePubSub, LiveStates
from polyplane.runtime.moving import start_flow, start_watching
from polyplane.runtime.opening import Open, for_worker, open_all
from polyplane.runtime.proving import chosen, current, mend, mendable
from polyplane.runtime.readers import graph_of, reader_of
from polyplane.runtime.requests import RequestCache, request_cache_of
from polyplane.runtime.searching import VectorReader
from polyplane.runtime.transformations import Transformations
from polyplane.runtime.uploads import with_uploads
from polyplane.saga.sagas import Sagas
from polyplane.settings import Settings
from polyplane.stores.protocol import CacheStore
from polyplane.stores.visitors import RateLimiter
from polyplane.truth import session

V = TypeVar("V", bound=Vectors[Any, Any])
C = TypeVar("C", bound=Cached[Any])
S = TypeVar("S", bound=Stream)
T = TypeVar("T")

VERIFY_TIMEOUT_S: Final = 60.0
REBUILD_TIMEOUT_S: Final = 3600.0


class Plane:
    """Truth, feed, stores and what keeps them equal.

    Declare what there is, then `async with plane:` starts the embedded engines that no URL
    replaces, migrates, captures, and (with `flows`) moves data in this process until the block
    ends. Two planes in one process do not know each other.
    """

    def __init__(
        self,
        *,
        models: Sequence[type[Model]] = (),
        projections: Sequence[type[Projection[Any]]] = (),
        streams: Sequence[type[Stream]] = (),
        sagas: Sequence[type[Saga[Any]]] = (),
        applications: Sequence[Application] = (),
        home: str | Path | None = None,
        settings: Settings | None = None,
        flows: bool = True,
        worker: bool = False,
        blobs: bool = False,
    ) -> None:
        """Raises Misconfigured when the declarations contradict each other.

        A `worker` only takes a share of what another plane projects, and of its sagas. Files are
        kept with `blobs`, or where an application or a `Blob.reference()` needs them."""
        self.settings = settings or Settings.load(home=Path(home) if home else None)
        given = with_uploads(Declared.of(applications, models, projections, streams, sagas, blobs))
        self.declared = for_worker(given, self.settings) if worker else given
        self._flows, self._is_worker = flows, worker
        self._stack: AsyncExitStack | None = None
        self._open: Open | None = None

    # Opening and closing

    async def open(self, tell: Callable[[str], None] | None = None) -> None:
        """Open everything; `tell` hears what happens. On failure nothing is left open."""
        if self._stack is not None:
            raise Misconfigured("This plane is open already.")
        tell = tell or (lambda _: None)
        how = {"moves": self._flows, "is_worker": self._is_worker}
        async with AsyncExitStack() as stack:
            opened = await open_all(self.declared, self.settings, stack, tell, **how)
            if self._flows:
                await start_flow(self.declared, opened, self, self.settings.home, stack)
            else:
                start_watching(opened, stack)
            self._open = opened
            self._stack = stack.pop_all()

    async def close(self) -> None:
        """Stop moving data, close every connection, stop the engines. Safe to call twice."""
        stack, self._stack = self._stack, None
        try:
            if stack is not None:
                await stack.aclose()
        finally:
            self._open = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def opened(self) -> Open:
        """What is open; Misconfigured before and after."""
        if self._open is None:
            raise Misconfigured("This plane is not open.", fix="Use it inside: async with plane:")
        return self._open

    @property
    def namespace(self) -> str:
        """The prefix of streams, subjects and cache keys."""
        return self.settings.namespace

    # Truth

    @asynccontextmanager
    async def write(self, *, actor: str, tenant: str = "default") -> AsyncIterator[session.Write]:
        """One transaction of truth, committed when the block ends; then `tx.token` is known.

        Raises Conflict or Refused for what constraints refuse, TruthDown when PostgreSQL does not
        answer.
        """
        async with writing(self.opened, Caller(actor, tenant)) as tx:
            yield tx

    def read(self, *, tenant: str = "default") -> AbstractAsyncContextManager[AsyncSession]:
        """A read-only session on one snapshot of truth."""
        return session.read(self.opened.database, caller=Caller("", tenant))

    async def settled(
        self,
        token: Token | None,
        *projections: type[Projection[Any]],
        timeout_s: float = 10.0,
    ) -> None:
        """Return when `projections` (default: all) show the write that gave `token`.

        Raises NotSettled when they do not within `timeout_s` seconds. A token of an older epoch,
        or None (nothing was written), is settled.
        """
        opened, names = self.opened, [it.name for it in projections]
        if token is None or token.epoch != opened.epoch:
            return
        left_s = await current(self.opened, names, timeout_s)
        reads = partial(opened.generations.reads, names)
        await settled(opened.journal, token, reads, timeout_s=left_s)

    async def caught_up(self, *projections: type[Projection[Any]], timeout_s: float = 60.0) -> None:
        """Return when `projections` (default: all) have applied all that is committed by now.

        Raises NotSettled when they have not within `timeout_s` seconds.
        """
        opened, names = self.opened, [projection.name for projection in projections]
        left_s = await current(self.opened, names, timeout_s)
        reads = partial(opened.generations.reads, names)
        await caught_up(opened.journal, lambda: opened.epoch, reads, timeout_s=left_s)

    @property
    def sagas(self) -> Sagas:
        """Start sagas, wait for them, look at them; with `flows` this process does them, too."""
        return self.opened.sagas

    @property
    def transformations(self) -> Transformations:
        """Have rows of one model made into rows of another; with `flows` this process does it."""
        return Transformations(self.declared, self.opened)

    # Stores

    @overload
    def __getitem__(self, declared: type[V]) -> VectorReader[V]: ...
    @overload
    def __getitem__(self, declared: type[C]) -> CacheReader[C]: ...
    @overload
    def __getitem__(self, declared: type[S]) -> StreamAccess: ...
    def __getitem__(self, declared: Any) -> Any:
        """The reader of a projection, or the access to a stream, that this plane declares.

        Raises Misconfigured for what belongs to tenants or owners: see `acting`.
        """
        return reader_of(self.declared, self.opened, declared, None)

    @property
    def graph(self) -> Graph:
        """The graph, where it belongs to nobody; `acting` for what belongs to tenants."""
        return graph_of(self.declared, self.opened, None)

    def acting(self, caller: Caller) -> Acting:
        """The plane as `caller` may see and change it: what belongs to tenants is read so."""
        return Acting(caller, self.declared, self.opened)

    async def publish(
        self, subject: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Ack:
        """Put a message on an inbound stream, durably, as an outside program would.

        `subject` is `<application>.<inbound>.<rest>`. The header Nats-Msg-Id, when given, lets the
        feed drop a quick repetition. Raises FeedDown when NATS does not answer.
        """
        return await publishing(self.opened, subject, body, headers)

    @property
    def cache(self) -> CacheStore:
        """The cache itself; Misconfigured when the plane has none."""
        if self.opened.stores.cache is None:
            raise Misconfigured("This plane has no cache.", fix="Set REDIS_URL or a home.")
        return self.opened.stores.cache

    @property
    def identity(self) -> Identity:
        """Who comes in: users, their sessions, API keys, organizations and members."""
        return self.opened.identity

    @property
    def limits(self) -> RateLimiter:
        """Rate limits: in the cache (`ratelimit:<client>`), else this process's share of them."""
        return self.opened.limits

    @property
    def events(self) -> LiveEvents:
        """What happens in the tenant `default`, as it happens; `acting` for others."""
        return self.acting(Caller("")).events

    @property
    def state(self) -> LiveStates:
        """The short-lived states of the tenant `default`; `acting` for others."""
        return self.acting(Caller("")).state

    @property
    def pubsub(self) -> LivePubSub:
        """Messages to who listens now in the tenant `default`; `acting` for others."""
        return self.acting(Caller("")).pubsub

    @property
    def request_cache(self) -> RequestCache:
        """What is loaded for nobody in particular, kept for a while; see `acting`, too."""
        return request_cache_of(self.opened.requests, Scope.everything)

    @property
    def embeddings(self) -> Embeddings:
        """The vectors that cost something: what was spent (`usage`), and `forget`."""
        return self.opened.embeddings

    @property
    def blobs(self) -> Blobs:
        """The files; each call raises Misconfigured when the plane keeps none."""
        return Blobs(self.opened, self.sagas)

    async def kept(self, name: str, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """What `make` gives on entering, made once under this name, and left with the plane."""
        return await self.opened.kept.get(name, make)

    @property
    def keys(self) -> Keys:
        """The keys of secrets."""
        return Keys(self.declared, self.opened, self.settings)

    @property
    def audit(self) -> Audit:
        """Who did what: leave a line, look at them, prove them."""
        return Audit(self.opened, self.settings)

    # Proof and state

    async def verify(
        self,
        *declared: type[Projection[Any]] | type[Stream] | type[Blob] | type[RequestCache],
        deep: bool = False,
        sample: int | None = None,
        seed: int = 0,
        timeout_s: float = VERIFY_TIMEOUT_S,
        progress: Callable[[Far], None] | None = None,
        bookmark: Path | None = None,
        resume: bool = False,
    ) -> Drift:
        """Compare what stores really hold with derive(truth), and streams and blobs with what is
        known of them: what is `declared` (`Blob`: the files; `RequestCache`), or all.

        `deep` compares contents (vectors embedded anew), and not only digests. `sample` looks only
        at so many rows of each projection, chosen by `seed`, and at no stream or file unless it is
        named: it finds what is missing or stale among them, and nothing extra.
        `progress` hears how far it is. In the file `bookmark` stands how far it is, until it ends;
        with `resume` it goes on from there. Raises Conflict when that was another one;
        NotSettled when a projection has not applied what is committed within `timeout_s` seconds.
        """
        proving = chosen(declared, self.declared, self.opened, sample)
        if proving.names:
            await current(self.opened, proving.names, timeout_s)
        how: dict[str, Any] = {"deep": deep, "seed": seed, "timeout_s": timeout_s, "resume": resume}
        return await replace(proving, bookmark=bookmark, **how).run(self.opened, progress)

    async def repair(
        self,
        *projections: type[Projection[Any]] | type[Blob] | type[RequestCache],
        deep: bool = False,
        dry: bool = False,
        timeout_s: float = VERIFY_TIMEOUT_S,
        progress: Callable[[Far], None] | None = None,
    ) -> Mended:
        """Verify (see there for `deep`), mend exactly what is found, and look at those keys again.

        With `dry` nothing is mended: what is found is left.
        Goes through the changes of truth, so it needs flows, here or elsewhere. What streams and
        blobs lose can only be restored: streams are not looked at, blobs marked for readers. Raises
        NotSettled when a projection has not applied its changes within `timeout_s` seconds.
        """
        every = projections or mendable(self.declared, self.opened)
        if not every:
            return Mended(Drift.of(()), Drift.of(()))
        found = await self.verify(*every, deep=deep, timeout_s=timeout_s, progress=progress)
        return Mended(found, found) if dry else await mend(self.opened, found, timeout_s)

    async def health(self) -> Health:
        """Every engine asked at once, each with its own deadline; and what this process is at."""
        work = [*work_of(self.opened), *await sagas_of(self.opened)]
        return await examine(checks_of(self.opened), work)

    async def lag(self) -> list[ProjectionLag]:
        """How far each projection is behind what is committed."""
        opened, known = self.opened, self.opened.generations.own
        return await lags(opened.journal, opened.epoch, known, opened.projectors, opened.rebuilds)

    # Change without downtime

    async def rebuild(
        self,
        projection: type[Projection[Any]],
        *,
        timeout_s: float = REBUILD_TIMEOUT_S,
        progress: Telling | None = None,
    ) -> Rebuilt:
        """Build a projection's collection anew beside the one that is read, prove it, switch.

        Edges between nodes follow them. Joins a rebuild that is under way. What was read is kept
        for `rollback`. `progress` hears (phase, rows filled). Raises Conflict when the new one was
        given up, saying why; NotSettled after `timeout_s` seconds, and then it goes on.
        """
        name = await self.opened.generations.begin(projection.name)
        return await self._switched(projection.name, name, timeout_s, progress)

    async def rollback(
        self,
        projection: type[Projection[Any]],
        *,
        timeout_s: float = REBUILD_TIMEOUT_S,
        progress: Telling | None = None,
    ) -> Rebuilt:
        """Prove the collection that was read before, and let readers read it again.

        Raises Conflict when there is none that this code derives; else as `rebuild`.
        """
        name = await self.opened.generations.begin_back(projection.name)
        return await self._switched(projection.name, name, timeout_s, progress)

    async def _switched(
        self, projection: str, name: str, timeout_s: float, progress: Telling | None
    ) -> Rebuilt:
        def tell() -> None:  # how far this process is with it, if it does it
            if progress is not None and (rebuild := self.opened.rebuilds.get(name)) is not None:
                progress(rebuild.phase, rebuild.rows)

        switched = self.opened.generations.switched
        return await switched(projection, name, timeout_s=timeout_s, tell=tell)

    async def prune(self, *projections: type[Projection[Any]]) -> list[str]:
        """Drop the collections that were read before, of `projections` or of all; their names.

        What was read within the last seconds stays, for readers in other processes.
        """
        own = self.opened.generations.own
        return await prune(self.opened, [it.name for it in projections] or list(own))
