"""Whether a store went back: deleted by hand, or put back to an older copy of its files."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, runtime_checkable

from polyplane.flow.projector import Target
from polyplane.model.collection import Collection
from polyplane.model.key import bucket_of
from polyplane.truth.journal import Journal

_LOOK_S: Final = 30.0


@runtime_checkable
class Marking(Protocol):
    """A store that remembers what it was given, apart from what it still has."""

    async def marks(self, collection: Collection) -> dict[int, int]:
        """Bucket -> the newest position that was applied in it."""
        ...


async def went_back(target: Target, journal: Journal) -> bool:
    """Whether the store of a filled collection has lost what was durable in it.

    The keys applied last, one a bucket, are looked up: the store must hold each with the position
    it was applied with, or a newer one. A cache may lack any, but must not hold an older one, and
    must remember that it was given them: else it may lack a newer state of what it holds.
    """
    witnesses = await journal.witnesses(target.collection.target)
    if not witnesses:
        return False
    async with asyncio.timeout(_LOOK_S):
        stamps = await target.store.stamps(target.collection, list(witnesses))
        if isinstance(target.store, Marking):
            marks = await target.store.marks(target.collection)
            if any(marks.get(bucket_of(key), -1) < at for key, at in witnesses.items()):
                return True
    held: dict[str, int] = {}
    for stamp in stamps:  # more than one of a key, when a second was put there by hand
        held[stamp.key] = max(stamp.position, held.get(stamp.key, stamp.position))
    missing = target.collection.kind != "cache" and len(held) < len(witnesses)
    return missing or any(position < witnesses[key] for key, position in held.items())
