"""What a search gives back: hits, and what each was found by. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Mode = Literal["vector", "text", "hybrid"]
"""By meaning, by words, or by both."""


@dataclass(frozen=True, slots=True)
class Match:
    """One hit of a `Found`.

    `score` orders the hits of one answer: a cosine, a BM25 weight, a sum of reciprocal ranks, or
    what a re-ranking said. `ranks` is its place (from 1) by meaning ("vector") and by words
    ("text"), where it has one. `highlights` is where `text` has what was asked for: (start, end)
    in characters; nothing is escaped.
    """

    key: str
    score: float
    text: str
    tags: Mapping[str, Any]
    ranks: Mapping[str, int]
    highlights: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A page of hits, best first.

    `more` says whether there are further ones behind it. `degraded` says, in words, why the answer
    is poorer than what was asked for; it is empty when it is not.
    """

    hits: tuple[Match, ...]
    mode: Mode
    more: bool = False
    degraded: str = ""


Rerank = Callable[[str, Sequence[Match]], Awaitable[Sequence[float]]]
"""A second opinion: gets the question and the best hits, gives a score for each, in their order."""
