"""The hybrid question: asked of the vectors, then of the graph."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import polyplane as pp
from polyplane import graph
from polyplane.domains.agents.learning.hybrid import Known, Ranked, Spread, Way, spread
from polyplane.domains.agents.projections import ConceptSearch, RelatesTo

SEEDS: Final = 20
FRONTIER: Final = 20
"""Concepts from which it goes on, at each step."""
FANOUT: Final = 20
"""The strongest relations of one concept that are followed, each way."""
AT_ONCE: Final = 8


class Answer(NamedTuple):
    """Concepts, best first. `degraded` says what could not be asked, so that it is poorer."""

    hits: list[Ranked]
    degraded: str = ""


async def hybrid_search(
    plane: pp.Plane,
    caller: pp.Caller,
    question: str,
    *,
    category: str | None = None,
    hops: int = 1,
    limit: int = 10,
) -> Answer:
    """The concepts that answer `question` by meaning, and those that these are related to within
    `hops` (0 to 3), of one `category` or of all. Ranked by both; each says why it is there.

    Without the graph the answer is that of the vectors alone, and says so. Raises StoreDown when
    the vectors do not answer.
    """
    if not 0 <= hops <= 3:
        raise pp.Refused("hops must be from 0 to 3.", field="hops")
    hits = await plane.acting(caller)[ConceptSearch].search(question, limit=max(SEEDS, limit))
    found = spread([(it.key, it.score, _known(it.tags)) for it in hits])
    degraded = ""
    try:
        await _expand(plane.acting(caller).graph, found, hops)
    except pp.Unavailable as error:
        degraded = f"The graph does not answer: {error.message}"
    ranked = found.ranked(len(found.known))
    wanted = [it for it in ranked if category is None or it.known.category == category]
    return Answer(wanted[:limit], degraded)


async def _expand(reader: graph.Graph, found: Spread, hops: int) -> None:
    """Go along the strongest relations of the nearest concepts, `hops` times."""
    gone: set[str] = set()
    for _ in range(hops):
        keys = found.frontier(FRONTIER, besides=gone)
        gone.update(keys)
        gate = asyncio.Semaphore(AT_ONCE)
        around = await asyncio.gather(*(_ways(reader, key, gate) for key in keys))
        for _, nodes in around:
            for node in nodes:
                found.known.setdefault(node.key, _known(node.properties))
        found.go(way for ways, _ in around for way in ways)


async def _ways(
    reader: graph.Graph, key: str, gate: asyncio.Semaphore
) -> tuple[list[Way], list[graph.GraphNode]]:
    """The strongest relations of a concept, as ways from it, and where they lead."""
    async with gate:
        near = await reader.neighbours(
            RelatesTo, key, direction="both", order_by="strength", descending=True, limit=FANOUT
        )
    ways = [
        Way(
            key,
            it.node.key,
            it.edge.properties["type"],
            it.edge.properties["strength"],
            it.edge.source == key,
        )
        for it in near
    ]
    return ways, [it.node for it in near]


def _known(properties: Mapping[str, Any]) -> Known:
    return Known(properties["name"], properties["category"])
