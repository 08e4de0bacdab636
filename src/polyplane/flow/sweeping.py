"""Sweeping: out of a collection goes what a fill has not touched."""

from __future__ import annotations

import asyncio
from typing import Final

from polyplane.model.collection import Collection
from polyplane.model.position import Position
from polyplane.stores.protocol import ItemStore

_APPLY_S: Final = 300.0


async def sweep(store: ItemStore, collection: Collection, filled: Position) -> int:
    """Drop every item stamped before `filled`, the position of a fill that is done; how many.

    Such an item is of another time: of a truth that was put back to an older copy, or in a store
    that was. Whatever truth holds has been put with that position or a later one.
    """
    dropped = 0
    async for stamps in store.scan(collection):
        old = [s.key for s in stamps if s.digest is not None and s.position < filled.packed()]
        if old:
            async with asyncio.timeout(_APPLY_S):
                await store.apply(collection, [], old, filled.packed())
            dropped += len(old)
    return dropped
