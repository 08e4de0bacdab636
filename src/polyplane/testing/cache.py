"""The contract of cache stores: inherit it, say how to open the engine, and how to look past it.

    class TestMine(CacheStoreContract):
    async def open(self, prefix):
            return await mine.connect(url, prefix=prefix)

    async def raw_entries(self, prefix):
            ...  # every entry below `prefix`, with the engine's own client

What a test stores it compares with `raw_entries`, so an adapter cannot agree with itself in
error. Needs pytest with pytest-asyncio.
"""

from __future__ import annotations

import asyncio
import random
from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import uuid4

import pytest

from polyplane.errors import Misconfigured
from polyplane.model.collection import Collection
from polyplane.model.digest import digest
from polyplane.model.items import Entry, Held, Item, Stamp
from polyplane.stores.protocol import CacheStore
from polyplane.testing.cache_scoping import CacheScopingContract
from polyplane.testing.samples import ALL, HOSTILE

EXPERIMENTS: Final = Collection("experiment_cache", 1, "cache", key_prefix="experiment:", ttl_s=60)
NESTED: Final = Collection("log_cache", 1, "cache", key_prefix="experiment:log:", ttl_s=60)
PLAIN: Final = Collection("plain", 1, "cache", ttl_s=60)


class RawEntry(NamedTuple):
    """What the engine really holds under one full name. `value` is None in a tombstone."""

    position: int
    digest: str | None
    value: Any | None
    ttl_s: float


def entry(key: str, value: Any = None, ttl_s: int | None = None) -> Item:
    """An item that holds `value` (default: one that follows from the key)."""
    value = {"name": f"value of {key}"} if value is None else value
    return Item(key, digest(value), Entry(value, ttl_s))


async def got(store: CacheStore, collection: Collection, key: str) -> Any | None:
    """The value under `key`, if there is one."""
    found = await store.get(collection, ALL, key)
    return None if found is None else found.value


