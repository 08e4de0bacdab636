"""Valkey keeps the contract of cache stores; sessions, limits and faults beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from polyplane.embedded import Engines
from polyplane.errors import Misconfigured, StoreDown
from polyplane.model.items import Entry
from polyplane.model.key import bucket_of
from polyplane.model.scope import TENANT_ID
from polyplane.security.rates import Asked, Rate, Verdict
from polyplane.stores.cache import valkey
from polyplane.stores.cache.valkey import ValkeyCache
from polyplane.stores.protocol import CacheStore
from polyplane.testing import cache as contract
from polyplane.testing.cache import EXPERIMENTS, CacheStoreContract, RawEntry, entry, got
from polyplane.testing.samples import ALL


class TestValkey(CacheStoreContract):
    @pytest.fixture(autouse=True)
    def _url(self, engines: Engines) -> None:
        self.url = engines.urls["valkey"]

    async def open(self, prefix: str) -> CacheStore:
        return await valkey.connect(self.url, prefix=prefix)

    async def raw_entries(self, prefix: str) -> dict[str, RawEntry]:
        found = {}
        async with Redis.from_url(
            self.url, decode_responses=True, encoding_errors="surrogateescape"
        ) as client:
            for name in map(str, await client.keys("*")):
                if name.startswith(prefix) and not name.startswith(f"{prefix}:marks:"):
                    held = await client.hgetall(name)
                    found[name] = RawEntry(
                        int(held["p"]),
                        str(held["d"]) if "d" in held else None,
                        orjson.loads(held["v"]) if "v" in held else None,
                        await client.pttl(name) / 1_000,
                    )
        return found

    async def raw_spoil(self, name: str) -> None:
        async with Redis.from_url(self.url) as client:
            await client.set(name, "not a hash", ex=60)

    async def raw_names(self, prefix: str) -> list[str]:
        root = prefix.removesuffix("default:")
        async with Redis.from_url(
            self.url, decode_responses=True, encoding_errors="surrogateescape"
        ) as client:
            return sorted(it for it in map(str, await client.keys("*")) if it.startswith(root))

    async def raw_write(self, name: str, field: str, value: str | None) -> None:
        async with Redis.from_url(self.url) as client:
            assert await client.exists(name)
            if value is None:
                await client.delete(name)
            else:
                await client.hset(name, field, value)


class TestValkeyOfTenants(TestValkey):
    """The whole contract again, with entries that belong to a tenant."""

    @pytest.fixture(autouse=True)
    def _of_a_tenant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        marks = (TENANT_ID,)
        for name in ("EXPERIMENTS", "NESTED", "PLAIN"):
            collection = replace(getattr(contract, name), marks=marks)
            monkeypatch.setattr(contract, name, collection)
        plain = contract.entry

        def of_a_tenant(*given: Any, **more: Any) -> Any:
            item = plain(*given, **more)
            item.content = replace(item.content, marks={TENANT_ID: "acme"})
            return item

        monkeypatch.setattr(contract, "entry", of_a_tenant)
        monkeypatch.setattr(contract, "Entry", partial(Entry, marks={TENANT_ID: "acme"}))

    async def raw_entries(self, prefix: str) -> dict[str, RawEntry]:
        root, _, rest = prefix.partition(":default:")
        found = {}
        async with Redis.from_url(
            self.url, decode_responses=True, encoding_errors="surrogateescape"
        ) as client:
            for name in map(str, await client.keys("*")):
                if name.startswith(f"{root}::{rest}") and ":marks:" not in name:
                    gate = await client.hgetall(name)
                    key = name.removeprefix(f"{root}::")
                    value = await client.hgetall(f"{root}:acme:{key}")
                    assert value.get("p") == (gate["p"] if "d" in gate else None)
                    found[f"{root}:default:{key}"] = RawEntry(
                        int(gate["p"]),
                        str(gate["d"]) if "d" in gate else None,
                        orjson.loads(value["v"]) if value else None,
                        await client.pttl(name) / 1_000,
                    )
        return found

    async def raw_spoil(self, name: str) -> None:
        await super().raw_spoil(name.replace(":default:", "::"))


@pytest.fixture
async def cache(engines: Engines, request: pytest.FixtureRequest) -> AsyncIterator[ValkeyCache]:
    """A cache with a prefix of the test's own."""
    store = await valkey.connect(engines.urls["valkey"], prefix=f"{request.node.name}:default:")
    yield store
    await store.close()


