"""Vector stores broken above their engine, the same way for every adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _pytest.outcomes import Failed

from polyplane.errors import PolyplaneError
from polyplane.model.collection import Collection
from polyplane.model.items import Stamp
from polyplane.model.scope import OWNER_ID, Scope
from polyplane.model.terms import terms
from polyplane.stores.vector import lance, lance_table, qdrant, qdrant_terms
from polyplane.stores.vector.lance import LanceStore
from polyplane.stores.vector.qdrant import QdrantStore
from polyplane.testing.samples import NOTES, UNTYPED
from polyplane.testing.vector import VectorStoreContract
from polyplane.testing.vector_matching import WORDED

Patch = pytest.MonkeyPatch
Breakage = Callable[[Patch], None]
Mutants = dict[str, tuple[Breakage, str]]
"""How to break it, and the test of the contract that must notice."""

NOTICED = (AssertionError, Failed, LookupError, PolyplaneError, ValueError)
STORES: tuple[type[Any], ...] = (LanceStore, QdrantStore)


def _applied(change: Callable[[list[Any], list[str], int], tuple[Any, Any, int]]) -> Breakage:
    """What is applied, changed on the way."""

    def break_it(patch: Patch) -> None:
        for store in STORES:
            _wrap_apply(patch, store, change)

    return break_it


def _wrap_apply(patch: Patch, store: type[Any], change: Callable[..., Any]) -> None:
    original = store.apply

    async def broken(self: Any, collection: Any, puts: Any, drops: Any, position: int) -> None:
        await original(self, collection, *change(list(puts), list(drops), position))

    patch.setattr(store, "apply", broken)


def _scanned(change: Callable[[list[Stamp]], list[Stamp]]) -> Breakage:
    """What the scan gives, changed."""

    def break_it(patch: Patch) -> None:
        for store in STORES:
            _wrap_scan(patch, store, change)

    return break_it


def _wrap_scan(patch: Patch, store: type[Any], change: Callable[..., list[Stamp]]) -> None:
    original = store.scan

    async def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        async for stamps in original(self, *args, **kwargs):
            yield change(stamps)

    patch.setattr(store, "scan", broken)


def _from_the_start(patch: Patch) -> None:
    for store in STORES:
        original = store.scan
        patch.setattr(store, "scan", lambda self, *args, scan=original, **_: scan(self, *args))


def _answered(verb: str, change: Callable[[list[Any]], list[Any]], **forced: Any) -> Breakage:
    """What `search`, `get` or `stamps` gives, changed; or asked with other arguments."""

    def break_it(patch: Patch) -> None:
        for store in STORES:
            _wrap_answer(patch, store, verb, change, forced)

    return break_it


def _wrap_answer(
    patch: Patch, store: type[Any], verb: str, change: Callable[..., Any], forced: dict[str, Any]
) -> None:
    original = getattr(store, verb)

    async def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        return change(await original(self, *args, **{**kwargs, **forced}))

    patch.setattr(store, verb, broken)


def _buried(change: Callable[[list[str], int], tuple[Any, Any]]) -> Breakage:
    """What is buried, changed on the way."""

    def break_it(patch: Patch) -> None:
        for store in STORES:
            _wrap_bury(patch, store, change)

    return break_it


def _wrap_bury(patch: Patch, store: type[Any], change: Callable[..., Any]) -> None:
    original = store.bury

    async def broken(self: Any, collection: Any, keys: Any, position: int) -> None:
        await original(self, collection, *change(list(keys), position))

    patch.setattr(store, "bury", broken)


def _bury_is_a_drop(patch: Patch) -> None:
    for store in STORES:

        async def broken(self: Any, collection: Any, keys: Any, position: int) -> None:
            await self.apply(collection, [], keys, position)

        patch.setattr(store, "bury", broken)


def _versions_mixed(patch: Patch) -> None:
    patch.setattr(Collection, "target", property(lambda self: self.name))


def _written_before_checked(patch: Patch) -> None:
    for module in (lance, qdrant):
        patch.setattr(module, "check_tags", lambda *_: None)


def _names_not_checked(patch: Patch) -> None:
    for module in (lance, qdrant):
        patch.setattr(module, "check_names", lambda *_: None)


def _scope_forgotten(patch: Patch) -> None:
    for module in (lance, qdrant):
        patch.setattr(module, "narrowed", lambda _collection, _scope, where: where)


def _owner_forgotten(patch: Patch) -> None:
    original = Scope.limits
    patch.setattr(Scope, "limits", lambda self, marks: original(self, set(marks) - {OWNER_ID}))


def _owners_of_nobody_forgotten(patch: Patch) -> None:
    def broken(self: Scope, marks: Any) -> dict[str, Any]:
        return {
            name: [it for it in value if it] if isinstance(value, list) else value
            for name, value in original(self, marks).items()
        }

    original = Scope.limits
    patch.setattr(Scope, "limits", broken)


def _not_stemmed(patch: Patch) -> None:
    for module in (lance_table, qdrant_terms):
        patch.setattr(module, "terms", lambda text, _: terms(text, "plain"))


def _words_of_before(patch: Patch) -> None:
    """What is put is found by the words of what was put first."""
    first: dict[str, Any] = {}
    for module, name in ((lance_table, "terms_of"), (qdrant_terms, "weighed")):
        original = getattr(module, name)

        def broken(*args: Any, original: Any = original, name: str = name) -> Any:
            return first.setdefault(name, original(*args))

        patch.setattr(module, name, broken)


def _words_not_compared(patch: Patch) -> None:
    for store in STORES:
        original = store.contents

        async def broken(self: Any, *args: Any, contents: Any = original) -> Any:
            held = await contents(self, *args)
            for it in held:
                if it.content is not None:
                    it.content.tags.pop("_terms", None)
            return held

        patch.setattr(store, "contents", broken)


ANY_STORE: Mutants = {
    "scope forgotten": (_scope_forgotten, "test_a_scope_is_shown_what_it_sees"),
    "scope forgotten, untyped": (
        _scope_forgotten,
        "test_a_scope_is_shown_what_it_sees_without_types",
    ),
    "owner forgotten": (_owner_forgotten, "test_a_scope_is_shown_what_it_sees"),
    "owned by nobody hidden": (
        _owners_of_nobody_forgotten,
        "test_a_scope_is_shown_what_it_sees",
    ),
    "scope after the limit": (
        _answered("search", lambda hits: hits[: len(hits) // 2]),
        "test_the_nearest_of_another_tenant_takes_no_place",
    ),
    "whose it is not told": (
        _answered("get", lambda hits: [hit._replace(tags={}) for hit in hits]),
        "test_a_scope_is_shown_what_it_sees",
    ),
    "scope forgotten, by words": (
        _scope_forgotten,
        "test_a_scope_is_matched_only_what_it_sees",
    ),
    "owner forgotten, by words": (
        _owner_forgotten,
        "test_a_scope_is_matched_only_what_it_sees",
    ),
    "filters ignored, by words": (
        _answered("match", lambda hits: hits, where=None),
        "test_match_filters_before_the_limit",
    ),
    "worst first, by words": (
        _answered("match", lambda hits: hits[::-1]),
        "test_match_finds_exactly_what_has_a_word",
    ),
    "one too few, by words": (
        _answered("match", lambda hits: hits[:-1]),
        "test_match_finds_exactly_what_has_a_word",
    ),
    "texts lost, by words": (
        _answered("match", lambda hits: [hit._replace(text="") for hit in hits]),
        "test_match_finds_exactly_what_has_a_word",
    ),
    "forms not known": (_not_stemmed, "test_forms_of_a_word"),
    "words of before": (_words_of_before, "test_what_was_applied_is_matched_at_once"),
    "words not told of": (_words_not_compared, "test_words_put_by_hand_are_told_of"),
    "drops forgotten": (
        _applied(lambda puts, drops, position: (puts, [], position)),
        "test_a_drop_leaves_a_tombstone_without_content",
    ),
    "positions rounded": (
        _applied(lambda puts, drops, position: (puts, drops, position & ~1)),
        "test_positions_are_exact_up_to_53_bits",
    ),
    "long batches cut": (
        _applied(lambda puts, drops, position: (puts[:1_000], drops, position)),
        "test_large_batches",
    ),
    "digests lost": (
        _applied(
            lambda puts, drops, position: (
                [type(item)(item.key, "", item.content) for item in puts],
                drops,
                position,
            )
        ),
        "test_a_put_is_stored_whole",
    ),
    "scan hides tombstones": (
        _scanned(lambda stamps: [stamp for stamp in stamps if stamp.digest]),
        "test_scan_is_whole_and_in_the_order_of_code_points",
    ),
    "scan skips one": (
        _scanned(lambda stamps: stamps[1:]),
        "test_scan_is_whole_and_in_the_order_of_code_points",
    ),
    "scan in another order": (
        _scanned(lambda stamps: sorted(stamps, key=lambda s: s.key.encode("utf-16-be"))),
        "test_scan_is_whole_and_in_the_order_of_code_points",
    ),
    "scan from the start": (
        _from_the_start,
        "test_scan_goes_on_behind_a_key",
    ),
    "filters ignored": (_answered("search", lambda hits: hits, where=None), "test_search_filters"),
    "worst first": (_answered("search", lambda hits: hits[::-1]), "test_search_ranks_by_cosine"),
    "distance for score": (
        _answered("search", lambda hits: [h._replace(score=1 - h.score) for h in hits]),
        "test_search_ranks_by_cosine",
    ),
    "one too few": (_answered("search", lambda hits: hits[:-1]), "test_search_ranks_by_cosine"),
    "texts lost": (
        _answered("search", lambda hits: [hit._replace(text="") for hit in hits]),
        "test_search_ranks_by_cosine",
    ),
    "got in any order": (
        _answered("get", lambda hits: sorted(hits, key=lambda hit: hit.key)),
        "test_get_keeps_the_order_asked_for",
    ),
    "bury is gated": (_bury_is_a_drop, "test_bury_clears_a_place_whatever_its_position"),
    "bury leaves the twin": (_bury_is_a_drop, "test_bury_clears_what_is_there_twice"),
    "buried too deep": (
        _buried(lambda keys, position: (keys, position + 1)),
        "test_bury_clears_a_place_whatever_its_position",
    ),
    "one left unburied": (
        _buried(lambda keys, position: (keys[1:], position)),
        "test_bury_clears_a_place_whatever_its_position",
    ),
    "one stamp a key": (
        _answered("stamps", lambda found: list({stamp.key: stamp for stamp in found}.values())),
        "test_bury_clears_what_is_there_twice",
    ),
    "stamps without tombstones": (
        _answered("stamps", lambda found: [stamp for stamp in found if stamp.digest]),
        "test_stamps_are_what_is_held_under_keys",
    ),
    "versions mixed": (_versions_mixed, "test_generations_of_a_collection_do_not_mix"),
    "tags not checked": (_written_before_checked, "test_impossible_tags_are_refused"),
    "names not checked": (_names_not_checked, "test_prepare_refuses_another_shape"),
}


async def run(contract: VectorStoreContract, test: str, folder: Path) -> None:
    """Run one test of the contract on a store of its own."""
    store = await contract.open(folder)
    try:
        await store.prepare(NOTES)
        await store.prepare(UNTYPED)
        method = getattr(contract, test)
        asked = method.__code__.co_varnames[: method.__code__.co_argcount]
        known: dict[str, Any] = {"store": store, "tmp_path": folder, "batch_size": 1_000}
        known |= {"seed": 0, "collection": WORDED, "is_maintained": True}
        await method(**{name: known[name] for name in asked if name in known})
    finally:
        await store.close()
