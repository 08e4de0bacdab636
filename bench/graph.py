"""(u) A graph: loaded in bulk, changed, asked and proven, beside the driver used by hand.

`graph` is Ladybug, `graph_neo4j` the server that POLYPLANE_TEST_NEO4J_URL names, or that of the
tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

from bench.figures import Figure, rates, ratio
from bench.graph_places import (
    PLACES,
    VIEW,
    WAYS,
    Place,
    PlaceNodes,
    Way,
    Ways,
    place_items,
    place_rows,
    way_items,
    way_rows,
)
from bench.graph_raw import Raw, RawLadybug, RawNeo4j, Row, neo4j_server
from bench.ground import Ground, Size, connect
from polyplane.flow.backfill import BATCH_ROWS
from polyplane.flow.projector import BATCH_KEYS, BATCH_MESSAGES
from polyplane.garbage import seldom_collected
from polyplane.model.collection import Collection
from polyplane.model.items import Item
from polyplane.model.scope import Scope
from polyplane.stores.catalog import open_store
from polyplane.stores.graph_protocol import GraphStore

NODES: Final = 100_000
EDGES: Final = 100_000
PROVEN_EDGES: Final = 300_000
LADYBUG_NODES_MIN: Final = 20_000
LADYBUG_EDGES_MIN: Final = 10_000
RATIO_MIN: Final = 0.7
UPDATES_MIN: Final = 2_000
NEAR_RATIO_MAX: Final = 2.0
VERIFY_S_MAX: Final = 15.0
TIMEOUT_S: Final = 600.0
_STARTS: Final = 5
"""One place of so many has ways, and so many more of them."""
_CALLS: Final = 1_000
_LIMIT: Final = 100
_UPDATED: Final = {BATCH_KEYS: 20_000, BATCH_MESSAGES: 1_280, 1: 200}
"""Edges of a batch (as many as the projector makes at most, when it drains what waits; one of each
message that it takes; one) -> edges that are changed so.
"""


@dataclass(slots=True)
class Took:
    """What one run took: seconds of loads, edges a second of changes, milliseconds of questions."""

    nodes_s: float = 0.0
    edges_s: float = 0.0
    raw_nodes_s: float = 0.0
    raw_edges_s: float = 0.0
    bare_nodes_s: float = 0.0
    bare_edges_s: float = 0.0
    changed: dict[int, float] = field(default_factory=dict)
    near_ms: float = 0.0
    raw_near_ms: float = 0.0
    far_ms: float = 0.0
    found: int = 0


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Ladybug, in this process."""
    return await _measured(ground, size, "")


async def measure_neo4j(ground: Ground, size: Size) -> Sequence[Figure]:
    """Neo4j, on a server."""
    async with neo4j_server() as url:
        return await _measured(ground, size, url)


async def _measured(ground: Ground, size: Size, server: str) -> Sequence[Figure]:
    """The first turn only wakes everybody up: a server compiles what runs often."""
    await _turn(ground, Size(1, quick=size.quick or not server), server, 0)
    turns = [await _turn(ground, size, server, turn) for turn in range(size.runs)]
    return [*_figures(size, turns, is_ladybug=not server), *await _proven(ground, size, server)]


