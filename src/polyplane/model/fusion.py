"""Several rankings of the same things made one, by reciprocal rank. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Final, NamedTuple

K: Final = 5
"""How little the first places are above the next."""
WEIGHTS: Final[Mapping[str, float]] = {"text": 1.5}
"""How much a place counts in a ranking, by its name; 1 where none is given.

Both are tuned with the offline embedder, on one half of two sets of judged questions, and better
than K = 60 and no weights (Cormack, Clarke and Buettcher, 2009) on the other half: see
docs/search-quality.md.
"""


class Ranked(NamedTuple):
    """`key`, its score over all rankings, and its place (from 1) in each that has it."""

    key: str
    score: float
    ranks: Mapping[str, int]


def fused(
    rankings: Mapping[str, Sequence[str]],
    k: int = K,
    weights: Mapping[str, float] = WEIGHTS,
) -> list[Ranked]:
    """All keys of `rankings` (name -> keys, best first), best first.

    The score of a key is the sum of weight / (k + its place). Of equal ones the one that is first
    somewhere goes first, then the lesser key: the same rankings give the same order, in whatever
    order they are named. A key that a ranking has twice has its first place there.
    """
    places: dict[str, dict[str, int]] = {}
    for name in sorted(rankings):
        for place, key in enumerate(rankings[name], 1):
            places.setdefault(key, {}).setdefault(name, place)
    made = [
        Ranked(
            key,
            fsum(weights.get(name, 1.0) / (k + place) for name, place in ranks.items()),
            ranks,
        )
        for key, ranks in places.items()
    ]
    return sorted(made, key=lambda it: (-it.score, min(it.ranks.values()), it.key))
