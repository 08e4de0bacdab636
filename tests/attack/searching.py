"""Probes of search by words, and by what is like something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

import polyplane as pp
from polyplane.model.scope import Scope
from polyplane.runtime.searching import VectorReader
from polyplane.stores.protocol import VectorStore
from tests.attack.ground import Ground
from tests.flow.deeds import DeedSearch

Probe = Callable[[Ground, Random], Awaitable[Any]]


def _question(ground: Ground, dice: Random) -> str:
    """Words of all deeds, and one that only theirs have."""
    return dice.choice([ground.theirs.canary, f"a deed {ground.theirs.canary}"])


async def _match(ground: Ground, dice: Random) -> Any:
    store = ground.plane.opened.stores.vector
    assert store is not None
    where = dice.choice([None, {"tenant_id": ground.theirs.tenant}, {"owner_id": None}])
    collection = ground.plane.opened.generations.readings[DeedSearch.name].collection
    scope = Scope.of(ground.mine.caller)
    return await store.match(collection, scope, _question(ground, dice), limit=100, where=where)


async def _find(ground: Ground, dice: Random) -> Any:
    reader = ground.plane.acting(ground.mine.caller)[DeedSearch]
    found = await reader.find(_question(ground, dice), mode="text", limit=1_000)
    # What was asked for is in the question; no hit may have it.
    return [it for it in found.hits if ground.theirs.canary in f"{it.key} {it.text} {it.tags}"]


async def _similar(ground: Ground, dice: Random) -> Any:
    """To something of theirs, which is as if it were not there; or of mine."""
    reader = ground.plane.acting(ground.mine.caller)[DeedSearch]
    side = dice.choice([ground.mine, ground.theirs])
    try:
        found = await reader.similar(dice.choice(side.deeds), limit=1_000)
    except pp.NotFound:
        return []
    if side is ground.theirs:
        return [found]
    return [it for it in found.hits if ground.theirs.canary in f"{it.key} {it.text} {it.tags}"]


SEARCHES_STORE: Final[dict[tuple[type[Any], str], Probe]] = {(VectorStore, "match"): _match}
SEARCHES: Final[dict[tuple[type[Any], str], Probe]] = {
    (VectorReader, "find"): _find,
    (VectorReader, "similar"): _similar,
}
