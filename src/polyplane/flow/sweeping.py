"""Sweeping: out of a collection goes what a fill has not touched."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from typing import Final

from polyplane.model.collection import Collection
from polyplane.model.position import Position
from polyplane.stores.protocol import ItemStore

_APPLY_S: Final = 300.0


async def sweep(
    store: ItemStore, collection: Collection, filled: Position, parked: Set[str] = frozenset()
) -> int:
    """Drop every item stamped before `filled`, the position of a fill that is done; how many.

    Such an item is of another time: of a truth that was put back to an older copy, or in a store
    that was. Whatever truth holds has been put with that position or a later one; but for bad
    rows: what is there of them stays, lest a later try finds a tombstone of its own position.
    """
    dropped = 0
    async for stamps in store.scan(collection):
        old = [
            stamp.key
            for stamp in stamps
            if stamp.digest is not None
            and stamp.position < filled.packed()
            and stamp.key not in parked
        ]
        if old:
            async with asyncio.timeout(_APPLY_S):
                await store.apply(collection, [], old, filled.packed())
            dropped += len(old)
    return dropped