class CacheStoreContract(CacheScopingContract):
    """What every cache store does. Subclass it as `Test...`."""

    @abstractmethod
    async def open(self, prefix: str) -> CacheStore:
        """The adapter, whose keys begin with `prefix`."""

    @abstractmethod
    async def raw_entries(self, prefix: str) -> dict[str, RawEntry]:
        """Every entry whose name begins with `prefix`, by its full name, past the adapter."""

    @abstractmethod
    async def raw_spoil(self, name: str) -> None:
        """Put something under `name` that no cache store would put there."""

    @pytest.fixture
    def prefix(self) -> str:
        """A prefix of the test's own."""
        return f"t{uuid4().hex}:default:"

    @pytest.fixture
    async def store(self, prefix: str) -> AsyncIterator[CacheStore]:
        """An empty store with the sample collections prepared."""
        store = await self.open(prefix)
        for collection in (EXPERIMENTS, NESTED, PLAIN):
            await store.prepare(collection)
        yield store
        await store.close()

    async def _stamps(
        self, store: CacheStore, collection: Collection | None = None, batch_size: int = 10_000
    ) -> list[Stamp]:
        batches = [b async for b in store.scan(collection or EXPERIMENTS, batch_size=batch_size)]
        assert all(0 < len(batch) <= batch_size for batch in batches)
        return [stamp for batch in batches for stamp in batch]

    async def _assert_holds(
        self, store: CacheStore, prefix: str, expected: dict[str, Stamp]
    ) -> None:
        """The engine holds exactly `expected`, and the scan says so."""
        raw = await self.raw_entries(f"{prefix}experiment:")
        start = f"{prefix}experiment:"
        found = {
            name.removeprefix(start): Stamp(name.removeprefix(start), held.position, held.digest)
            for name, held in raw.items()
        }
        assert found == expected
        assert await self._stamps(store) == [expected[key] for key in sorted(expected)]

    # What is put is there, under the seed's name behind the prefix

    async def test_a_put_is_stored_whole(self, store: CacheStore, prefix: str) -> None:
        value = {"name": "é \u2028", "n": [1, None, 0.1], "at": "2026-01-01T00:00:00Z"}
        await store.apply(EXPERIMENTS, [entry("a", value), entry("b", ttl_s=7)], [], 5)
        raw = await self.raw_entries(prefix)
        assert set(raw) == {f"{prefix}experiment:a", f"{prefix}experiment:b"}
        first, second = raw[f"{prefix}experiment:a"], raw[f"{prefix}experiment:b"]
        assert first[:3] == (5, digest(value), value)
        assert 55 < first.ttl_s <= 60
        assert 2 < second.ttl_s <= 7
        assert await got(store, EXPERIMENTS, "a") == value

    async def test_values_have_their_canonical_form(self, store: CacheStore) -> None:
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        await store.apply(PLAIN, [entry("a", {"d": Decimal("1.50"), "at": moment})], [], 1)
        wanted = {"d": "1.5", "at": "2026-01-01T00:00:00.000000+00:00"}
        assert await got(store, PLAIN, "a") == wanted
        empty: tuple[Any, ...] = (0, "", [], {}, False)
        for value in empty:
            await store.apply(PLAIN, [entry(f"v{value!r}", value)], [], 1)
            assert await got(store, PLAIN, f"v{value!r}") == value

    async def test_what_is_not_there_is_none(self, store: CacheStore) -> None:
        assert await got(store, EXPERIMENTS, "missing") is None
        assert await self._stamps(store) == []

    async def test_an_entry_ends_by_itself(self, store: CacheStore, prefix: str) -> None:
        await store.apply(EXPERIMENTS, [entry("a", ttl_s=1), entry("b")], [], 1)
        async with asyncio.timeout(10):
            while await got(store, EXPERIMENTS, "a") is not None:
                await asyncio.sleep(0.05)
        assert set(await self.raw_entries(prefix)) == {f"{prefix}experiment:b"}
        await store.apply(EXPERIMENTS, [entry("a", "older")], [], 0)
        assert await got(store, EXPERIMENTS, "a") == "older"

    async def test_everything_ends(self, store: CacheStore, prefix: str) -> None:
        items = [entry(f"k{i}") for i in range(600)]
        await store.apply(EXPERIMENTS, items, [f"d{i}" for i in range(600)], 1)
        raw = await self.raw_entries(prefix)
        assert len(raw) == 1_200
        for held in raw.values():
            longest = 60 if held.digest else 24 * 3600
            assert longest - 30 < held.ttl_s <= longest

    async def test_a_time_to_live_below_a_second_is_misconfigured(
        self, store: CacheStore, prefix: str
    ) -> None:
        for ttl_s in (0, -1):
            with pytest.raises(Misconfigured):
                await store.apply(EXPERIMENTS, [entry("a"), entry("b", ttl_s=ttl_s)], [], 1)
            with pytest.raises(Misconfigured):
                await store.prepare(replace(EXPERIMENTS, ttl_s=ttl_s))
        assert await self.raw_entries(prefix) == {}

    # The gate

    async def test_the_newer_position_wins(self, store: CacheStore, prefix: str) -> None:
        await store.apply(EXPERIMENTS, [entry("a", "old"), entry("b", "new")], ["c"], 5)
        await store.apply(EXPERIMENTS, [entry("b", "newest"), entry("c", "born")], [], 9)
        puts = [entry("a", "next"), entry("b", "stale"), entry("d", "four")]
        await store.apply(EXPERIMENTS, puts, ["c"], 7)
        raw = await self.raw_entries(f"{prefix}experiment:")
        found = {name[-1]: (held.position, held.value) for name, held in raw.items()}
        assert found == {"a": (7, "next"), "b": (9, "newest"), "c": (9, "born"), "d": (7, "four")}

    async def test_applying_again_changes_nothing(self, store: CacheStore, prefix: str) -> None:
        for value in ("first", "altered"):
            await store.apply(EXPERIMENTS, [entry("a", value)], ["gone"], 7)
        await store.apply(EXPERIMENTS, [entry("gone")], ["a"], 7)
        await store.apply(EXPERIMENTS, [], [], 8)
        await self._assert_holds(
            store,
            prefix,
            {"a": Stamp("a", 7, digest("first")), "gone": Stamp("gone", 7, None)},
        )

    async def test_positions_are_exact_up_to_53_bits(self, store: CacheStore, prefix: str) -> None:
        top = 2**53 - 1
        for position, value in ((top - 2, "first"), (top - 1, "second"), (top - 1, "same")):
            await store.apply(EXPERIMENTS, [entry("a", value)], [], position)
        assert await got(store, EXPERIMENTS, "a") == "second"
        await store.apply(EXPERIMENTS, [entry("a", "last")], [], top)
        await self._assert_holds(store, prefix, {"a": Stamp("a", top, digest("last"))})

    async def test_a_drop_leaves_a_tombstone_without_content(
        self, store: CacheStore, prefix: str
    ) -> None:
        await store.apply(EXPERIMENTS, [entry("a"), entry("b")], [], 1)
        await store.apply(EXPERIMENTS, [], ["a", "never"], 2)
        assert await got(store, EXPERIMENTS, "a") is None
        raw = await self.raw_entries(prefix)
        assert {name[-1]: held[:3] for name, held in raw.items()} == {
            "a": (2, None, None),
            "b": (1, entry("b").digest, {"name": "value of b"}),
            "r": (2, None, None),
        }
        await store.apply(EXPERIMENTS, [entry("a", "stale"), entry("never", "stale")], [], 1)
        assert await got(store, EXPERIMENTS, "a") is None
        await store.apply(EXPERIMENTS, [entry("a", "risen")], [], 3)
        assert await got(store, EXPERIMENTS, "a") == "risen"

    async def test_any_sequence_ends_as_the_positions_say(
        self, store: CacheStore, prefix: str
    ) -> None:
        dice = random.Random(20)
        expected: dict[str, Stamp] = {}
        for _ in range(60):
            position = dice.randrange(1, 30)
            keys = dice.sample([f"k{i}" for i in range(12)], dice.randrange(1, 6))
            dropped = keys[: dice.randrange(len(keys) + 1)]
            puts = [entry(k, f"{k} at {position}") for k in keys if k not in dropped]
            await store.apply(EXPERIMENTS, puts, dropped, position)
            for key, what in [(i.key, i.digest) for i in puts] + [(k, None) for k in dropped]:
                if key not in expected or expected[key].position < position:
                    expected[key] = Stamp(key, position, what)
        await self._assert_holds(store, prefix, expected)

    async def test_racing_writers_are_gated(self, store: CacheStore, prefix: str) -> None:
        other = await self.open(prefix)
        try:
            await asyncio.gather(
                *(
                    writer.apply(EXPERIMENTS, [entry("a", p)], [f"t{p % 3}"], p)
                    for p, writer in enumerate([store, other] * 40, start=1)
                )
            )
            assert await got(other, EXPERIMENTS, "a") == 80
            expected = {"a": Stamp("a", 80, digest(80))}
            expected |= {f"t{p % 3}": Stamp(f"t{p % 3}", p, None) for p in (78, 79, 80)}
            await self._assert_holds(store, prefix, expected)
        finally:
            await other.close()

    # What the gate does not stop

    async def test_stamps_are_what_is_held_under_keys(self, store: CacheStore) -> None:
        await store.apply(EXPERIMENTS, [entry("a"), entry("b"), entry("c")], ["gone", *HOSTILE], 3)
        await store.apply(NESTED, [entry("n")], [], 1)
        asked = ["a", "c", "gone", "never", "log:n", *HOSTILE]
        expected = [Stamp(key, 3, entry(key).digest) for key in ("a", "c")]
        expected += [Stamp(key, 3, None) for key in ("gone", *HOSTILE)]
        assert sorted(await store.stamps(EXPERIMENTS, asked)) == sorted(expected)
        assert await store.stamps(EXPERIMENTS, []) == []

    async def test_contents_are_what_is_held(self, store: CacheStore) -> None:
        values = {"a": {"n": [1, 2.5, None]}, "b": 0, "c": "é"}
        await store.apply(EXPERIMENTS, [entry(k, v) for k, v in values.items()], ["gone"], 3)
        await store.apply(NESTED, [entry("n")], [], 1)
        held = await store.contents(EXPERIMENTS, [*values, "gone", "never", "log:n"])
        expected = [Held(Stamp(k, 3, digest(v)), Entry(v)) for k, v in values.items()]
        assert held == [*expected, Held(Stamp("gone", 3, None), None)]

    async def test_bury_clears_a_place_whatever_its_position(
        self, store: CacheStore, prefix: str
    ) -> None:
        top = 2**53 - 1
        keys = ["ahead", "low", *(f"k{i}" for i in range(600))]
        await store.apply(EXPERIMENTS, [entry(key) for key in keys], ["gone"], top)
        await store.apply(EXPERIMENTS, [entry("left")], [], 3)
        await store.bury(EXPERIMENTS, [*keys, "gone", "never"], 5)
        expected = {key: Stamp(key, 5, None) for key in (*keys, "gone", "never")}
        expected["left"] = Stamp("left", 3, entry("left").digest)
        await self._assert_holds(store, prefix, expected)
        for held in (await self.raw_entries(prefix)).values():
            assert held.ttl_s > 0
        await store.apply(EXPERIMENTS, [entry("ahead", "old"), entry("low", "old")], [], 5)
        await store.apply(EXPERIMENTS, [entry("ahead", "new")], [], 6)
        assert await got(store, EXPERIMENTS, "ahead") == "new"
        assert await got(store, EXPERIMENTS, "low") is None
        await store.bury(EXPERIMENTS, [], 7)

    # Scan, and who owns what

    @pytest.mark.parametrize("batch_size", [1, 7, 1_000])
    async def test_scan_is_whole_and_in_the_order_of_code_points(
        self, store: CacheStore, batch_size: int
    ) -> None:
        keys = [*HOSTILE, "", "a", "B", "é", "\uffee", "\U0001f600", '["a",1]', "*", "a?", "[ab]"]
        keys = sorted({*keys, "x" * 500, *(f"k{i}" for i in range(300))})
        await store.apply(EXPERIMENTS, [entry(key) for key in keys[::2]], keys[1::2], 3)
        stamps = await self._stamps(store, batch_size=batch_size)
        assert [stamp.key for stamp in stamps] == keys
        assert {s.key for s in stamps if s.digest is None} == set(keys[1::2])
        for key in keys[::2]:
            assert await got(store, EXPERIMENTS, key) == {"name": f"value of {key}"}

    async def test_scan_goes_on_behind_a_key(self, store: CacheStore) -> None:
        keys = [*HOSTILE, "", "a", "B", "é", "\uffee", "\U0001f600", "*", "a?", "[ab]"]
        await store.apply(EXPERIMENTS, [entry(key) for key in keys[::2]], keys[1::2], 3)
        for after in (*keys, "\x01", "a ", "\U0010ffff"):
            found = [s.key async for stamps in store.scan(EXPERIMENTS, after=after) for s in stamps]
            assert found == sorted(key for key in keys if key > after), after

    async def test_collections_and_generations_do_not_mix(
        self, store: CacheStore, prefix: str
    ) -> None:
        second = replace(EXPERIMENTS, generation=2)
        for i, collection in enumerate((EXPERIMENTS, second, NESTED, PLAIN), start=1):
            await store.prepare(collection)
            await store.apply(collection, [entry("a", i)], [f"gone{i}"], 10 - i)
        for i, collection in enumerate((EXPERIMENTS, second, NESTED, PLAIN), start=1):
            assert await got(store, collection, "a") == i
            stamps = await self._stamps(store, collection)
            assert [stamp.key for stamp in stamps] == ["a", f"gone{i}"]
        assert len(await self.raw_entries(prefix)) == 8

    async def test_what_is_not_ours_is_left_alone(self, store: CacheStore, prefix: str) -> None:
        other = await self.open(f"{prefix}[*]")
        try:
            await store.apply(EXPERIMENTS, [entry("a")], [], 1)
            await other.apply(EXPERIMENTS, [entry("a", "other")], ["b"], 1)
            assert [stamp.key for stamp in await self._stamps(store)] == ["a"]
            assert await got(store, EXPERIMENTS, "b") is None
            assert [stamp.key for stamp in await self._stamps(other)] == ["a", "b"]
            assert await got(other, EXPERIMENTS, "a") == "other"
        finally:
            await other.close()

    async def test_what_does_not_belong_in_our_place_gives_way(
        self, store: CacheStore, prefix: str
    ) -> None:
        await self.raw_spoil(f"{prefix}experiment:a")
        await self.raw_spoil(f"{prefix}experiment:b")
        assert await self._stamps(store) == []
        await store.apply(EXPERIMENTS, [entry("a", "ours"), entry("c")], [], 1)
        assert await got(store, EXPERIMENTS, "a") == "ours"
        assert [stamp.key for stamp in await self._stamps(store)] == ["a", "c"]

    # Being a store

    async def test_it_says_that_it_is_a_cache(self, store: CacheStore) -> None:
        assert store.durable is False
        await store.apply(EXPERIMENTS, [entry("a")], [], 1)
        await store.ping()
        await store.barrier()
        for full in (False, True):
            await store.maintain(EXPERIMENTS, full=full)
        assert await got(store, EXPERIMENTS, "a") == {"name": "value of a"}
        await store.close()
        await store.close()

    async def test_many_callers_at_once(self, store: CacheStore) -> None:
        await store.apply(EXPERIMENTS, [entry(f"k{i}", i) for i in range(50)], [], 1)
        found = await asyncio.gather(*(got(store, EXPERIMENTS, f"k{i % 50}") for i in range(500)))
        assert found == [i % 50 for i in range(500)]
