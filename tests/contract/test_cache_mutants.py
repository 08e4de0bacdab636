"""The cache contract notices an adapter that is broken on purpose, in the way it is broken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson
import pytest
from _pytest.outcomes import Failed

from polyplane.embedded import Engines
from polyplane.errors import PolyplaneError
from polyplane.model.items import Entry, Stamp
from polyplane.model.scope import OWNER_ID, TENANT_ID, Scope
from polyplane.stores.cache import tenants, valkey
from polyplane.stores.cache.valkey import ValkeyCache
from polyplane.testing.cache import EXPERIMENTS, NESTED, PLAIN
from tests.contract.sampling import sampled
from tests.contract.test_cache_valkey import TestValkey as Contract

Patch = pytest.MonkeyPatch
Breakage = Callable[[Patch], None]


def _script(old: str, new: str) -> Breakage:
    """The Lua script with `old` replaced by `new`."""

    def break_it(patch: Patch) -> None:
        assert old in valkey._APPLY
        patch.setattr(valkey, "_APPLY", valkey._APPLY.replace(old, new))

    return break_it


def _scanned(change: Callable[[list[Stamp]], list[Stamp]]) -> Breakage:
    """What the scan gives, changed."""

    def break_it(patch: Patch) -> None:
        original = ValkeyCache.scan

        async def broken(self: ValkeyCache, *args: Any, **kwargs: Any) -> Any:
            async for stamps in original(self, *args, **kwargs):
                yield change(stamps)

        patch.setattr(ValkeyCache, "scan", broken)

    return break_it


def _from_the_start(patch: Patch) -> None:
    original = ValkeyCache.scan
    patch.setattr(ValkeyCache, "scan", lambda self, collection, **_: original(self, collection))


def _gate_outside_of_the_script(patch: Patch) -> None:
    original = ValkeyCache.apply

    async def broken(
        self: ValkeyCache, collection: Any, puts: Any, drops: Any, position: int
    ) -> None:
        held = {s.key: s.position async for b in self.scan(collection) for s in b}
        fresh = [item for item in puts if held.get(item.key, -1) < position]
        gone = [key for key in drops if held.get(key, -1) < position]
        await asyncio.sleep(1 / position)  # the older a write, the later it comes
        await original(self, collection, fresh, gone, position)

    patch.setattr(ValkeyCache, "apply", broken)
    _script("tonumber(held) < position", "true")(patch)


def _bury(old: str, new: str) -> Breakage:
    """The script that buries, with `old` replaced by `new`."""

    def break_it(patch: Patch) -> None:
        assert old in valkey._BURY
        patch.setattr(valkey, "_BURY", valkey._BURY.replace(old, new))

    return break_it


def _versions_share_keys(patch: Patch) -> None:
    patch.setattr(
        ValkeyCache, "_start", lambda self, c: f"{self._server.prefix}{c.key_prefix or c.name}"
    )


def _prefix_forgotten(patch: Patch) -> None:
    patch.setattr(ValkeyCache, "_start", lambda self, c: c.key_prefix or f"{c.name}:")


def _patterns_taken_at_their_word(patch: Patch) -> None:
    patch.setattr(valkey, "glob", lambda text: text)


def _positions_rounded(patch: Patch) -> None:
    original = ValkeyCache.apply

    async def broken(
        self: ValkeyCache, collection: Any, puts: Any, drops: Any, position: int
    ) -> None:
        await original(self, collection, puts, drops, position & ~1)

    patch.setattr(ValkeyCache, "apply", broken)


def _time_to_live_not_checked(patch: Patch) -> None:
    patch.setattr(valkey, "_check_ttl", lambda *_: None)


def _entries_for_ever(patch: Patch) -> None:
    _script("redis.call('EXPIRE', key, ttl_s)", "")(patch)


def _wholly_read(patch: Patch) -> None:
    patch.setattr(valkey, "canonical", lambda value: orjson.dumps(str(value)))


def _scope_forgotten(patch: Patch) -> None:
    original = tenants.Tenants.get

    async def broken(self: Any, collection: Any, scope: Any, key: str) -> Any:
        return await original(self, collection, Scope.everything, key)

    patch.setattr(tenants.Tenants, "get", broken)


def _sees_any_owner(patch: Patch) -> None:
    original = Scope.sees
    patch.setattr(
        Scope,
        "sees",
        lambda self, marks, whose: original(self, set(marks) - {OWNER_ID}, whose),
    )


def _of_tenants(name: str, old: str, new: str) -> Breakage:
    """A script for entries of tenants, with `old` replaced by `new`."""

    def break_it(patch: Patch) -> None:
        assert old in getattr(tenants, name)
        patch.setattr(tenants, name, getattr(tenants, name).replace(old, new))

    return break_it


def _tenants_share_keys(patch: Patch) -> None:
    patch.setattr(tenants, "segment", lambda tenant: tenant.lower())


def _gate_not_asked(patch: Patch) -> None:
    """The value alone is the answer."""

    async def broken(self: Any, collection: Any, scope: Any, key: str) -> Any:
        place = tenants._place(collection, {TENANT_ID: scope.tenant or "acme"})
        async with self._server.calls() as client:
            held = await client.hmget(self._name(collection, place, key), list(tenants._VALUE))
        marks = held[1] and tenants._marks(collection, held)
        return Entry(orjson.loads(held[1]), marks=marks) if held[1] else None

    patch.setattr(tenants.Tenants, "get", broken)


MUTANTS: dict[str, tuple[Breakage, str]] = {
    "scope forgotten": (_scope_forgotten, "test_a_scope_is_shown_what_it_sees"),
    "any owner": (_sees_any_owner, "test_an_entry_of_another_owner_is_not_shown"),
    "tenants share keys": (_tenants_share_keys, "test_a_scope_is_shown_what_it_sees"),
    "gate not asked": (_gate_not_asked, "test_a_value_without_its_gate_is_no_answer"),
    "owner not summed": (
        lambda patch: patch.setattr(
            tenants, "_sum", lambda n, p, v, _o, right=tenants._sum: right(n, p, v, "")
        ),
        "test_an_entry_that_says_another_owner_is_no_answer",
    ),
    "the old tenant keeps it": (
        _of_tenants("_APPLY", "'DEL', ARGV[3] .. held[2]", "'EXISTS', ARGV[3] .. held[2]"),
        "test_nothing_is_left_of_who_had_it_before",
    ),
    "buried at the gate only": (
        _of_tenants("_BURY", "'DEL', ARGV[3] .. held", "'EXISTS', ARGV[3] .. held"),
        "test_nothing_is_left_of_who_had_it_before",
    ),
    "no gate of tenants": (
        _of_tenants("_APPLY", "tonumber(held[1]) < position", "true"),
        "test_nothing_is_left_of_who_had_it_before",
    ),
    "no gate": (_script("tonumber(held) < position", "true"), "test_the_newer_position_wins"),
    "equal passes": (
        _script("tonumber(held) < position", "tonumber(held) <= position"),
        "test_applying_again_changes_nothing",
    ),
    "positions as text": (
        _script("tonumber(held) < position", "held < ARGV[2]"),
        "test_any_sequence_ends_as_the_positions_say",
    ),
    "positions rounded": (_positions_rounded, "test_positions_are_exact_up_to_53_bits"),
    "first come": (_script("tonumber(held) < position", "false"), "test_the_newer_position_wins"),
    "gate outside": (_gate_outside_of_the_script, "test_racing_writers_are_gated"),
    "no tombstone": (
        _script(
            "redis.call('EXPIRE', key, ttl_s)",
            "redis.call('EXPIRE', key, digest == '' and -1 or ttl_s)",
        ),
        "test_a_drop_leaves_a_tombstone_without_content",
    ),
    "tombstone with content": (
        _script("foreign or digest == ''", "foreign"),
        "test_a_drop_leaves_a_tombstone_without_content",
    ),
    "for ever": (_entries_for_ever, "test_everything_ends"),
    "one time to live for all": (
        _script("'EXPIRE', key, ttl_s", "'EXPIRE', key, 60"),
        "test_a_put_is_stored_whole",
    ),
    "time to live not checked": (
        _time_to_live_not_checked,
        "test_a_time_to_live_below_a_second_is_misconfigured",
    ),
    "foreign things stay": (
        _script("foreign or not held or", "not held or"),
        "test_what_does_not_belong_in_our_place_gives_way",
    ),
    "no digest": (_script("'d', digest, ", ""), "test_a_put_is_stored_whole"),
    "values as text": (_wholly_read, "test_a_put_is_stored_whole"),
    "versions share keys": (_versions_share_keys, "test_collections_and_generations_do_not_mix"),
    "prefix forgotten": (_prefix_forgotten, "test_what_is_not_ours_is_left_alone"),
    "patterns unescaped": (_patterns_taken_at_their_word, "test_what_is_not_ours_is_left_alone"),
    "bury is gated": (
        _bury("redis.call('DEL', key)", "if redis.call('EXISTS', key) == 1 then return end"),
        "test_bury_clears_a_place_whatever_its_position",
    ),
    "buried with content": (
        _bury("redis.call('DEL', key)", ""),
        "test_bury_clears_a_place_whatever_its_position",
    ),
    "buried for ever": (
        _bury("redis.call('EXPIRE', key, ARGV[3])", ""),
        "test_bury_clears_a_place_whatever_its_position",
    ),
    "scan in no order": (
        _scanned(lambda stamps: stamps[::-1]),
        "test_any_sequence_ends_as_the_positions_say",
    ),
    "scan without tombstones": (
        _scanned(lambda stamps: [stamp for stamp in stamps if stamp.digest]),
        "test_any_sequence_ends_as_the_positions_say",
    ),
    "scan from the start": (
        _from_the_start,
        "test_scan_goes_on_behind_a_key",
    ),
    "scan without the last": (
        _scanned(lambda stamps: stamps[:-1]),
        "test_any_sequence_ends_as_the_positions_say",
    ),
}


async def _run(engines: Engines, test: str) -> None:
    """Run one test of the contract under a prefix of its own."""
    contract = Contract()
    contract.url = engines.urls["valkey"]
    prefix = f"m{uuid4().hex}:default:"
    store = await contract.open(prefix)
    try:
        for collection in (EXPERIMENTS, NESTED, PLAIN):
            await store.prepare(collection)
        method = getattr(contract, test)
        wanted = method.__code__.co_varnames[1 : method.__code__.co_argcount]
        await method(**{n: v for n, v in (("store", store), ("prefix", prefix)) if n in wanted})
    finally:
        await store.close()


@pytest.mark.parametrize("mutant", sampled([*MUTANTS], [*MUTANTS]))
async def test_the_contract_notices(mutant: str, engines: Engines, monkeypatch: Patch) -> None:
    break_it, test = MUTANTS[mutant]
    with monkeypatch.context() as patch:
        break_it(patch)
        with pytest.raises((AssertionError, Failed, PolyplaneError, TimeoutError)):
            await _run(engines, test)


@pytest.mark.long
@pytest.mark.parametrize("test", sorted({test for _, test in MUTANTS.values()}))
async def test_the_adapter_passes_the_same_tests(test: str, engines: Engines) -> None:
    await _run(engines, test)
    assert hasattr(Contract, test)
