"""Walks find what is near and the best ways, whatever order edges come in."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest

from polyplane.model.collection import Collection
from polyplane.stores.graph.asking import Leg
from polyplane.stores.graph.walks import Came, Expand, Step, cheapest, levels, shortest

KNOWS = Collection("knows", 1, "graph", label="KNOWS", ends=("Person", "Person"))
OWNS = Collection("owns", 1, "graph", label="OWNS", ends=("Person", "Thing"))
LEGS = [Leg(KNOWS, True, "Person", "Person"), Leg(OWNS, True, "Person", "Thing")]
Edge = tuple[str, str, str, str, float]
"""(type, key, source, target, weight)."""


def expand(edges: Sequence[Edge]) -> Expand:
    async def expanded(leg: Leg, keys: Sequence[str]) -> Iterable[Step]:
        return [
            Step(*((s, key, t) if leg.forward else (t, key, s)), weight=weight)
            for kind, key, s, t, weight in edges
            if kind == leg.edges.label and (s if leg.forward else t) in keys
        ]

    return expanded


def random_edges(dice: random.Random) -> list[Edge]:
    """Few nodes and many edges, also between the same ones and from one to itself."""
    made: list[Edge] = []
    for i in range(dice.randrange(4, 30)):
        kind, source = dice.choice(["KNOWS", "OWNS"]), f"p{dice.randrange(7)}"
        target = f"p{dice.randrange(7)}" if kind == "KNOWS" else f"t{dice.randrange(3)}"
        made.append((kind, f"e{i}", source, target, dice.randrange(0, 9)))
    return made


def _all_costs(edges: Sequence[Edge], hops: int) -> dict[str, dict[int, float]]:
    """Node -> number of edges -> the smallest sum by exactly so many, tried out."""
    found: dict[str, dict[int, float]] = {"p0": {0: 0.0}}
    for hop in range(hops):
        for _, _, source, target, weight in edges:
            before = found.get(source, {}).get(hop)
            if before is not None:
                known = found.setdefault(target, {})
                known[hop + 1] = min(known.get(hop + 1, float("inf")), before + weight)
    return found


def _is_a_way(gone: tuple[Came, ...], edges: Sequence[Edge], target: str) -> bool:
    held = {(kind, key): (source, to) for kind, key, source, to, _ in edges}
    return (
        all(one.end == other.start for one, other in pairwise(gone))
        and all(held[it.leg.edges.label, it.edge] == it.ends for it in gone)
        and (not gone or (gone[0].start[1], gone[-1].end[1]) == ("p0", target))
    )


@pytest.mark.parametrize("seed", range(40))
async def test_ways_are_the_best_there_are(seed: int) -> None:
    dice = random.Random(seed)
    edges = random_edges(dice)
    hops = dice.randrange(1, 6)
    costs = _all_costs(edges, hops)
    near = {key: min(by_hops) for key, by_hops in costs.items()}
    number = 0
    async for found in levels([("Person", "p0")], LEGS, expand(edges), hops):
        number += 1
        assert {key for _, key in found} == {key for key, hop in near.items() if hop == number}
    weights = {(kind, key): weight for kind, key, *_, weight in edges}
    for target in [f"p{i}" for i in range(7)] + [f"t{i}" for i in range(3)]:
        places = ("Person", "p0"), ("Person" if target[0] == "p" else "Thing", target)
        short = await shortest(*places, LEGS, expand(edges), hops)
        cheap = await cheapest(*places, LEGS, expand(edges), hops)
        assert (short is None) == (cheap is None) == (target not in costs)
        if short is None or cheap is None:
            continue
        assert len(short.gone) == short.cost == near[target]
        assert cheap.cost == min(costs[target].values())
        assert cheap.cost == sum(weights[it.leg.edges.label, it.edge] for it in cheap.gone)
        assert len(cheap.gone) <= hops
        assert _is_a_way(short.gone, edges, target)
        assert _is_a_way(cheap.gone, edges, target)


async def test_against_edges_and_from_many_places() -> None:
    edges = [("KNOWS", "a", "p1", "p0", 1.0), ("KNOWS", "b", "p2", "p1", 1.0)]
    back = [Leg(KNOWS, False, "Person", "Person")]
    way = await shortest(("Person", "p0"), ("Person", "p2"), back, expand(edges), 2)
    assert way is not None
    assert [(it.edge, *it.ends) for it in way.gone] == [("a", "p1", "p0"), ("b", "p2", "p1")]
    starts = [("Person", "p0"), ("Person", "p1")]
    found = [set(it) async for it in levels(starts, back, expand(edges), 3)]
    assert found == [{("Person", "p2")}]


async def test_negative_weights_are_not_gone() -> None:
    edges = [("KNOWS", "a", "p0", "p1", -1.0), ("KNOWS", "b", "p0", "p1", 4.0)]
    way = await cheapest(("Person", "p0"), ("Person", "p1"), LEGS, expand(edges), 3)
    assert way is not None and (way.cost, way.gone[0].edge) == (4.0, "b")
