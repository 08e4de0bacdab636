"""Queries with graded judgements, and how good an order of passages is by them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import log2
from pathlib import Path
from typing import Final

import numpy as np

DRAWS: Final = 10_000
LIKELY: Final = 0.95


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for, and passage -> how well it answers (more is better, from 1)."""

    kind: str
    text: str
    grades: Mapping[str, int]

    @property
    def is_held_out(self) -> bool:
        """Whether it is of the half that nothing is tuned by: as its text says."""
        return sha256(self.text.encode()).digest()[0] % 2 == 1


@dataclass(frozen=True, slots=True)
class Judged:
    """A set: passage -> text, and queries."""

    name: str
    passages: Mapping[str, str]
    queries: Sequence[Query]


def read_queries(path: Path) -> list[Query]:
    """The lines `kind | query | passage=grade ...` of a file; `#` begins a comment."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            kind, text, judged = (part.strip() for part in line.split("|"))
            pairs = (it.rpartition("=") for it in judged.split())
            found.append(Query(kind, text, {name: int(grade) for name, _, grade in pairs}))
    return found


def known(queries: Sequence[Query], passages: Mapping[str, str]) -> list[Query]:
    """`queries` with the judgements of passages that there are; without any, none."""
    found = []
    for query in queries:
        grades = {name: grade for name, grade in query.grades.items() if name in passages}
        if grades:
            found.append(Query(query.kind, query.text, grades))
    return found


def ndcg(query: Query, keys: Sequence[str], depth: int = 10) -> float:
    """How much of the gain that there is comes first: 1 is the best order there can be."""
    best = sorted(query.grades.values(), reverse=True)[:depth]
    got = [query.grades.get(key, 0) for key in keys[:depth]]
    return _gain(got) / _gain(best)


def _gain(grades: Sequence[int]) -> float:
    return sum(((1 << grade) - 1) / log2(place + 1) for place, grade in enumerate(grades, 1))


def recall(query: Query, keys: Sequence[str], depth: int) -> float:
    """How many of the judged passages are among the first."""
    return len(query.grades.keys() & set(keys[:depth])) / len(query.grades)


def reciprocal_rank(query: Query, keys: Sequence[str]) -> float:
    """One over the place of the first judged passage; 0 when none is found."""
    return next((1 / place for place, key in enumerate(keys, 1) if key in query.grades), 0.0)


def interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """Where the mean of `values` is likely to be: a bootstrap over the queries.

    Of differences of two rankings, query by query, it is the paired one.
    """
    drawn = np.random.default_rng(seed)
    found = np.asarray(values)
    means = [
        found[drawn.integers(0, len(found), (500, len(found)))].mean(axis=1)
        for _ in range(DRAWS // 500)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - LIKELY) / 2, (1 + LIKELY) / 2])
    return float(low), float(high)
