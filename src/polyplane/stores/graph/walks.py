"""Walks through a graph, edge by edge: what is near, and ways. Any engine's; pure but for asking.

An engine says only which edges a reader sees from where (`Expand`), so that a walk never goes
through what its scope does not see, whatever the engine thinks of filters in its own walks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from math import inf
from typing import Final, NamedTuple

from polyplane.errors import TooLarge
from polyplane.stores.graph.asking import Leg

PLACES_MAX: Final = 1_000_000
"""So many nodes a walk looks at, at most."""

Place = tuple[str, str]
"""A node: (declared label, key)."""


class Step(NamedTuple):
    """One edge gone: from the key `at` by the edge of this key to the key `to`."""

    at: str
    edge: str
    to: str
    weight: float = 1.0


class Came(NamedTuple):
    """How a place was come to."""

    start: Place
    leg: Leg
    edge: str
    end: Place

    @property
    def ends(self) -> tuple[str, str]:
        """The keys of the edge's source and target, whichever way it was gone."""
        one, other = self.start[1], self.end[1]
        return (one, other) if self.leg.forward else (other, one)


class Way(NamedTuple):
    """A way that was found: its cost, and the edges gone in their order."""

    cost: float
    gone: tuple[Came, ...]


Expand = Callable[[Leg, Sequence[str]], Awaitable[Iterable[Step]]]
"""All edges that can be gone by a leg from these keys."""


async def levels(
    starts: Iterable[Place], legs: Sequence[Leg], expand: Expand, hops: int
) -> AsyncIterator[dict[Place, Came]]:
    """What is one edge away, two and so on, up to `hops`: each place once, where it is nearest.

    Raises TooLarge when there are too many.
    """
    seen = set(starts)
    front: Iterable[Place] = list(seen)
    for _ in range(hops):
        found: dict[Place, Came] = {}
        for leg in legs:
            keys = sorted(key for label, key in front if label == leg.start)
            for step in await expand(leg, keys) if keys else ():
                place = (leg.end, step.to)
                if place not in seen:
                    found.setdefault(place, Came((leg.start, step.at), leg, step.edge, place))
        if not found:
            return
        seen |= found.keys()
        if len(seen) > PLACES_MAX:
            raise TooLarge(f"There are more than {PLACES_MAX:,} nodes.", fix="Ask for fewer hops.")
        yield found
        front = found


async def shortest(
    source: Place, target: Place, legs: Sequence[Leg], expand: Expand, hops: int
) -> Way | None:
    """A way of the fewest edges, at most `hops`."""
    if source == target:
        return Way(0.0, ())
    came: dict[Place, Came] = {}
    async for found in levels([source], legs, expand, hops):
        came |= found
        if target in found:
            gone: list[Came] = []
            at = target
            while at != source:
                gone.append(came[at])
                at = came[at].start
            return Way(float(len(gone)), tuple(reversed(gone)))
    return None


async def cheapest(
    source: Place, target: Place, legs: Sequence[Leg], expand: Expand, hops: int
) -> Way | None:
    """A way of the smallest sum of weights, none of them negative, of at most `hops` edges."""
    best: dict[Place, float] = {source: 0.0}
    front: dict[Place, float] = dict(best)
    came: list[dict[Place, Came]] = []
    reached = 0
    for _ in range(hops):
        better: dict[Place, float] = {}
        how: dict[Place, Came] = {}
        for leg in legs:
            keys = sorted(key for label, key in front if label == leg.start)
            for step in await expand(leg, keys) if keys else ():
                place, start = (leg.end, step.to), (leg.start, step.at)
                cost = front[start] + step.weight
                known = min(better.get(place, inf), best.get(place, inf), best.get(target, inf))
                if step.weight >= 0 and cost < known:
                    better[place], how[place] = cost, Came(start, leg, step.edge, place)
        if not better:
            break
        best |= better
        came.append(how)
        if len(best) > PLACES_MAX:
            raise TooLarge(f"There are more than {PLACES_MAX:,} nodes.", fix="Ask for fewer hops.")
        if target in better:
            reached = len(came)
        front = better
    if target not in best:
        return None
    gone, at = [], target
    for level in reversed(came[:reached]):  # who was improved in a round comes from the one before
        gone.append(level[at])
        at = level[at].start
    return Way(best[target], tuple(reversed(gone)))
