"""Probes of the graph: of its store's verbs, and of what reads it for a caller.

Each tenant has remarks on all deeds, its own and others': edges that are theirs, between nodes that
are not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

import polyplane as pp
from polyplane.errors import Forbidden
from polyplane.model.graph import Direction, EdgeStep, GraphView, NodeStep, Pattern
from polyplane.model.scope import Scope
from polyplane.runtime.graph import Graph
from polyplane.stores.graph_protocol import GraphStore
from tests.attack.ground import Ground
from tests.flow.deeds import DeedNodes, Leads

Probe = Callable[[Ground, Random], Awaitable[Any]]

LABEL: Final = DeedNodes.label
TYPE: Final = Leads.label
DIRECTIONS: Final[tuple[Direction, ...]] = ("out", "in", "both")
FREE: Final = "MATCH (d:Deed) RETURN d.body"


def _store(ground: Ground) -> tuple[GraphStore, GraphView, Scope]:
    plane = ground.plane
    readings, store = plane.opened.generations.readings, plane.opened.stores.graph
    assert store is not None
    nodes = {LABEL: readings[DeedNodes.name].collection}
    view = GraphView(nodes, {TYPE: readings[Leads.name].collection})
    return store, view, Scope.of(ground.mine.caller)


def _reader(ground: Ground) -> Graph:
    return ground.plane.acting(ground.mine.caller).graph


def _key(ground: Ground, dice: Random) -> str:
    return str(dice.choice(ground.theirs.deeds))


def _where(ground: Ground, dice: Random) -> dict[str, Any]:
    body = f"a deed {ground.theirs.canary}"
    keys = [*map(str, ground.theirs.deeds)]
    return dice.choice([{"body": body}, {"id": keys}, {"id": keys[0], "body": body}])


def _not_mine(found: Any, ground: Ground) -> list[Any]:
    """What has anything of another's in it."""
    return [it for it in found if ground.theirs.canary in str(it)]


def _steps(ground: Ground, dice: Random) -> tuple[NodeStep | EdgeStep, ...]:
    node = NodeStep(LABEL, _where(ground, dice))
    far = dice.choice([(), (EdgeStep(TYPE, dice.choice(DIRECTIONS)), NodeStep(LABEL))])
    return (node, *far)


async def _nodes(ground: Ground, dice: Random) -> Any:
    store, view, scope = _store(ground)
    return await store.nodes(view, scope, LABEL, [_key(ground, dice), _key(ground, dice)])


async def _find(ground: Ground, dice: Random) -> Any:
    store, view, scope = _store(ground)
    found = await store.find(view, scope, LABEL, where=_where(ground, dice), limit=100)
    every = await store.find(view, scope, LABEL, where=None, limit=1_000)
    return [*found, *_not_mine(every, ground)]


async def _neighbours(ground: Ground, dice: Random) -> Any:
    store, view, scope = _store(ground)
    direction = dice.choice(DIRECTIONS)
    key = _key(ground, dice)
    return await store.neighbours(view, scope, TYPE, key, direction=direction)


async def _within(ground: Ground, dice: Random) -> Any:
    store, view, scope = _store(ground)
    own = str(dice.choice(ground.mine.deeds))
    near = await store.within(view, scope, LABEL, own, edges=[TYPE], hops=6)
    theirs = await store.within(view, scope, LABEL, _key(ground, dice), edges=[TYPE], hops=2)
    return [*theirs, *_not_mine(near, ground)]


async def _paths(ground: Ground, dice: Random) -> Any:
    store, view, scope = _store(ground)
    own = dice.choice([str(dice.choice(ground.mine.deeds)), _key(ground, dice)])
    ends = (LABEL, own), (LABEL, _key(ground, dice))
    return await store.paths(view, scope, *ends, edges=[TYPE], hops=10)


async def _match(ground: Ground, dice: Random) -> Any:
    store, view, scope = _store(ground)
    return await store.match(view, scope, Pattern(_steps(ground, dice)))


async def _subgraph(ground: Ground, dice: Random) -> Any:
    store, view, scope = _store(ground)
    own = str(dice.choice(ground.mine.deeds))
    theirs = {LABEL: [_key(ground, dice)]}
    found = await store.subgraph(view, scope, theirs, edges=[TYPE], hops=2)
    near = await store.subgraph(view, scope, {LABEL: [own]}, edges=[TYPE], hops=4)
    return [*found.nodes, *found.edges, *_not_mine((*near.nodes, *near.edges), ground)]


async def _cypher(ground: Ground, dice: Random) -> Any:
    store, view, scope = _store(ground)
    try:
        return (await store.cypher(view, scope, FREE, {})).rows
    except (pp.Refused, Forbidden):
        return []


async def _reader_nodes(ground: Ground, dice: Random) -> Any:
    return await _reader(ground).nodes(LABEL, [_key(ground, dice)])


async def _reader_find(ground: Ground, dice: Random) -> Any:
    return await _reader(ground).find(LABEL, where=_where(ground, dice))


async def _reader_neighbours(ground: Ground, dice: Random) -> Any:
    own = str(dice.choice(ground.mine.deeds))
    near = await _reader(ground).neighbours(TYPE, own, direction="both")
    theirs = await _reader(ground).neighbours(TYPE, _key(ground, dice), direction="both")
    return [*theirs, *_not_mine(near, ground)]


async def _reader_within(ground: Ground, dice: Random) -> Any:
    return await _reader(ground).within(LABEL, _key(ground, dice))


async def _reader_path(ground: Ground, dice: Random) -> Any:
    ends = (LABEL, _key(ground, dice)), (LABEL, str(dice.choice(ground.mine.deeds)))
    return await _reader(ground).path(*dice.sample(ends, 2))


async def _reader_match(ground: Ground, dice: Random) -> Any:
    return await _reader(ground).match(*_steps(ground, dice))


async def _reader_subgraph(ground: Ground, dice: Random) -> Any:
    found = await _reader(ground).subgraph({LABEL: [_key(ground, dice)]}, hops=2)
    return [*found.nodes, *found.edges]


async def _reader_cypher(ground: Ground, dice: Random) -> Any:
    try:
        return (await _reader(ground).cypher(FREE)).rows
    except Forbidden:
        return []


STORE_OF_GRAPH: Final[dict[tuple[type[Any], str], Probe]] = {
    (GraphStore, "nodes"): _nodes,
    (GraphStore, "find"): _find,
    (GraphStore, "neighbours"): _neighbours,
    (GraphStore, "within"): _within,
    (GraphStore, "paths"): _paths,
    (GraphStore, "match"): _match,
    (GraphStore, "subgraph"): _subgraph,
    (GraphStore, "cypher"): _cypher,
}
READS_GRAPH: Final[dict[tuple[type[Any], str], Probe]] = {
    (Graph, "nodes"): _reader_nodes,
    (Graph, "find"): _reader_find,
    (Graph, "neighbours"): _reader_neighbours,
    (Graph, "within"): _reader_within,
    (Graph, "path"): _reader_path,
    (Graph, "match"): _reader_match,
    (Graph, "subgraph"): _reader_subgraph,
    (Graph, "cypher"): _reader_cypher,
}