@pytest.fixture
async def raw(engines: Engines) -> AsyncIterator[Redis]:
    """The engine's own client."""
    async with Redis.from_url(
        engines.urls["valkey"], decode_responses=True, encoding_errors="surrogateescape"
    ) as client:
        yield client


class TestSessions:
    async def test_a_token_opens_a_session(self, cache: ValkeyCache, raw: Redis) -> None:
        session = {"user": "ada", "roles": ["admin"], "n": None}
        token = await cache.sessions.create(session)
        assert len(token) >= 43
        assert await cache.sessions.get(token) == session
        hashed = sha256(token.encode()).hexdigest()
        (name,) = map(str, await raw.keys("test_a_token_opens*"))
        assert name == f"test_a_token_opens_a_session:default:session:{hashed}"
        assert token not in name
        assert orjson.loads((await raw.get(name) or b"")[8:]) == session
        assert 3_590 < await raw.ttl(name) <= 3_600

    async def test_a_session_that_is_damaged_has_ended(
        self, cache: ValkeyCache, raw: Redis
    ) -> None:
        token = await cache.sessions.create({"user": "ada"})
        (name,) = map(str, await raw.keys("test_a_session_that_is_dam*"))
        held = str(await raw.get(name))
        await raw.set(name, held.replace("ada", "eva"))
        assert await cache.sessions.get(token) is None
        await raw.set(name, held)
        assert await cache.sessions.get(token) == {"user": "ada"}

    async def test_sessions_are_several_and_revocable(self, cache: ValkeyCache) -> None:
        tokens = [await cache.sessions.create({"user": "ada", "n": i}) for i in range(3)]
        assert len(set(tokens)) == 3
        await cache.sessions.delete(tokens[1])
        found = [await cache.sessions.get(token) for token in tokens]
        assert found == [{"user": "ada", "n": 0}, None, {"user": "ada", "n": 2}]
        assert await cache.sessions.replace(tokens[0], {"user": "grace"})
        assert await cache.sessions.get(tokens[0]) == {"user": "grace"}
        assert not await cache.sessions.replace(tokens[1], {"user": "mallory"})
        assert await cache.sessions.get(tokens[1]) is None

    async def test_an_hour_begins_anew_with_every_use(self, cache: ValkeyCache, raw: Redis) -> None:
        token = await cache.sessions.create({})
        (name,) = await raw.keys("test_an_hour*")
        await raw.expire(name, 5)
        await cache.sessions.get(token)
        assert await raw.ttl(name) > 3_590

    async def test_a_hostile_token_is_only_a_token(self, cache: ValkeyCache) -> None:
        for token in ("", "*", "a\r\nFLUSHALL\r\n", "../x", "\0"):
            assert await cache.sessions.get(token) is None


