"""One projection proven, as thoroughly as is asked for."""

from __future__ import annotations

from typing import Protocol

from polyplane.model.drift import Part
from polyplane.reconcile.bookmark import Mark
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
    deep_progress: Progress | None = None,
    mark: Mark | None = None,
) -> Part:
    """Compare one collection with truth: all of it, or `sample` rows; by digests, or `deep`.

    All of it is gone on with from where `mark` is, and what it comes to is noted there.
    """
    if sample is not None:
        keys = await truth.sample(sample, seed)
        part = await verify_keys(projection, truth, store, keys)
        return await deepen(part, truth, store, keys=keys) if deep else part
    if mark is not None and (done := mark.ended("proven")):
        return done
    found = mark and mark.ended("digested")
    part = found or await verify(projection, truth, store, progress=progress, mark=mark)
    if deep:
        if mark is not None and not found:
            mark.end("digested", part)
        part = await deepen(part, truth, store, progress=deep_progress, mark=mark)
    if mark is not None:
        mark.end("proven", part)
    return part
