"""Valkey keeps what the model of the request cache promises; nobody else's keys are touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import orjson
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis.asyncio import Redis

import polyplane as pp
from bench.request_races import raced
from polyplane.embedded import Engines
from polyplane.errors import Misconfigured
from polyplane.model.requests import Kept, Wanted
from polyplane.model.scope import Scope
from polyplane.runtime.loads import Loads
from polyplane.runtime.requests import RequestCache, Requests as Shared
from polyplane.stores.cache import following
from polyplane.stores.cache.names import CHAIN, MARK, record
from polyplane.stores.cache.requests import LEASE_MS, Requests
from polyplane.stores.cache.server import Server
from polyplane.stores.request_protocol import Depend
from tests.unit.requests_model import Interleavings

T = TypeVar("T")

CHAIN_ID = b"chain..8"
START = 1 << 40
WANTED = Wanted("acme", None, "k", (("public.thing", "1"), ("public.other", None)))


class Halved(Requests):
    """The real store, with the faults and half steps of the machine."""

    def __init__(self, url: str) -> None:
        super().__init__(Server(url, f"t{uuid4().hex[:12]}:default:", 5.0))

    async def record(self, chain: bytes, after: int, upto: int, some: Sequence[Depend]) -> bool:
        names = [record(self._root, table, key) for table, key in some]
        keys = (self._root + CHAIN, self._root + MARK, *names)
        given = (chain.hex(), after, upto, 60_000)
        async with self._server.calls() as client:
            return bool(await client.eval(following._APPLY, len(keys), *keys, *given))

    async def note(self, chain: bytes, after: int, upto: int, *, vouch: bool) -> bool:
        return await self.apply(chain, after, upto, [], vouch=vouch)

    async def names(self) -> list[str]:
        async with self._server.calls() as client:
            found: list[Any] = await client.keys(f"{self._root}*")
        return sorted(it.decode() for it in found)

    async def evict(self, name: str) -> None:
        async with self._server.calls() as client:
            await client.delete(name)

    async def copied(self) -> Any:
        async with self._server.calls() as client:
            return [(name, await client.dump(name)) for name in await self.names()]

    async def put_back(self, copy: Any, incarnation: bytes) -> None:
        async with self._server.calls() as client:
            for name in await self.names():
                await client.delete(name)
            for name, dumped in copy:
                await client.restore(name, 60_000, dumped)
        self._glances.incarnation = incarnation


def test_all_interleavings_on_the_server(engines: Engines) -> None:
    """The machine of the model, with real scripts."""
    loop = asyncio.new_event_loop()
    stores: list[Halved] = []

    class OnValkey(Interleavings):
        def make(self) -> Any:
            stores.append(Halved(engines.urls["valkey"]))
            return stores[-1]

        def do(self, call: Coroutine[Any, Any, T]) -> T:
            return loop.run_until_complete(call)

        def teardown(self) -> None:
            async def ended(store: Halved) -> None:
                for name in await store.names():
                    await store.evict(name)
                await store.close()
                await store._server.close()

            while stores:
                loop.run_until_complete(ended(stores.pop()))

    tried = settings(max_examples=12, stateful_step_count=40, phases=[Phase.generate])
    try:
        run_state_machine_as_test(OnValkey, settings=tried)
    finally:
        loop.close()


@pytest.fixture
async def store(engines: Engines) -> AsyncIterator[Halved]:
    """A store with a namespace of its own, in which somebody follows."""
    store = Halved(engines.urls["valkey"])
    await store.begin_chain(CHAIN_ID, START, instead=b"")
    await store.apply(CHAIN_ID, START, START, [], vouch=True)
    yield store
    await store.close()
    await store._server.close()


@pytest.fixture
async def raw(engines: Engines) -> AsyncIterator[Redis]:
    """The engine's own client."""
    async with Redis.from_url(engines.urls["valkey"]) as client:
        yield client


async def filled(store: Halved, wanted: Wanted, token: bytes = b"t" * 12) -> str:
    """What became of an entry that was loaded at once."""
    found = await store.read(wanted)
    seen = found.seen if found else b""
    begun = await store.begin(wanted, token, seen=seen, keep_ms=60_000)
    if begun.state != "begun":
        return begun.state
    depends = orjson.dumps(wanted.depends)
    kept = Kept(token, begun.chain, begun.position, 2**50, 1, depends, b"1")
    return await store.fill(wanted, begun, kept, ttl_ms=60_000, stale_ms=5_000)


async def test_every_key_ends_by_itself_and_has_the_seeds_name(store: Halved, raw: Redis) -> None:
    assert await filled(store, WANTED) == "filled"
    begun = await store.begin(WANTED, b"u" * 12, seen=b"t" * 12, keep_ms=60_000)
    assert begun.state == "begun"
    names = await store.names()
    root = store._server.root
    assert f"{root}acme:cache:k" in names
    assert len(names) == 6  # entry, lease, two records, chain, mark
    lives = {name: await raw.pttl(name) for name in names}
    assert all(0 < it <= 24 * 3_600_000 for it in lives.values()), lives
    assert lives[f"{root}acme:cache-load:k"] <= LEASE_MS
    # A record outlives what depends on it.
    assert min(lives[it] for it in names if "changed" in it) > lives[f"{root}acme:cache:k"]


