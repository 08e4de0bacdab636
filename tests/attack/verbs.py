"""Probes of the stores' verbs and of what a caller holds, found by looking at the protocols.

A reading verb that takes no scope, or that nobody has a probe for, is an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

import pyarrow as pa

import polyplane as pp
from polyplane.errors import Forbidden, ScopeViolated
from polyplane.model.scope import Scope
from polyplane.runtime.access import CacheReader, StreamAccess
from polyplane.runtime.acting import Acting, ActingBlobs, ActingSagas
from polyplane.runtime.graph import Graph
from polyplane.runtime.live import LiveEvents, LivePubSub, LiveStates
from polyplane.runtime.requests import RequestCache
from polyplane.runtime.searching import VectorReader
from polyplane.stores.graph_protocol import GraphStore
from polyplane.stores.object_protocol import ObjectStore
from polyplane.stores.protocol import CacheStore, ItemStore, SeriesStore, Store, VectorStore
from tests.attack.documented import STAGES
from tests.attack.graph import READS_GRAPH, STORE_OF_GRAPH
from tests.attack.ground import Ground
from tests.attack.live import LIVE_PROBES
from tests.attack.report import Report
from tests.attack.routes import Unprobed
from tests.attack.searching import SEARCHES, SEARCHES_STORE
from tests.flow.deeds import DeedCard, DeedSearch, Meter

Probe = Callable[[Ground, Random], Awaitable[Any]]

PLANES_OWN: Final = {
    **dict.fromkeys(
        ("ping", "barrier", "inspect", "close", "prepare", "maintain", "forget"), "no contents"
    ),
    **dict.fromkeys(("apply", "offer", "bury", "append", "bulk"), "the plane writes what follows"),
    **dict.fromkeys(("scan", "stamps", "contents", "marks"), "the plane proves what is held"),
    **dict.fromkeys(("partitions", "partition", "batches", "uneven"), "counts and digests"),
    **dict.fromkeys(
        ("sessions", "limits", "words", "requests"),
        "known by a token or a name, see their own tests",
    ),
    **dict.fromkeys(
        ("states", "channels"), "in the hands of one tenant: LiveStates, LivePubSub, LiveEvents"
    ),
    **dict.fromkeys(
        ("put", "begin", "put_part", "parts", "complete", "abort", "uploads", "delete"),
        "an upload is known to truth by its tenant",
    ),
    **dict.fromkeys(("rules", "versions_of", "every"), "names and sizes, for collector and proof"),
}
"""Verbs of stores that read nothing for a caller, and why."""


def _scope(ground: Ground) -> Scope:
    return Scope.of(ground.mine.caller)


def _collection(ground: Ground, projection: type[Any]) -> Any:
    return ground.plane.opened.generations.readings[projection.name].collection


def _where(ground: Ground, dice: Random) -> dict[str, Any]:
    return dice.choice([{}, {"place": ground.theirs.canary}])


async def _search(ground: Ground, dice: Random) -> Any:
    store = ground.plane.opened.stores.vector
    assert store is not None
    where = dice.choice([None, {"tenant_id": ground.theirs.tenant}, {"owner_id": None}])
    collection = _collection(ground, DeedSearch)
    embedding = [dice.uniform(-1, 1) for _ in range(4)]
    return await store.search(collection, _scope(ground), embedding, limit=100, where=where)


async def _get(ground: Ground, dice: Random) -> Any:
    store = ground.plane.opened.stores.vector
    assert store is not None
    keys = list(map(str, dice.sample(ground.theirs.deeds, 3)))
    return await store.get(_collection(ground, DeedSearch), _scope(ground), keys)


async def _cached(ground: Ground, dice: Random) -> Any:
    key = str(dice.choice(ground.theirs.deeds))
    return await ground.plane.cache.get(_collection(ground, DeedCard), _scope(ground), key)


def _series(ground: Ground) -> SeriesStore:
    assert ground.plane.opened.stores.series is not None
    return ground.plane.opened.stores.series


async def _window(ground: Ground, dice: Random) -> Any:
    where, scope = _where(ground, dice), _scope(ground)
    found = await _series(ground).window(Meter, scope, value="value", bucket_s=60, where=where)
    return [it for it in found.to_pylist() if where or it["count"] > 4]


async def _latest(ground: Ground, dice: Random) -> Any:
    where = _where(ground, dice)
    found = await _series(ground).latest(Meter, _scope(ground), by="place", where=where)
    return found.to_pylist()


async def _count(ground: Ground, dice: Random) -> Any:
    where = {"place": ground.theirs.canary}
    found = await _series(ground).count(Meter, _scope(ground), where)
    return [found] if found.points else []


async def _query(ground: Ground, dice: Random) -> Any:
    sql = f"SELECT * FROM {dice.choice(['meter', 'telemetry', 'system.tables'])}"
    return await _refused(_series(ground).query(_scope(ground), sql, {}), Forbidden)


def _objects(ground: Ground) -> ObjectStore:
    assert ground.plane.opened.stores.objects is not None
    return ground.plane.opened.stores.objects


def _key(ground: Ground, dice: Random) -> str:
    mine, theirs = ground.mine.tenant, ground.theirs.blob_key
    return dice.choice([theirs, f"{mine}/../{theirs}", f"/{theirs}", f"{mine}/{theirs}"])


async def _refused(call: Awaitable[Any], *errors: type[Exception]) -> Any:
    try:
        return [await call]
    except errors:
        return []


async def _head(ground: Ground, dice: Random) -> Any:
    call = _objects(ground).head(_scope(ground), _key(ground, dice))
    return await _refused(call, ScopeViolated, pp.NotFound)


async def _read(ground: Ground, dice: Random) -> Any:
    pieces = _objects(ground).read(_scope(ground), _key(ground, dice))
    return await _refused(anext(aiter(pieces)), ScopeViolated, pp.NotFound)


async def _url_to_get(ground: Ground, dice: Random) -> Any:
    async def call() -> Any:
        given: dict[str, Any] = {"version": None, "expires_s": 60, "name": "n"}
        return _objects(ground).url_to_get(_scope(ground), ground.theirs.blob_key, **given)

    return await _refused(call(), ScopeViolated)


async def _url_to_put(ground: Ground, dice: Random) -> Any:
    async def call() -> Any:
        given: dict[str, Any] = {"size": 1, "content_type": "a/b", "expires_s": 60}
        return _objects(ground).url_to_put(_scope(ground), ground.theirs.blob_key, **given)

    return await _refused(call(), ScopeViolated)


STORE_PROBES: Final[dict[tuple[type[Any], str], Probe]] = {
    (VectorStore, "search"): _search,
    (VectorStore, "get"): _get,
    (CacheStore, "get"): _cached,
    (SeriesStore, "window"): _window,
    (SeriesStore, "latest"): _latest,
    (SeriesStore, "count"): _count,
    (SeriesStore, "query"): _query,
    **STORE_OF_GRAPH,
    **SEARCHES_STORE,
    (ObjectStore, "head"): _head,
    (ObjectStore, "read"): _read,
    (ObjectStore, "url_to_get"): _url_to_get,
    (ObjectStore, "url_to_put"): _url_to_put,
}


def _acting(ground: Ground) -> Acting:
    return ground.plane.acting(ground.mine.caller)


async def _reader_search(ground: Ground, dice: Random) -> Any:
    return await _acting(ground)[DeedSearch].search([1.0] * 4, limit=1_000)


async def _reader_get(ground: Ground, dice: Random) -> Any:
    return await _acting(ground)[DeedSearch].get(ground.theirs.deeds)


async def _reader_cached(ground: Ground, dice: Random) -> Any:
    return await _acting(ground)[DeedCard].get(dice.choice(ground.theirs.deeds))


async def _kept(ground: Ground, dice: Random) -> tuple[str, Any]:
    """A key under which the other keeps something, and what they asked for."""
    key = dice.choice(["k", f"cache:{ground.theirs.tenant}", "k\r\nGET x", "*"])
    cache = ground.plane.acting(ground.theirs.caller).request_cache

    async def load() -> str:
        return ground.theirs.canary

    shared = dice.random() < 0.5
    await cache.get_or_load(key, load, ttl_s=600, depends=(), shared=shared)
    return key, cache._wanted(key, (), shared)


async def _reader_loads(ground: Ground, dice: Random) -> Any:
    key, _ = await _kept(ground, dice)
    guessed = [key, f"../{ground.theirs.tenant}:cache:{key}", f":{ground.theirs.tenant}:{key}"]
    shared = dice.random() < 0.5

    async def load() -> str:
        return ""

    cache = _acting(ground).request_cache
    found = await cache.get_or_load(
        dice.choice(guessed), load, ttl_s=600, depends=(), shared=shared
    )
    return [found.value] if found.value else []


async def _reader_forgets(ground: Ground, dice: Random) -> Any:
    key, wanted = await _kept(ground, dice)
    requests = ground.plane.opened.requests
    assert requests is not None
    before = await requests.store.read(wanted)
    await _acting(ground).request_cache.forget(key, shared=dice.random() < 0.5)
    return [key] if before and await requests.store.read(wanted) is None else []


async def _reader_window(ground: Ground, dice: Random) -> Any:
    where = _where(ground, dice)
    found = await _acting(ground)[Meter].window(value="value", bucket_s=60, where=where)
    return [it for it in found.to_pylist() if where or it["count"] > 4]


async def _reader_latest(ground: Ground, dice: Random) -> Any:
    found = await _acting(ground)[Meter].latest(by="place", where=_where(ground, dice))
    return found.to_pylist()


async def _reader_count(ground: Ground, dice: Random) -> Any:
    found = await _acting(ground)[Meter].count({"place": ground.theirs.canary})
    return [found] if found else []


async def _publishes(ground: Ground, dice: Random) -> Any:
    forged = {"time": ["2026-01-01T00:00:00Z"], "place": ["x"], "value": [1.0]}
    call = _acting(ground)[Meter].publish(forged | {"tenant": [ground.theirs.tenant]})
    return await _refused(call, pp.Refused)


async def _loads(ground: Ground, dice: Random) -> Any:
    forged = pa.table({"place": ["x"], "value": [1.0], "tenant": [ground.theirs.tenant]})
    return await _refused(_acting(ground)[Meter].load(forged), pp.Refused)


def _blob(verb: str, *given: Any) -> Probe:
    async def probe(ground: Ground, dice: Random) -> Any:
        blobs: Any = _acting(ground).blobs
        found = getattr(blobs, verb)(ground.theirs.blob, *given)
        return await _refused(anext(found) if verb == "open" else found, pp.NotFound)

    return probe


async def _blob_list(ground: Ground, dice: Random) -> Any:
    after = dice.choice([None, ground.theirs.blob])
    found = await _acting(ground).blobs.list(after=after, limit=200)
    return [it for it in found if it.tenant != ground.mine.tenant]


async def _blob_put(ground: Ground, dice: Random) -> Any:
    """The other's idempotency key is not ours, and neither is an object of the same content."""
    put = await _acting(ground).blobs.put(ground.theirs.canary.encode(), key="stolen")
    return [put] if put.key == ground.theirs.blob_key or put.tenant != ground.mine.tenant else []


