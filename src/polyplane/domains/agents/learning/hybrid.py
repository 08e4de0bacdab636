"""A question answered by meaning and by connection: how both become one order, with reasons. Pure.

What is near the question by meaning is a seed. From the seeds it goes on along relations: who is
reached has, of each way, the nearness of the one it came from times the strength of the relation
times `DECAY`. Nearness by meaning and by all ways are joined like independent evidence,
1 - (1 - a)(1 - b), so that either is enough and both are more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

DECAY: Final = 0.6
"""What a step along a relation leaves of nearness, however strong the relation is."""
REASONS_MAX: Final = 3
WAYS_MAX: Final = 5
"""Ways to one concept that count: else who has very many relations is near to everything."""


class Way(NamedTuple):
    """A relation along which one concept is reached from another. `is_forward`: as it points."""

    source: str
    target: str
    type: str
    strength: float
    is_forward: bool


class Known(NamedTuple):
    """What is shown of a concept."""

    name: str
    category: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """A concept of the answer: `score` from both, `by_meaning` and `by_graph`, all from 0 to 1, and
    why it is there.
    """

    key: str
    known: Known
    score: float
    by_meaning: float
    by_graph: float
    reasons: tuple[str, ...]


@dataclass(slots=True)
class Spread:
    """Concepts, how near each is to a question, and the ways that were gone."""

    seeds: Mapping[str, float]
    known: dict[str, Known]
    ways: dict[str, list[tuple[float, Way]]] = field(default_factory=dict)

    def go(self, ways: Iterable[Way]) -> None:
        """Go along these ways, all at once: none of them begins where another one ends first."""
        gone = list(ways)
        near = {way.source: self.nearness(way.source) for way in gone}
        for way in gone:
            if way.source != way.target:
                gain = near[way.source] * DECAY * min(max(way.strength, 0.0), 1.0)
                self.ways.setdefault(way.target, []).append((gain, way))

    def nearness(self, key: str) -> float:
        """How near a concept is, by both."""
        return _joined([self.seeds.get(key, 0.0), self.by_graph(key)])

    def by_graph(self, key: str) -> float:
        """How near a concept is by the best ways to it, one from each other concept."""
        return _joined([gain for gain, _ in self._best(key)[:WAYS_MAX]])

    def frontier(self, size: int, *, besides: Iterable[str] = ()) -> list[str]:
        """The nearest concepts from which no way was gone yet."""
        gone = {*besides, *self._gone()}
        rest = [key for key in self.known if key not in gone]
        return sorted(rest, key=lambda key: (-self.nearness(key), key))[:size]

    def ranked(self, limit: int) -> list[Ranked]:
        """The answer, best first."""
        order = sorted(self.known, key=lambda key: (-self.nearness(key), key))
        return [self._ranked(key) for key in order[:limit]]

    def _ranked(self, key: str) -> Ranked:
        meaning, graph = self.seeds.get(key, 0.0), self.by_graph(key)
        reasons = [f"means what is asked ({meaning:.2f})"] if key in self.seeds else []
        for _, way in self._best(key)[: REASONS_MAX - len(reasons)]:
            reasons.append(self._told(way))
        score, meaning, graph = (round(it, 6) for it in (self.nearness(key), meaning, graph))
        return Ranked(key, self.known[key], score, meaning, graph, tuple(reasons))

    def _told(self, way: Way) -> str:
        other = self.known[way.source].name
        if way.type == "occurs with":
            told = f"occurs with {other}"
        elif way.is_forward:
            told = f"{other} {way.type} it"
        else:
            told = f"{way.type} {other}"
        return f"{told} ({way.strength:.2f})"

    def _best(self, key: str) -> list[tuple[float, Way]]:
        found: dict[str, tuple[float, Way]] = {}
        for gain, way in self.ways.get(key, ()):
            known = found.get(way.source)
            if known is None or _order(gain, way) < _order(*known):
                found[way.source] = gain, way
        return sorted(found.values(), key=lambda it: _order(*it))

    def _gone(self) -> set[str]:
        return {way.source for ways in self.ways.values() for _, way in ways}


def spread(hits: Sequence[tuple[str, float, Known]]) -> Spread:
    """A beginning: what a search by meaning found, as (key, cosine, what it is)."""
    seeds = {key: min(max(score, 0.0), 1.0) for key, score, _ in hits}
    return Spread(seeds, {key: known for key, _, known in hits})


def _order(gain: float, way: Way) -> tuple[float, float, Way]:
    """The best way first, and always the same among equals."""
    return -gain, -way.strength, way


def _joined(parts: Iterable[float]) -> float:
    rest = 1.0
    for part in parts:
        rest *= 1.0 - part
    return 1.0 - rest
