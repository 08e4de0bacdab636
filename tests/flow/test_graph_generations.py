"""Nodes are built anew beside, and the edges between them follow: readers see a whole graph."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import polyplane as pp
from polyplane import graph
from polyplane.flow import rebuild as rebuild_module
from polyplane.flow.rebuild import Rebuild
from polyplane.runtime import generations, keeping, moving
from tests.conftest import PlaneOf
from tests.flow.things import Killed, becomes, by_hand
from tests.flow.towns import (
    DECLARED,
    TOWNS,
    LivesIn,
    Person,
    PersonNodes,
    Road,
    RoadProperties,
    Roads,
    Town,
    TownNodes,
    TownProperties,
    fill,
)


class TownsAnew(pp.Nodes[Town, TownProperties]):
    """The next version: another name."""

    name = "town_nodes"
    label = "Town"
    version = 2

    def derive(self, town: Town, /) -> graph.Node[TownProperties] | None:
        """The name in capitals."""
        properties = TownProperties(name=town.name.upper(), people=None, founded=None)
        return graph.Node(properties)


class RoadsAnew(pp.Edges[Road, RoadProperties]):
    """The same, between towns of the next version."""

    name = "roads"
    label = "ROAD"
    source = TownsAnew
    target = TownsAnew

    def derive(self, road: Road, /) -> graph.Edge[RoadProperties]:
        """As before."""
        return Roads().derive(road)


class LivesInAnew(pp.Edges[Person]):
    """The same, in towns of the next version."""

    name = "lives_in"
    source = PersonNodes
    target = TownsAnew

    def derive(self, person: Person, /) -> graph.Edge | None:
        """As before."""
        return LivesIn().derive(person)


ANEW = DECLARED | {"projections": [LivesInAnew, RoadsAnew, TownsAnew, PersonNodes]}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of the killed end soon, and every process looks often."""
    monkeypatch.setattr(rebuild_module, "LEASE_TTL_S", 1.0)
    for module in (keeping, moving):
        monkeypatch.setattr(module, "REFRESH_S", 0.1)
    for module in (keeping, generations):
        monkeypatch.setattr(module, "RECENT_S", 0.3)


async def known(plane: pp.Plane) -> dict[str, str]:
    """Collection -> its state, as the journal knows it."""
    return {row.name: row.state for row in await plane.opened.journal.collections.rows()}