class TestLimits:
    async def test_no_more_than_the_limit_passes_at_once(self, cache: ValkeyCache) -> None:
        verdicts = await asyncio.gather(
            *(cache.limits.check("ada", limit=20, period_s=3_600) for _ in range(100))
        )
        assert sum(verdict.allowed for verdict in verdicts) == 20
        assert sorted(v.remaining for v in verdicts if v.allowed) == list(range(20))
        assert all(0 < v.retry_after_s <= 180 for v in verdicts if not v.allowed)
        assert (await cache.limits.check("grace", limit=20)).allowed

    async def test_no_window_edge_lets_twice_the_limit_pass(self, cache: ValkeyCache) -> None:
        started, allowed = time.monotonic(), 0
        while time.monotonic() - started < 1.5:
            allowed += (await cache.limits.check("ada", limit=50, period_s=1)).allowed
        elapsed = time.monotonic() - started
        assert 50 * elapsed <= allowed <= 50 + 50 * elapsed + 1

    async def test_waiting_as_told_is_enough(self, cache: ValkeyCache) -> None:
        for _ in range(3):
            while (verdict := await cache.limits.check("ada", limit=10, period_s=1)).allowed:
                pass
            await asyncio.sleep(verdict.retry_after_s + 0.002)
            assert (await cache.limits.check("ada", limit=10, period_s=1)).allowed

    async def test_eight_clients_at_once_get_no_more_than_one(self, engines: Engines) -> None:
        """Each with connections of its own; none of them sees the others but in the server."""
        url = engines.urls["valkey"]
        caches = [await valkey.connect(url, prefix="eight:default:") for _ in range(8)]
        rate, began, passed = Rate(100, 1.0, 30), time.monotonic(), 0

        async def ask(cache: ValkeyCache) -> None:
            nonlocal passed
            while time.monotonic() - began < 0.7:
                asked = [Asked("ada", rate), Asked("ada:route", Rate(10_000, 1.0))]
                said = await cache.limits.check_all(asked)
                passed += all(it.allowed for it in said)

        await asyncio.gather(*(ask(cache) for cache in caches for _ in range(4)))
        took_s = time.monotonic() - began
        for cache in caches:
            await cache.close()
        assert 30 <= passed <= 100 * took_s + 30

    async def test_all_limits_let_a_request_pass_or_none_counts_it(
        self, cache: ValkeyCache
    ) -> None:
        hour = 3_600.0
        both = [Asked("ada", Rate(10, hour)), Asked("ada:route", Rate(2, hour))]
        assert [it.remaining for it in await cache.limits.check_all(both)] == [9, 1]
        assert [it.remaining for it in await cache.limits.check_all(both)] == [8, 0]
        for _ in range(3):
            said = await cache.limits.check_all(both)
            assert [(it.allowed, it.remaining) for it in said] == [(True, 8), (False, 0)]
            assert 0 < said[1].retry_after_s <= 1_800 and said[0].retry_after_s == 0
            assert 0 < said[0].reset_s <= 720 and 1_800 < said[1].reset_s <= 3_600
        [alone] = await cache.limits.check_all(both[:1])
        assert alone.remaining == 7
        assert await cache.limits.check_all([]) == []

    async def test_many_at_once_are_each_told_their_own(
        self, cache: ValkeyCache, raw: Redis
    ) -> None:
        """They share calls; who goes away meanwhile takes nothing from the others."""
        await raw.script_flush()
        hour = 3_600.0
        asked = [
            asyncio.create_task(cache.limits.check(f"c{n % 7}", limit=50 + n % 7, period_s=hour))
            for n in range(700)
        ]
        asked[3].cancel()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(found[3], asyncio.CancelledError)
        for client in range(7):
            said = [it for it in found[client::7] if isinstance(it, Verdict)]
            assert sum(it.allowed for it in said) == 50 + client
            assert len(said) == 100 - (client == 3)

    async def test_a_burst_may_be_smaller_than_the_limit(self, cache: ValkeyCache) -> None:
        verdicts = [await cache.limits.check("ada", limit=6, burst=3) for _ in range(5)]
        assert [verdict.allowed for verdict in verdicts] == [True] * 3 + [False] * 2
        assert 0 < verdicts[-1].retry_after_s <= 10

    async def test_no_key_is_ever_without_expiry(self, cache: ValkeyCache, raw: Redis) -> None:
        for limit, period_s in ((1, 0.01), (5, 60.0), (1_000_000, 1.0)):
            await cache.limits.check(f"c{limit}", limit=limit, period_s=period_s)
            for name in await raw.keys("test_no_key_is_ever*ratelimit:*"):
                assert await raw.pttl(name) != -1

    async def test_a_clock_that_was_set_back_locks_nobody_out(
        self, cache: ValkeyCache, raw: Redis
    ) -> None:
        name = "test_a_clock_that_was_set_back_locks_nobody_out:default:ratelimit:ada"
        await raw.set(name, "99999999999999999", ex=60)
        verdict = await cache.limits.check("ada", limit=10, period_s=1)
        assert not verdict.allowed
        assert verdict.retry_after_s <= 0.1

    @pytest.mark.parametrize("changed", [{"limit": 0}, {"period_s": 0}, {"burst": 0}])
    async def test_impossible_limits(self, cache: ValkeyCache, changed: dict[str, Any]) -> None:
        with pytest.raises(Misconfigured):
            await cache.limits.check("ada", **{"limit": 1, **changed})


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://127.0.0.1:1", {"prefix": "t:"}),
        ("redis://127.0.0.1:1", {"prefix": ""}),
        ("redis://127.0.0.1:1", {"prefix": "t:", "color": "red"}),
    ],
)
async def test_what_cannot_work(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        await valkey.connect(url, **options)


async def test_a_wrong_password_is_misconfigured(engines: Engines) -> None:
    host = engines.urls["valkey"].rpartition("@")[2]
    cache = await valkey.connect(f"redis://:s3cret-but-wrong@{host}", prefix="t:")
    with pytest.raises(Misconfigured) as wrong:
        await cache.ping()
    assert "s3cret" not in str(wrong.value)
    await cache.close()


async def test_a_server_that_hangs_is_down(unused_tcp_port: int) -> None:
    hanging = await asyncio.start_server(lambda *_: None, "127.0.0.1", unused_tcp_port)
    async with hanging:
        url = f"valkey://127.0.0.1:{unused_tcp_port}"
        cache = await valkey.connect(url, prefix="t:", timeout_s=0.3)
        started = time.monotonic()
        for call in (
            cache.ping(),
            cache.get(EXPERIMENTS, ALL, "a"),
            cache.apply(EXPERIMENTS, [entry("a")], [], 1),
            cache.sessions.get("token"),
            cache.limits.check("ada", limit=1),
        ):
            with pytest.raises(StoreDown):
                await call
        assert time.monotonic() - started < 5 * 0.3 + 1
        await cache.close()


async def test_no_server_is_down(unused_tcp_port: int) -> None:
    cache = await valkey.connect(f"redis://127.0.0.1:{unused_tcp_port}", prefix="t:")
    with pytest.raises(StoreDown):
        await cache.ping()
    await cache.close()


async def test_an_entry_that_is_damaged_is_none(cache: ValkeyCache, raw: Redis) -> None:
    """Its value, its position, or its name: another one's entry under a key is no answer."""
    await cache.apply(EXPERIMENTS, [entry("a"), entry("b"), entry("c")], [], 7)
    start = "test_an_entry_that_is_damaged_is_none:default:experiment:"
    await raw.hset(f"{start}a", "v", '{"name":"value of z"}')
    await raw.hset(f"{start}b", "p", "8")
    await raw.copy(f"{start}c", f"{start}d")
    assert [await got(cache, EXPERIMENTS, key) for key in "abd"] == [None, None, None]
    assert await got(cache, EXPERIMENTS, "c") == {"name": "value of c"}
    await raw.hset(f"{start}b", "p", "x")
    assert {stamp.key for stamp in await cache.stamps(EXPERIMENTS, list("abcd"))} == set("acd")
    await cache.apply(EXPERIMENTS, [entry("a"), entry("b")], [], 9)
    assert await got(cache, EXPERIMENTS, "b") == {"name": "value of b"}


async def test_what_is_applied_leaves_a_mark_that_grows(cache: ValkeyCache) -> None:
    """And what a reader offers leaves none: it says nothing of what was applied before."""
    assert await cache.marks(EXPERIMENTS) == {}
    await cache.offer(EXPERIMENTS, [entry("a")], 9)
    assert await cache.marks(EXPERIMENTS) == {}
    await cache.apply(EXPERIMENTS, [entry("a")], ["b"], 7)
    buckets = {bucket_of("a"), bucket_of("b")}
    assert await cache.marks(EXPERIMENTS) == dict.fromkeys(buckets, 7)
    await cache.apply(EXPERIMENTS, [], ["b"], 5)
    await cache.apply(EXPERIMENTS, [entry("a")], [], 8)
    assert await cache.marks(EXPERIMENTS) == {bucket_of("b"): 7, bucket_of("a"): 8}
    await cache.forget(EXPERIMENTS)
    assert await cache.marks(EXPERIMENTS) == {}
