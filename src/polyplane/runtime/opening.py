"""Opening a plane: engines, truth, feed, stores and flow, each in its turn.

Everything opened is put on the plane's exit stack, so that a failure half way closes what is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from polyplane.access.identity import Identity
from polyplane.access.limiting import Limiter
from polyplane.embedded import Engines
from polyplane.errors import Misconfigured, Unavailable
from polyplane.feed.jetstream import JetStream, connect
from polyplane.flow.crew import Crew
from polyplane.flow.inbound import Follower
from polyplane.flow.ingest import Ingest
from polyplane.flow.projector import Projector, Target
from polyplane.flow.rebuild import Rebuild
from polyplane.flow.recording import Recorder
from polyplane.flow.relay import Relay
from polyplane.flow.sealing import Sealer
from polyplane.flow.tenure import Tenure
from polyplane.model.drift import Far
from polyplane.runtime.alarms import Alarms
from polyplane.runtime.declared import Declared
from polyplane.runtime.embeddings import Embeddings
from polyplane.runtime.epochs import ensure_streams, settle_epoch
from polyplane.runtime.generations import Generations
from polyplane.runtime.identity import identity_of
from polyplane.runtime.kept import Kept
from polyplane.runtime.live import Live, live_of
from polyplane.runtime.requests import Requests, requests_of
from polyplane.runtime.ring import keyed, open_ring
from polyplane.runtime.storing import load_adapters, open_stores, store_urls
from polyplane.runtime.targets import Stores
from polyplane.runtime.truth import Truth, open_truth
from polyplane.saga.runner import Runner
from polyplane.saga.sagas import Sagas
from polyplane.security.logins import NAMES
from polyplane.security.realm import Realm
from polyplane.security.transport import exposed
from polyplane.security.volume import disk_is_encrypted
from polyplane.settings import Settings
from polyplane.stores.catalog import ONE_PROCESS, engine_of
from polyplane.truth.database import Database
from polyplane.truth.embeddings import EmbeddingRows
from polyplane.truth.journal import Journal

_log = structlog.get_logger(__name__)

RESTARTED_S: Final = 20.0
"""How long to try again when an engine of ours dies meanwhile: it is restarted."""
_AGAIN_S: Final = 0.5
ENGINE_SETTINGS: Final = {
    "postgres": "database_url",
    "nats": "nats_url",
    "valkey": "cache_url",
    "seaweedfs": "objects_url",
}
"""Embedded engine -> the setting that makes it unnecessary."""
LOGIN_SETTINGS: Final = {
    **{f"postgres.{name}": f"database_{name}_url" for name in NAMES},
    "s3.owner": "objects_owner_url",
}
"""Another login of an engine -> its setting."""
_URL_NAMES: Final = {"seaweedfs": "s3"}


@dataclass(slots=True)
class Open:
    """Everything that is open while a plane is."""

    urls: Mapping[str, str]
    truth: Truth
    journal: Journal
    feed: JetStream
    epoch: int
    stores: Stores
    generations: Generations
    sagas: Sagas
    identity: Identity
    live: Live
    limits: Limiter
    embeddings: Embeddings
    engines: Engines | None = None
    is_worker: bool = False
    """Whether it only helps to project, beside an `up` that does everything."""
    relay: Relay | None = None
    projectors: dict[str, Projector] = field(default_factory=dict)
    rebuilds: dict[str, Rebuild] = field(default_factory=dict)
    """Both by collection."""
    ingests: dict[str, Ingest] = field(default_factory=dict)
    followers: dict[str, Follower] = field(default_factory=dict)
    tenure: Tenure | None = None
    runner: Runner | None = None
    sealer: Sealer | None = None
    crew: Crew = field(default_factory=Crew)
    damage: dict[str, list[str]] = field(default_factory=dict)
    """Engine -> what was found damaged when this plane opened."""
    epochs_ended: list[str] = field(default_factory=list)
    """Why epochs ended while this plane was open."""
    proofs: dict[str, Far] = field(default_factory=dict)
    """How far each verify is that is at work, the latest last."""
    bookmarks: set[Path] = field(default_factory=set)
    """Those that a verify is keeping."""
    alarms: Alarms = field(default_factory=Alarms)
    requests: Requests | None = None
    recorder: Recorder | None = None
    kept: Kept = field(default_factory=Kept)
    """What applications have opened for themselves."""

    @property
    def database(self) -> Database:
        """Truth as the application may see and change it."""
        return self.truth.app

    @property
    def targets(self) -> dict[str, Target]:
        """Projection -> what this code derives, and the collection it goes to."""
        return self.generations.targets


def check_strict(settings: Settings) -> None:
    """Raise Misconfigured for what `strict` and `vectors_require_encrypted_disk` refuse."""
    names = [name for name in Settings.model_fields if name.endswith("_url")]
    urls = {name: url for name in names if (url := settings.url(name))}
    if settings.strict:
        for name, fix in exposed(urls).items():
            raise Misconfigured(
                f"strict: {name} leads beyond this machine without verified TLS.",
                fix=f"It needs {fix}.",
            )
    if settings.vectors_require_encrypted_disk:
        url = urls.get("vector_url") or f"lancedb://{settings.home.absolute() / 'lancedb'}"
        scheme, _, path = url.partition("://")
        folder = Path(path.removeprefix("local"))
        is_here = scheme == "lancedb" or url.startswith("qdrant://local/")
        if is_here and not disk_is_encrypted(folder):
            raise Misconfigured(
                f"{folder} is on a disk that is not encrypted.",
                fix="Put the home, or vector_url, on an encrypted one.",
            )


async def open_all(
    declared: Declared,
    settings: Settings,
    stack: AsyncExitStack,
    tell: Callable[[str], None],
    *,
    moves: bool,
    is_worker: bool = False,
) -> Open:
    """Open engines, truth (migrated, captured), feed and stores. Moves no data yet.

    `moves` says whether this process is going to. A worker starts no engine and prepares no truth:
    raises Misconfigured without their URLs.
    """
    check_strict(settings)
    adapters = asyncio.create_task(asyncio.to_thread(load_adapters, declared, settings))
    try:
        engines, urls = await _start_engines(declared, settings, stack, tell, may=not is_worker)
    finally:
        await adapters
    loop = asyncio.get_running_loop()
    until = loop.time() + (RESTARTED_S if engines else 0)
    damage: dict[str, list[str]] = {}
    while True:
        async with AsyncExitStack() as attempt:
            try:
                opened = await _open_on(
                    urls,
                    declared,
                    settings,
                    attempt,
                    moves=moves,
                    is_worker=is_worker,
                    damage=damage,
                )
            except Unavailable as error:
                if loop.time() > until:
                    raise
                _log.warning("plane.waiting", error=error.message)
            else:
                opened.engines = engines
                stack.push_async_callback(attempt.pop_all().aclose)
                return opened
        await asyncio.sleep(_AGAIN_S)


async def _open_on(
    urls: Mapping[str, str],
    declared: Declared,
    settings: Settings,
    stack: AsyncExitStack,
    *,
    moves: bool,
    is_worker: bool,
    damage: dict[str, list[str]],
) -> Open:
    """Open truth, feed and stores on engines that run. Safe to repeat."""
    truth = await open_truth(declared, settings, urls, stack, prepare=not is_worker)
    feed = await connect(urls["nats"], settings.namespace)
    stack.push_async_callback(feed.close)
    await ensure_streams(declared, feed)
    journal = Journal(truth.projector)
    epoch = await settle_epoch(declared, journal, feed, settings.home)
    stores = await open_stores(declared, settings, urls, stack)
    stores.ring = await open_ring(declared, settings, truth.app)
    if stores.ring is not None:
        stack.push_async_callback(stores.ring.close)
        if any(projection.secrets for projection in declared.projections):
            stores.keyed = await keyed(stores.ring)
    embeddings = Embeddings(EmbeddingRows(truth.projector), settings)
    stack.push_async_callback(embeddings.close)
    if stores.embedder is not None:
        embeddings.watch(stores.embedder)
        stores.memory = embeddings
    if moves and not is_worker:
        await _inspect(stores, damage)
    generations = Generations(declared, stores, journal, embeddings.open)
    stack.push_async_callback(generations.close)
    identity = identity_of(declared, settings, truth.app, stores, lambda: opened.epoch)
    stack.push_async_callback(identity.close)
    sagas = Sagas(declared.sagas, truth.app, lambda: opened.runner)
    live = live_of(
        declared, settings, (truth.projector, truth.app), feed, stores, lambda: opened.epoch
    )
    stack.push_async_callback(live.close)
    shared = stores.cache.limits if stores.cache is not None else None
    limits = Limiter(shared, processes=settings.limit_processes)
    parts = (stores, generations, sagas, identity, live, limits, embeddings)
    opened = Open(urls, truth, journal, feed, epoch, *parts)
    stack.push_async_callback(opened.kept.close)
    opened.is_worker = is_worker
    opened.damage = damage
    if stores.cache is not None:
        opened.requests = requests_of(
            declared, stores.cache, journal, feed, feed.subjects, lambda: opened.epoch
        )
        stack.push_async_callback(opened.requests.loads.close)
    await _prepare_generations(declared, opened, moves=moves and not is_worker)
    return opened


async def _inspect(stores: Stores, damage: dict[str, list[str]]) -> None:
    """Have stores look at their files before anybody reads them; note what they find."""
    for store in (stores.vector, stores.graph, stores.series):
        if store is not None and (found := await store.inspect()):
            damage.setdefault(engine_of(store), []).extend(found)


async def _start_engines(
    declared: Declared,
    settings: Settings,
    stack: AsyncExitStack,
    tell: Callable[[str], None],
    *,
    may: bool,
) -> tuple[Engines | None, dict[str, str]]:
    """The embedded engines that no URL replaces, running; and the URL of each engine."""
    urls = {
        _URL_NAMES.get(name, name): url
        for name, setting in ENGINE_SETTINGS.items()
        if (url := settings.url(setting))
    }
    urls |= {
        it: url
        for it, name in LOGIN_SETTINGS.items()
        if it.partition(".")[0] in urls and (url := settings.url(name))
    }
    wanted = [name for name in declared.engines() if _URL_NAMES.get(name, name) not in urls]
    if not wanted:
        return None, urls
    if not may:
        raise Misconfigured(
            f"A worker needs the URL of {wanted[0]}.",
            fix="Start `polyplane up` on the same home first, or set the URLs of all engines.",
        )
    engines = Engines(settings.home, wanted=wanted, realm=Realm.of(settings))
    await engines.start(tell)
    stack.push_async_callback(engines.stop)
    return engines, {**engines.urls, **engines.logins, **urls}


def for_worker(declared: Declared, settings: Settings) -> Declared:
    """What of `declared` a process beside the one of `up` can project."""
    urls = store_urls(declared, settings)
    alone = {kind for kind, url in urls.items() if url.startswith(ONE_PROCESS)}
    return declared.shared({it.kind for it in declared.projections} - alone)


async def _prepare_generations(declared: Declared, opened: Open, *, moves: bool) -> None:
    """Know the collections; who moves data declares a generation where definitions differ."""

    async def reachable(collection: str) -> bool:
        """Whether the stream still has every change that the collection has not applied."""
        bounds = await opened.feed.bounds(opened.feed.subjects.changes)
        positions = await opened.journal.positions()
        held = [at for (name, _), at in positions.items() if name == collection]
        return bool(held) and all(
            at.epoch == opened.epoch and at.order + 1 >= bounds.first for at in held
        )

    if moves:
        await opened.generations.declare(reachable)
    else:
        await opened.generations.first()
    if opened.stores.series is not None:
        for stream in declared.streams:
            await opened.stores.series.prepare(stream)