def read_now(plane: pp.Plane) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Projection -> the collection that is read, and what it is between."""
    readings = plane.opened.generations.readings.items()
    return {name: (it.collection.target, it.collection.ends) for name, it in readings}


@asynccontextmanager
async def reading(plane: pp.Plane) -> AsyncIterator[list[int]]:
    """Ask for the whole ring, over and over, until the block ends: each time all of it."""
    seen: list[int] = []
    go_on = True

    async def read() -> None:
        while go_on:
            near = await plane.graph.neighbours("LIVES_IN", "p5")
            around = await plane.graph.within("Town", "5", edges=["ROAD"], hops=2)
            assert [it.node.key for it in near] == ["5"]
            assert sorted(it.node.key for it in around) == ["3", "4", "6", "7"]
            seen.append(len(around))

    task = asyncio.create_task(read())
    try:
        yield seen
    finally:
        go_on = False
        await task


async def test_edges_follow_their_nodes_and_go_back_with_them(plane_of: PlaneOf) -> None:
    """Beside readers and writes; then what was read before goes, nodes after their edges."""
    plane = await plane_of(**DECLARED)
    await fill(plane)
    async with reading(plane) as seen:
        rebuilt = await plane.rebuild(TownNodes)
        assert (rebuilt.before, rebuilt.collection) == ("town_nodes", "town_nodes_g2")
    assert seen
    assert read_now(plane) == {
        "person_nodes": ("person_nodes", ()),
        "town_nodes": ("town_nodes_g2", ()),
        "roads": ("roads_g2", ("Town_g2", "Town_g2")),
        "lives_in": ("lives_in_g2", ("Person", "Town_g2")),
    }
    await by_hand(plane, "DELETE FROM road WHERE id = 1; UPDATE town SET name = 'x' WHERE id = 9")
    await plane.caught_up()
    table = await plane.graph.cypher("MATCH (:Town)-[r:ROAD]->(t:Town) RETURN count(r), max(t.id)")
    assert table.rows == [(TOWNS - 1, "9")]
    assert (await plane.verify(deep=True)).clean

    with pytest.raises(pp.Conflict, match="no earlier"):
        await plane.rollback(Roads)  # the roads of before are between the towns of before
    async with reading(plane):
        back = await plane.rollback(TownNodes)
    assert (back.before, back.collection) == ("town_nodes_g2", "town_nodes")
    assert {it: target for it, (target, _) in read_now(plane).items()} == {
        "person_nodes": "person_nodes",
        "town_nodes": "town_nodes",
        "roads": "roads",
        "lives_in": "lives_in",
    }
    assert (await plane.graph.nodes("Town", [9]))[0].properties["name"] == "x"
    assert await plane.graph.neighbours("ROAD", 1) == []
    assert (await plane.verify(deep=True)).clean

    async def rest() -> dict[str, str]:
        await plane.prune(TownNodes)
        return await known(plane)

    names = ("person_nodes", "town_nodes", "roads", "lives_in")
    await becomes(rest, dict.fromkeys(names, "active"), within_s=20)
    assert (await plane.verify()).clean


async def test_a_raised_version_of_nodes_takes_its_edges_along(plane_of: PlaneOf) -> None:
    first = await plane_of(**DECLARED)
    await fill(first)
    await first.close()
    second = await plane_of(**ANEW)
    await second.caught_up(timeout_s=60)
    assert read_now(second)["roads"] == ("roads_g2", ("Town_g2", "Town_g2"))
    [near] = await second.graph.neighbours("ROAD", 3)
    assert near.node.properties["name"] == "TOWN 4"
    assert (await second.verify(deep=True)).clean
    await second.close()

    third = await plane_of(**DECLARED)  # old code: readers stay where they are, until it is told
    assert (await known(third))["roads_g2"] == "active"
    with pytest.raises(pp.NotSettled, match="other code"):
        await third.caught_up(timeout_s=0.3)
    [near] = await third.graph.neighbours("ROAD", 3)
    assert near.node.properties["name"] == "TOWN 4"
    await third.rollback(TownNodes)
    await third.caught_up(timeout_s=60)
    assert read_now(third)["roads"] == ("roads", ("Town", "Town"))
    [near] = await third.graph.neighbours("ROAD", 3)
    assert near.node.properties["name"] == "town 4"
    assert (await third.verify(deep=True)).clean


@pytest.mark.parametrize("at", [pytest.param("filled", marks=pytest.mark.long), "switched"])
async def test_a_plane_that_dies_between_nodes_and_edges(
    plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Whoever opens it next goes on; the rows change while nobody works."""
    plane = await plane_of(**DECLARED)
    await fill(plane)
    reached = asyncio.Event()
    built = "roads_g2" if at == "filled" else "town_nodes_g2"

    def dies(name: str) -> None:
        if name == f"rebuild.{at}" and any(
            it.target.collection.target == built and it.phase in ("filling", "switching")
            for it in plane.opened.rebuilds.values()
        ):
            reached.set()
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(rebuild_module, "step", dies)
        rebuilding = asyncio.create_task(plane.rebuild(TownNodes))
        async with asyncio.timeout(60):
            await reached.wait()
        rebuilding.cancel()
        await asyncio.gather(rebuilding, return_exceptions=True)
        await plane.close()
    await by_hand(plane, "DELETE FROM town WHERE id = 2; INSERT INTO road VALUES (99, 1, 3, 1)")
    again = await plane_of(**DECLARED)

    async def between() -> set[tuple[str, ...]]:
        return {ends for _, ends in read_now(again).values() if ends}

    await becomes(between, {("Town_g2", "Town_g2"), ("Person", "Town_g2")}, within_s=60)
    await again.caught_up()
    assert [it.node.key for it in await again.graph.neighbours("ROAD", 1)] == ["3"]
    assert (await again.verify(deep=True)).clean


async def test_edges_that_do_not_equal_truth_stay_with_their_nodes(
    plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes of before are kept up for them, and kept at all."""
    plane = await plane_of(**DECLARED)
    await fill(plane)
    real: Callable[..., Any] = Rebuild._caught_up

    async def spoils(self: Rebuild) -> None:
        await real(self)
        if self.target.name == "roads":
            await self.target.store.apply(self.target.collection, [], ["7"], 1 << 52)

    with monkeypatch.context() as patch:
        patch.setattr(Rebuild, "_caught_up", spoils)
        with pytest.raises(pp.Conflict, match="1 missing"):
            await plane.rebuild(TownNodes)

    async def between() -> tuple[str, ...]:
        return read_now(plane)["lives_in"][1]

    await becomes(between, ("Person", "Town_g2"), within_s=60)
    await plane.prune(TownNodes)
    await by_hand(plane, "UPDATE town SET name = 'later' WHERE id = 6")
    await plane.caught_up()
    [near] = await plane.graph.neighbours("ROAD", 5)  # of the towns of before, and up to date
    assert near.node.properties["name"] == "later"
    with pytest.raises(pp.Unavailable, match="rebuilt"):
        await plane.graph.within("Town", "5", edges=["ROAD", "LIVES_IN"])
    assert (await plane.rebuild(Roads)).before == "roads"
    assert len(await plane.graph.within("Town", "5", edges=["ROAD", "LIVES_IN"], hops=1)) == 3
    assert (await plane.verify(deep=True)).clean
