"""One projection proven, as thoroughly as is asked for."""

from __future__ import annotations

from typing import Protocol

from polyplane.model.drift import Part
from polyplane.reconcile.deep import DeepTruth, deepen
from polyplane.reconcile.verify import Progress, StoreSide, verify, verify_keys


class Sampled(DeepTruth, Protocol):
    """Truth of which some rows can be chosen at random."""

    async def sample(self, count: int, seed: int) -> list[str]:
        """The keys of `count` rows, the same ones for the same `seed`."""
        ...


async def prove(
    projection: str,
    truth: Sampled,
    store: StoreSide,
    *,
    deep: bool = False,
    sample: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Part:
    """Compare one collection with truth: all of it, or `sample` rows; by digests, or `deep`."""
    if sample is None:
        keys, part = None, await verify(projection, truth, store, progress=progress)
    else:
        keys = await truth.sample(sample, seed)
        part = await verify_keys(projection, truth, store, keys)
    return await deepen(part, truth, store, keys=keys, progress=progress) if deep else part
