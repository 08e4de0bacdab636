"""Several rankings of the same things made one, by reciprocal rank. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Final, NamedTuple

K: Final = 60
"""How little the first places are above the next (Cormack, Clarke and Buettcher, 2009)."""


class Ranked(NamedTuple):
    """`key`, its score over all rankings, and its place (from 1) in each that has it."""

    key: str
    score: float
    ranks: Mapping[str, int]


def fused(rankings: Mapping[str, Sequence[str]], k: int = K) -> list[Ranked]:
    """All keys of `rankings` (name -> keys, best first), best first.

    The score of a key is the sum of 1 / (k + its place). Of equal ones the one that is first
    somewhere goes first, then the lesser key: the same rankings give the same order, in whatever
    order they are named. A key that a ranking has twice has its first place there.
    """
    places: dict[str, dict[str, int]] = {}
    for name in sorted(rankings):
        for place, key in enumerate(rankings[name], 1):
            places.setdefault(key, {}).setdefault(name, place)
    made = [
        Ranked(key, fsum(1 / (k + place) for place in ranks.values()), ranks)
        for key, ranks in places.items()
    ]
    return sorted(made, key=lambda it: (-it.score, min(it.ranks.values()), it.key))
