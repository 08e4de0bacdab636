"""Graph stores broken above their engine, the same way for every adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.outcomes import Failed

from polyplane.errors import PolyplaneError
from polyplane.model.collection import Collection
from polyplane.model.graph import ID
from polyplane.model.items import Stamp
from polyplane.model.scope import OWNER_ID, Scope
from polyplane.stores.graph import asking, ladybug_graph, walks
from polyplane.stores.graph.ladybug_graph import LadybugStore
from polyplane.stores.vector.where import conditions
from polyplane.testing.graph import GraphStoreContract
from polyplane.testing.graph_reading import SEEDS
from polyplane.testing.graph_samples import COLLECTIONS

Patch = pytest.MonkeyPatch
Breakage = Callable[[Patch], None]
Mutants = dict[str, tuple[Breakage, str]]
"""How to break it, and the test of the contract that must notice."""

NOTICED = (AssertionError, Failed, LookupError, PolyplaneError, ValueError)


def _applied(change: Callable[[list[Any], list[str], int], tuple[Any, Any, int]]) -> Breakage:
    """What is applied, changed on the way."""

    def break_it(patch: Patch) -> None:
        original = LadybugStore.apply

        async def broken(self: Any, collection: Any, puts: Any, drops: Any, position: int) -> None:
            await original(self, collection, *change(list(puts), list(drops), position))

        patch.setattr(LadybugStore, "apply", broken)

    return break_it


def _scanned(change: Callable[[list[Stamp]], list[Stamp]]) -> Breakage:
    """What the scan gives, changed."""

    def break_it(patch: Patch) -> None:
        original = LadybugStore.scan

        async def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
            async for stamps in original(self, *args, **kwargs):
                if found := change(stamps):
                    yield found

        patch.setattr(LadybugStore, "scan", broken)

    return break_it


def _from_the_start(patch: Patch) -> None:
    original = LadybugStore.scan
    patch.setattr(LadybugStore, "scan", lambda self, collection, **_: original(self, collection))


def _answered(verb: str, change: Callable[[Any], Any], **forced: Any) -> Breakage:
    """What a verb gives, changed; or asked with other arguments."""

    def break_it(patch: Patch) -> None:
        original = getattr(LadybugStore, verb)

        async def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
            return change(await original(self, *args, **{**kwargs, **forced}))

        patch.setattr(LadybugStore, verb, broken)

    return break_it


def _same(found: Any) -> Any:
    return found


def _buried(change: Callable[[list[str], int], tuple[Any, Any]]) -> Breakage:
    """What is buried, changed on the way."""

    def break_it(patch: Patch) -> None:
        original = LadybugStore.bury

        async def broken(self: Any, collection: Any, keys: Any, position: int) -> None:
            await original(self, collection, *change(list(keys), position))

        patch.setattr(LadybugStore, "bury", broken)

    return break_it


def _bury_is_a_drop(patch: Patch) -> None:
    async def broken(self: Any, collection: Any, keys: Any, position: int) -> None:
        await self.apply(collection, [], keys, position)

    patch.setattr(LadybugStore, "bury", broken)


def _generations_mixed(patch: Patch) -> None:
    patch.setattr(Collection, "labelled", property(lambda self: self.label))


def _unchecked(name: str) -> Breakage:
    """A check of what is written that lets everything through."""
    return lambda patch: patch.setattr(ladybug_graph, name, lambda *_: None)


def _scope_forgotten(patch: Patch) -> None:
    patch.setattr(
        asking,
        "seen",
        lambda collection, _scope, where=None: conditions(
            where or {}, {ID: str, **collection.tag_types}
        ),
    )


def _where_forgotten(patch: Patch) -> None:
    original = asking.seen
    patch.setattr(asking, "seen", lambda collection, scope, _=None: original(collection, scope))


def _limits(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Breakage:
    """What a scope asks of items, changed."""

    def break_it(patch: Patch) -> None:
        original = Scope.limits
        patch.setattr(Scope, "limits", lambda self, marks: change(original(self, marks)))

    return break_it


def _owner_forgotten(limits: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in limits.items() if name != OWNER_ID}


def _owned_by_nobody_hidden(limits: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [it for it in value if it] if isinstance(value, list) else value
        for name, value in limits.items()
    }


def _one_hop_too_far(patch: Patch) -> None:
    original = walks.levels
    patch.setattr(
        walks, "levels", lambda starts, legs, expand, hops: original(starts, legs, expand, hops + 1)
    )


def _any_way_is_cheap(patch: Patch) -> None:
    patch.setattr(walks, "cheapest", walks.shortest)


def _dearer_ways_not_tried(patch: Patch) -> None:
    """Who has been come to is not come to again, however cheaply."""
    original = walks.cheapest

    async def broken(source: Any, target: Any, legs: Any, expand: Any, hops: int) -> Any:
        seen: set[str] = set()

        async def once(leg: Any, keys: Any) -> Any:
            found = [it for it in await expand(leg, keys) if it.to not in seen]
            seen.update(it.to for it in found)
            return found

        return await original(source, target, legs, once, hops)

    patch.setattr(walks, "cheapest", broken)


def _without_digest(puts: list[Any]) -> list[Any]:
    return [replace(it, digest="") for it in puts]


SCAN = "test_scan_is_whole_and_in_the_order_of_code_points"
SCOPE = "test_a_scope_is_shown_what_it_sees"
WALKS = "test_walks_are_the_best_there_are"
BURY = "test_bury_clears_a_place_whatever_its_position"
TWICE = "test_an_edge_that_is_there_twice_is_told_of_and_buried"
NEAR = "test_neighbours_are_what_is_beside"
DROP = "test_a_drop_leaves_a_tombstone_without_content"

ANY_STORE: Mutants = {
    "scope forgotten": (_scope_forgotten, SCOPE),
    "owner forgotten": (_limits(_owner_forgotten), SCOPE),
    "owned by nobody hidden": (_limits(_owned_by_nobody_hidden), SCOPE),
    "whose it is not told": (
        _answered("nodes", lambda found: [it._replace(properties={}) for it in found]),
        SCOPE,
    ),
    "where forgotten": (_where_forgotten, "test_find_filters"),
    "drops forgotten": (_applied(lambda puts, drops, at: (puts, [], at)), DROP),
    "positions rounded": (
        _applied(lambda puts, drops, at: (puts, drops, at & ~1)),
        "test_positions_are_exact_up_to_53_bits",
    ),
    "digests lost": (
        _applied(lambda puts, drops, at: (_without_digest(puts), drops, at)),
        "test_a_put_is_stored_whole",
    ),
    "long batches cut": (
        _applied(lambda puts, drops, at: (puts[:4_500], drops, at)),
        "test_large_batches",
    ),
    "scan hides tombstones": (
        _scanned(lambda stamps: [it for it in stamps if it.digest is not None]),
        SCAN,
    ),
    "scan skips one": (_scanned(lambda stamps: stamps[1:]), SCAN),
    "scan in another order": (
        _scanned(lambda stamps: sorted(stamps, key=lambda it: it.key.encode("utf-16-be"))),
        SCAN,
    ),
    "scan from the start": (_from_the_start, SCAN),
    "stamps of one a key": (
        _answered("stamps", lambda found: list({it.key: it for it in found}.values())),
        TWICE,
    ),
    "contents of one a key": (
        _answered("contents", lambda found: list({it.stamp.key: it for it in found}.values())),
        TWICE,
    ),
    "stamps of no position": (
        _answered("stamps", lambda found: [it._replace(position=0) for it in found]),
        TWICE,
    ),
    "bury is gated": (_bury_is_a_drop, BURY),
    "buried too deep": (_buried(lambda keys, at: (keys, at + 1)), BURY),
    "one left unburied": (_buried(lambda keys, at: (keys[1:], at)), BURY),
    "nodes in any order": (
        _answered("nodes", lambda found: sorted(found, key=lambda it: it.key)),
        "test_nodes_keep_the_order_asked_for",
    ),
    "found one too few": (_answered("find", lambda found: found[1:]), "test_find_filters"),
    "neighbours out only": (_answered("neighbours", _same, direction="out"), NEAR),
    "neighbours of any": (_answered("neighbours", _same, of=None), NEAR),
    "neighbours by any edge": (_answered("neighbours", _same, where=None), NEAR),
    "neighbours unordered": (_answered("neighbours", _same, order_by=None), NEAR),
    "one hop too far": (_one_hop_too_far, WALKS),
    "any way is cheap": (_any_way_is_cheap, WALKS),
    "dearer ways not tried": (_dearer_ways_not_tried, WALKS),
    "a part of a part": (
        _answered("subgraph", lambda found: found._replace(edges=found.edges[1:])),
        WALKS,
    ),
    "a whole that is a part": (
        _answered("subgraph", lambda found: found._replace(truncated=False)),
        WALKS,
    ),
    "generations mixed": (_generations_mixed, "test_generations_of_a_collection_do_not_mix"),
    "properties not checked": (
        _unchecked("check_properties"),
        "test_impossible_properties_are_refused",
    ),
    "names not checked": (
        _unchecked("check_declared"),
        "test_names_that_cannot_be_are_misconfigured",
    ),
}


async def run(contract: GraphStoreContract, test: str, folder: Path) -> None:
    """Run one test of the contract, as often as it has seeds, each on a store of its own."""
    method = getattr(contract, test)
    asked = method.__code__.co_varnames[: method.__code__.co_argcount]
    for seed in SEEDS if "seed" in asked else (0,):
        await _run_once(contract, method, asked, folder / str(seed), seed)


async def _run_once(
    contract: GraphStoreContract, method: Any, asked: Sequence[str], folder: Path, seed: int
) -> None:
    store = await contract.open(folder)
    try:
        for collection in COLLECTIONS:
            await store.prepare(collection)
        known = {"store": store, "tmp_path": folder, "batch_size": 1_000, "seed": seed}
        await method(**{name: known[name] for name in asked if name in known})
    finally:
        await store.close()