SAGAS: Final = {"start", "finished", "signal", "find", "show", "list", "cancel", "retry"}
"""Probed in tests/flow/test_cross_tenant.py, with a saga of their own."""

READERS: Final = (
    Graph,
    VectorReader,
    CacheReader,
    StreamAccess,
    ActingBlobs,
    LiveEvents,
    LiveStates,
    LivePubSub,
    RequestCache,
)
READER_PROBES: Final[dict[tuple[type[Any], str], Probe]] = {
    (VectorReader, "search"): _reader_search,
    (VectorReader, "get"): _reader_get,
    (CacheReader, "get"): _reader_cached,
    (RequestCache, "get_or_load"): _reader_loads,
    (RequestCache, "forget"): _reader_forgets,
    (StreamAccess, "window"): _reader_window,
    (StreamAccess, "latest"): _reader_latest,
    (StreamAccess, "count"): _reader_count,
    (StreamAccess, "publish"): _publishes,
    (StreamAccess, "load"): _loads,
    (ActingBlobs, "head"): _blob("head"),
    (ActingBlobs, "url"): _blob("url"),
    (ActingBlobs, "open"): _blob("open"),
    (ActingBlobs, "delete"): _blob("delete"),
    (ActingBlobs, "confirm"): _blob("confirm"),
    (ActingBlobs, "resume"): _blob("resume", b"x"),
    (ActingBlobs, "list"): _blob_list,
    (ActingBlobs, "put"): _blob_put,
    **LIVE_PROBES,
    **READS_GRAPH,
    **SEARCHES,
    **STAGES,
}
NAMES_NOTHING: Final = {(ActingBlobs, "upload_url"), (RequestCache, "settled")}
"""What a caller holds that takes no name of anything that is there."""