async def _turn(ground: Ground, size: Size, server: str, turn: int) -> Took:
    """Both graphs are loaded in turn, and asked the same."""
    places = size.scaled(NODES)
    starts = max(1, places // _STARTS)
    nodes = place_rows(places)
    edges = way_rows(size.scaled(EDGES), starts)
    took = Took()
    async with _both(ground, server) as (store, raw):

        async def ours() -> None:
            await ground.calm()
            took.nodes_s = await _timed(_loaded(store, PLACES, place_items(nodes)))
            await ground.calm()
            took.edges_s = await _timed(_loaded(store, WAYS, way_items(edges)))

        async def by_hand() -> None:
            await ground.calm()
            took.raw_nodes_s = await _timed(raw.nodes(nodes))
            await ground.calm()
            took.raw_edges_s = await _timed(raw.edges(edges))

        for load in (by_hand, ours) if turn % 2 else (ours, by_hand):
            await load()
        if isinstance(raw, RawLadybug):
            await ground.calm()
            took.bare_nodes_s, took.bare_edges_s = await raw.bare_load(nodes, edges)
        assert await _count(store, PLACES) == len(nodes)
        assert await _count(store, WAYS) == len(edges)
        await _ask(store, raw, took, starts, size.scaled(_CALLS))
        await ground.calm()
        await _change(store, took, edges, size)
    return took


@asynccontextmanager
async def _both(ground: Ground, server: str) -> AsyncIterator[tuple[GraphStore, Raw]]:
    """An empty graph of ours, and one without us; taken away afterwards."""
    name = f"b{uuid4().hex[:12]}"
    raw: Raw
    if server:
        store = await open_store("graph", server, namespace=name, timeout_s=120.0)
        raw = await RawNeo4j.opened(server, name)
    else:
        store = await open_store("graph", f"ladybug://{ground.folder / name}")
        raw = RawLadybug(ground.folder / f"{name}-raw")
    try:
        for collection in (PLACES, WAYS):
            await store.prepare(collection)
        yield store, raw
        for collection in (WAYS, PLACES):
            await store.forget(collection)
    finally:
        await raw.close()
        await store.close()


async def _loaded(store: GraphStore, collection: Collection, items: list[Item]) -> None:
    """In batches as a backfill makes them."""
    for at in range(0, len(items), BATCH_ROWS):
        await store.apply(collection, items[at : at + BATCH_ROWS], [], 1)
    await store.barrier()


async def _count(store: GraphStore, collection: Collection) -> int:
    return sum([len(stamps) async for stamps in store.scan(collection)])


async def _timed(work: Awaitable[Any]) -> float:
    """Seconds of `work`, of either, with garbage collected as seldom as a backfill has it."""
    with seldom_collected():
        started = perf_counter()
        await work
        return perf_counter() - started


async def _ask(store: GraphStore, raw: Raw, took: Took, starts: int, calls: int) -> None:
    """One hop, ours and the driver's question one after the other, and the same answer; three."""
    ours, by_hand, far, found = [], [], [], []
    for number in range(calls):
        key = str(number * 7919 % starts)
        started = perf_counter()
        seen = await store.neighbours(VIEW, Scope.everything, "WAY", key, limit=_LIMIT)
        between = perf_counter()
        rows = await raw.beside(key, _LIMIT)
        by_hand.append(perf_counter() - between)
        ours.append(between - started)
        told = [(it.edge.key, it.edge.properties["miles"], it.node.key) for it in seen]
        assert told == [row[:3] for row in rows] and told, (told, rows)
    for number in range(max(5, calls // 20)):
        key = str(number * 7919 % starts)
        started = perf_counter()
        reached = await store.within(
            VIEW, Scope.everything, "Place", key, edges=["WAY"], hops=3, limit=10_000
        )
        far.append(perf_counter() - started)
        found.append(len(reached))
    took.near_ms, took.raw_near_ms = median(ours) * 1_000, median(by_hand) * 1_000
    took.far_ms, took.found = median(far) * 1_000, int(median(found))


async def _change(store: GraphStore, took: Took, edges: list[Row], size: Size) -> None:
    """Edges that are there get other properties, a tenth of them another end."""
    position = 1
    for batch, full in _UPDATED.items():
        rows = edges[: min(full, len(edges))]
        if size.quick and batch < BATCH_KEYS:
            rows = rows[: max(2 * batch, 20)]
        position += 1
        made = way_items(rows, position)
        started = perf_counter()
        for at in range(0, len(made), batch):
            await store.apply(WAYS, made[at : at + batch], [], position)
            await store.barrier()
        took.changed[batch] = len(made) / (perf_counter() - started)
        some = made[:100]
        await store.apply(WAYS, way_items(rows[:100]), [], position - 1)  # is too late
        held = {it.stamp.key: it for it in await store.contents(WAYS, [it.key for it in some])}
        for item in some:
            assert held[item.key].content == item.content, (held[item.key], item)
            assert held[item.key].stamp == (item.key, position, item.digest)


def _figures(size: Size, turns: list[Took], *, is_ladybug: bool) -> list[Figure]:
    nodes, edges = size.scaled(NODES), size.scaled(EDGES)

    def loads(name: str, count: int, seconds: Callable[[Took], float], least: float) -> Figure:
        required = least if least and is_ladybug else None
        return rates(name, "1/s", count, [seconds(turn) for turn in turns], required=required)

    our_nodes = loads("nodes loaded", nodes, lambda it: it.nodes_s, LADYBUG_NODES_MIN)
    raw_nodes = loads("nodes, by hand", nodes, lambda it: it.raw_nodes_s, 0)
    our_edges = loads("edges loaded", edges, lambda it: it.edges_s, LADYBUG_EDGES_MIN)
    raw_edges = loads("edges, by hand", edges, lambda it: it.raw_edges_s, 0)
    bare = []
    if is_ladybug:
        for kind, figure, count, seconds in (
            ("nodes", our_nodes, nodes, [it.bare_nodes_s for it in turns]),
            ("edges", our_edges, edges, [it.bare_edges_s for it in turns]),
        ):
            at_once = rates(f"{kind}, one bare COPY", "1/s", count, seconds)
            bare += [at_once, ratio(f"{kind}: loaded / one bare COPY", figure, at_once)]
    near = Figure("one hop, p50", "ms", tuple(it.near_ms for it in turns), at_most=True)
    raw_near = Figure("the same by hand", "ms", tuple(it.raw_near_ms for it in turns))
    changed = [
        Figure(
            f"edges changed, {batch:,} at a time",
            "1/s",
            tuple(it.changed[batch] for it in turns),
            UPDATES_MIN if batch == BATCH_KEYS else None,
        )
        for batch in _UPDATED
    ]
    hops = ratio("", near, raw_near).runs
    return [
        our_nodes,
        raw_nodes,
        ratio("nodes: loaded / by hand", our_nodes, raw_nodes, required=RATIO_MIN),
        our_edges,
        raw_edges,
        ratio("edges: loaded / by hand", our_edges, raw_edges, required=RATIO_MIN),
        *bare,
        *changed,
        near,
        raw_near,
        Figure("one hop: ours / by hand", "ratio", hops, NEAR_RATIO_MAX, at_most=True),
        Figure(f"three hops, {edges:,} edges, p50", "ms", tuple(it.far_ms for it in turns)),
        Figure("nodes found by it", "nodes", tuple(float(it.found) for it in turns)),
    ]


# Through a plane


async def _proven(ground: Ground, size: Size, server: str) -> list[Figure]:
    """A graph filled from rows, and proven."""
    places, ways = size.scaled(NODES), size.scaled(PROVEN_EDGES)
    url = await _rows(ground, places, ways)
    proofs, near = [], []
    models, projections = [Place, Way], [PlaceNodes, Ways]
    started = perf_counter()
    async with ground.plane(url, graph=server, models=models, projections=projections) as plane:
        await plane.caught_up(timeout_s=TIMEOUT_S)
        filled_s = perf_counter() - started
        collections = [target.collection for target in plane.opened.targets.values()]
        for _ in range(size.runs):
            await ground.calm()
            started = perf_counter()
            drift = await plane.verify(timeout_s=TIMEOUT_S)
            proofs.append(perf_counter() - started)
            assert drift.clean and sum(it.items for it in drift.parts) == places + ways, drift
            asked = []
            for number in range(size.scaled(_CALLS)):
                started = perf_counter()
                assert await plane.graph.neighbours(Ways, number * 7919 % (places // _STARTS))
                asked.append(perf_counter() - started)
            near.append(median(asked) * 1_000)
    if server:
        await _forgotten(server, plane.namespace, collections)
    return [
        rates("rows filled, plane opened included", "rows/s", places + ways, [filled_s]),
        Figure(
            f"{places:,} nodes + {ways:,} edges verified",
            "s",
            tuple(proofs),
            VERIFY_S_MAX,
            at_most=True,
        ),
        Figure("one hop through the plane, p50", "ms", tuple(near)),
    ]


async def _rows(ground: Ground, places: int, ways: int) -> str:
    """The URL of a database that holds them."""
    url = await ground.database()
    async with ground.plane(url, flows=False, models=[Place, Way]):
        pass
    rows = {
        "place (id, name, people)": place_rows(places),
        "way (start, goal, id, miles)": way_rows(ways, places),
    }
    async with await connect(url) as connection, connection.cursor() as cursor:
        for table, found in rows.items():
            async with asyncio.timeout(TIMEOUT_S), cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for row in found:
                    await copy.write_row(row)
        await connection.execute("ANALYZE")
    return url


async def _forgotten(server: str, namespace: str, collections: Sequence[Collection]) -> None:
    """The server may be somebody's."""
    store = await open_store("graph", server, namespace=namespace, timeout_s=120.0)
    for collection in sorted(collections, key=lambda it: not it.ends):
        await store.forget(collection)
    await store.close()