async def test_one_loads_at_a_time_and_a_late_one_fills_nothing(store: Halved, raw: Redis) -> None:
    assert (await store.begin(WANTED, b"a" * 12, seen=b"", keep_ms=60_000)).state == "begun"
    assert (await store.begin(WANTED, b"b" * 12, seen=b"", keep_ms=60_000)).state == "busy"
    assert await store.renew(WANTED, b"a" * 12)
    assert not await store.renew(WANTED, b"b" * 12)
    await store.give_up(WANTED, b"b" * 12)
    assert (await store.begin(WANTED, b"b" * 12, seen=b"", keep_ms=60_000)).state == "busy"
    await store.give_up(WANTED, b"a" * 12)
    assert await filled(store, WANTED, b"b" * 12) == "filled"
    # Who has not seen it looks again; a forgotten entry takes nothing from who began before.
    assert (await store.begin(WANTED, b"c" * 12, seen=b"", keep_ms=60_000)).state == "again"
    begun = await store.begin(WANTED, b"c" * 12, seen=b"b" * 12, keep_ms=60_000)
    await store.forget(WANTED)
    kept = Kept(b"c" * 12, begun.chain, begun.position, 2**50, 1, b"[]", b"1")
    assert await store.fill(WANTED, begun, kept, ttl_ms=1_000, stale_ms=0) == "lost"
    assert await store.read(WANTED) is None


async def test_what_is_damaged_or_foreign_is_loaded_again(store: Halved, raw: Redis) -> None:
    name = store.place(WANTED)
    for value in (b"", b"x", b"pq1" + b"\0" * 200, b"x" * 100):
        await raw.set(name, value)
        found = await store.read(WANTED)
        assert found is not None
        assert found.standing == "changed"
        assert await filled(store, WANTED) == "filled"
    other = Wanted("acme", None, "k", ())
    found = await store.read(other)  # the same key, and it depends on something else
    assert found is not None
    assert found.standing == "changed"
    for odd in (MARK, CHAIN):
        await raw.delete(store._root + odd)
        await raw.lpush(store._root + odd, "x")
        assert await filled(store, WANTED) == "unattended"
    assert await store.mark() is None
    assert await store.begin_chain(CHAIN_ID, START, instead=b"")
    assert await store.apply(CHAIN_ID, START, START, [], vouch=True)
    assert await filled(store, WANTED) == "filled"


async def test_only_our_own_entries_are_counted_and_cleared(store: Halved, raw: Redis) -> None:
    mine = [
        WANTED,
        Wanted(None, None, "k", ()),
        Wanted("acme", "ada", "cache:k", ()),
        Wanted("a:b*", None, "k\r\n[x]", ()),
    ]
    for wanted in mine:
        assert await filled(store, wanted) == "filled"
    root = store._server.root
    foreign = {
        f"{root}acme:cache:theirs": b"not an entry",
        f"{root}acme:experiment:cache:1": b"pq1 of somebody",
        f"x{root}acme:cache:k": b"pq1",
        f"{root[:-1]}2:acme:cache:k": b"pq1",
        f"cache:k {root}": b"pq1",
    }
    await raw.mset(foreign)
    await raw.hset(f"{root}acme:cache:hash", "a", "1")
    others = sorted(set(await raw.keys("*")) - {store.place(it).encode() for it in mine})
    found = [it async for some in store.entries() for it in some]
    assert {it.name for it in found} == {store.place(it) for it in mine}
    assert {it.standing for it in found} == {"good"}
    kept = found[0].kept
    assert kept is not None
    another = found[0]._replace(kept=kept._replace(token=b"x" * 12))
    assert await store.drop([another]) == 0
    assert await store.drop([found[0]]) == 1
    assert await store.clear() == 3
    assert [it async for some in store.entries() for it in some] == []
    assert set(others) - set(await raw.keys("*")) == set()
    assert await raw.mget(list(foreign)) == list(foreign.values())
    await raw.delete(*foreign)


async def test_a_late_fill_overwrites_nothing(engines: Engines) -> None:
    """A sample; all of it: python -m bench request_races."""
    seen = await raced(engines.urls["valkey"], 480, seed=24)
    assert seen["races"] == 480
    assert (seen["stale"], seen["overwritten by an older one"]) == (0, 0)
    assert seen["filled"] > 0
    assert seen["changed"] > 0
    assert seen["lost"] > 0


async def test_without_a_server_all_is_loaded_and_says_so(unused_tcp_port: int) -> None:
    server = Server(f"redis://127.0.0.1:{unused_tcp_port}", "t:default:", 1.0)
    loads = Loads(Requests(server))

    async def never(*_: Any) -> Any:
        raise AssertionError

    cache = RequestCache(Shared(loads, {}, never, never, lambda: 1), Scope.everything)
    asked = 0

    async def load() -> Any:
        nonlocal asked
        asked += 1
        return {"n": asked}

    first = await cache.get_or_load("k", load, ttl_s=60, depends=())
    assert (first.value, first.origin, first.degraded) == ({"n": 1}, "direct", True)
    # Of many at once two load: one for the first, one for all who came after it had begun.
    many = (cache.get_or_load("k", load, ttl_s=60, depends=()) for _ in range(100))
    assert {it.origin for it in await asyncio.gather(*many)} == {"direct"}
    assert asked == 3
    assert loads.counts["direct"] == 101
    for wrong in (
        {"ttl_s": 0},
        {"ttl_s": 1e9},
        {"ttl_s": 1, "stale_s": -1},
        {"ttl_s": 1, "beta": -1},
    ):
        with pytest.raises(Misconfigured):
            await cache.get_or_load("k", load, depends=(), **wrong)
    with pytest.raises(pp.Unavailable):
        await cache.get_or_load("k", asyncio.Event().wait, ttl_s=1, depends=(), load_timeout_s=0.02)
    await loads.close()
    await loads.store.close()  # type: ignore[attr-defined]