KINDS: Final = (Store, ItemStore, VectorStore, GraphStore, CacheStore, SeriesStore, ObjectStore)


def verbs_of(kind: type[Any]) -> set[str]:
    """The public verbs of a protocol or a class, inherited ones too."""
    return {name for name in dir(kind) if not name.startswith("_") and name in _functions(kind)}


def _functions(kind: type[Any]) -> set[str]:
    return {
        name
        for base in kind.__mro__
        for name, it in vars(base).items()
        if callable(it) or isinstance(it, property)
    }


def check_every_verb_has_a_probe() -> None:
    """Unprobed for a verb that nobody has thought of, or a reading one that takes no scope."""
    for kind in KINDS:
        for verb in sorted(verbs_of(kind)):
            if (kind, verb) in STORE_PROBES:
                scope = inspect.signature(getattr(kind, verb)).parameters.get("scope")
                if scope is None or scope.default is not inspect.Parameter.empty:
                    raise Unprobed(f"{kind.__name__}.{verb} can be called without a scope.")
            elif verb not in PLANES_OWN:
                raise Unprobed(f"{kind.__name__}.{verb} has no probe.")
    for reader in READERS:
        for verb in sorted(verbs_of(reader)):
            if (reader, verb) not in READER_PROBES and (reader, verb) not in NAMES_NOTHING:
                raise Unprobed(f"{reader.__name__}.{verb} has no probe.")
    if ungiven := verbs_of(ActingSagas) ^ SAGAS:
        raise Unprobed(f"ActingSagas.{min(ungiven)} has no probe.")


async def probe_verbs(ground: Ground, report: Report, probes: int, seed: int) -> None:
    """So many calls, of all verbs in turn."""
    dice = Random(seed)
    named = [*STORE_PROBES.items(), *READER_PROBES.items()]
    for number in range(probes):
        (kind, verb), probe = named[number % len(named)]
        found = await probe(ground, dice)
        leaked = ground.theirs.canary in str(found) or (
            bool(found) and verb not in ("search", "match", "latest")
        )
        report.probed(kind.__name__, f"{verb} gave {found!r:.200}" if leaked else "")
