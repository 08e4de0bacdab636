"""repair: mends exactly what verify has found, and looks again.

The keys go into the outbox as any other change does, so that the projector reads truth for each
and puts or drops what follows, in the order of all changes. Where a change could not win (an item
ahead of every change, a second one under its key) it clears the place first, because it is told so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from polyplane.model.drift import Part
from polyplane.model.key import can_be_told
from polyplane.reconcile.deep import DeepTruth, deepen
from polyplane.reconcile.verify import StoreSide, verify_keys
from polyplane.steps import step


class Mending(DeepTruth, Protocol):
    """Truth that can have its stores told again."""

    async def floor(self) -> int:
        """A packed position that the projection has passed: older changes are all applied."""
        ...

    async def touch(self, keys: Sequence[str], clear: Collection[str]) -> None:
        """Note a change of `keys` in the outbox, in one transaction; and which places to clear."""
        ...


async def repair(part: Part, truth: Mending, store: StoreSide) -> Part:
    """Mend what drifts in `part`; what a look at those keys, as deep, finds afterwards.

    Killed half way, it has done nothing, or else the flow goes on without it. Raises NotSettled
    when the projection does not apply the changes in time.
    """
    keys = part.drifting
    if untold := [key for key in keys if not can_be_told(key)]:
        # Nothing follows from them, ever. A tombstone no newer than what is applied anyway.
        await store.store.bury(store.collection, untold, await truth.floor())
        await store.store.barrier()
    if told := [key for key in keys if can_be_told(key)]:
        await truth.touch(told, set(part.stuck))
        step("repair.told")
    left = await verify_keys(part.projection, truth, store, keys)
    return await deepen(left, truth, store, keys=keys) if part.deep else left
