"""Nodes and edges follow from rows like everything else: derived, read, proven and mended."""

from __future__ import annotations

from shutil import rmtree

import pytest

import polyplane as pp
from polyplane import graph
from polyplane.runtime import moving
from tests.conftest import PlaneOf
from tests.flow.things import becomes, by_hand
from tests.flow.towns import (
    DECLARED,
    FAR,
    TOWNS,
    LivesIn,
    PersonNodes,
    Roads,
    TownNodes,
    fill,
    held,
    road,
    target_of,
    town,
)


@pytest.fixture
async def plane(plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch) -> pp.Plane:
    """The ring of towns, in a store that nobody else looks after."""
    monkeypatch.setattr(moving, "_LOOK_AT_STORES_EVERY_S", 3600.0)
    plane = await plane_of(**DECLARED)
    await fill(plane)
    return plane


async def beside(plane: pp.Plane, key: object) -> list[str]:
    """The towns that a road leads to."""
    return [it.node.key for it in await plane.graph.neighbours(Roads, key)]


async def test_what_is_asked_is_what_follows_from_the_rows(plane: pp.Plane) -> None:
    [found] = await plane.graph.nodes("Town", [7, 7_000])
    assert (found.label, found.key) == ("Town", "7")
    assert (found.properties["name"], found.properties["people"]) == ("town 7", 700)
    assert found.properties["founded"].isoformat() == "2001-02-03T04:05:06.789000+00:00"
    [near] = await plane.graph.neighbours(Roads, 7)
    assert near.edge == graph.GraphEdge("ROAD", "7", "7", "8", {"miles": 3.5})
    assert near.node.key == "8"
    inward = await plane.graph.neighbours("ROAD", 7, direction="in", of={"name": "town 6"})
    assert [it.node.key for it in inward] == ["6"]
    reached = await plane.graph.within("Person", "p7", hops=3)
    assert {(it.hops, it.node.label, it.node.key) for it in reached} == {
        (1, "Town", "7"),
        (2, "Town", "6"),
        (2, "Town", "8"),
        (3, "Town", "5"),
        (3, "Town", "9"),
        (3, "Person", "p6"),
        (3, "Person", "p8"),
    }
    way = await plane.graph.path((TownNodes, 1), (TownNodes, 4), edges=[Roads], direction="out")
    assert way is not None and [it.key for it in way.nodes] == ["1", "2", "3", "4"]
    assert (way.cost, len(way.edges)) == (3, 3)
    steps = (graph.NodeStep("Person", {"id": "p3"}), graph.EdgeStep("LIVES_IN"))
    [[who, _, where]] = await plane.graph.match(*steps, graph.NodeStep("Town"))
    assert (who.key, where.key) == ("p3", "3")
    around = await plane.graph.subgraph({TownNodes: [1]}, edges=[Roads], hops=1)
    assert {it.key for it in around.nodes} == {"1", "2", str(TOWNS)}
    table = await plane.graph.cypher(
        "MATCH (p:Person)-[:LIVES_IN]->(t:Town) WHERE t.name = $name RETURN p.id AS who",
        {"name": "town 9"},
    )
    assert (table.columns, table.rows) == (("who",), [("p9",)])
    with pytest.raises(pp.Refused):
        await plane.graph.cypher("CREATE (t:Town {id: 'x'})")
    assert (await plane.verify(deep=True)).clean
    await _refused(plane)


async def _refused(plane: pp.Plane) -> None:
    """Questions that are none."""
    with pytest.raises(pp.NotFound, match="no edges 'LEADS'"):
        await plane.graph.neighbours("LEADS", 7)
    with pytest.raises(pp.Misconfigured, match="part of a graph"):
        plane[TownNodes]  # type: ignore[type-var]
    for limit in (0, 10_001):
        with pytest.raises(pp.Refused):
            await plane.graph.find(PersonNodes, limit=limit)
    with pytest.raises(pp.Refused):
        await plane.graph.find(TownNodes, where={"age": 3})
    with pytest.raises(pp.Refused):
        await plane.graph.neighbours(LivesIn, "p1", order_by="miles")


async def test_edges_wait_for_their_ends_and_outlive_them(plane: pp.Plane) -> None:
    """One that is written first, one whose end goes and comes again, one that is moved."""
    await by_hand(plane, "INSERT INTO road VALUES (900, 1, 900, 1.5), (901, 901, 902, 1)")
    await plane.caught_up()
    assert await beside(plane, 1) == ["2"]
    assert (await plane.graph.nodes("Town", [900, 901])) == []
    await by_hand(plane, "INSERT INTO town VALUES (900, 'late', NULL, NULL)")
    await plane.caught_up()
    assert sorted(await beside(plane, 1)) == ["2", "900"]

    await by_hand(plane, "DELETE FROM town WHERE id = 900; UPDATE town SET name = '' WHERE id = 2")
    await plane.caught_up()
    assert await beside(plane, 1) == []
    assert (await plane.verify(deep=True)).clean
    await by_hand(plane, "UPDATE town SET name = 'again' WHERE id = 2")
    await by_hand(plane, "INSERT INTO town VALUES (900, 'again', NULL, NULL)")
    await plane.caught_up()
    assert sorted(await beside(plane, 1)) == ["2", "900"]

    await by_hand(plane, "UPDATE road SET start = 3, goal = 50 WHERE id = 900")
    await by_hand(plane, "DELETE FROM road WHERE id = 1")
    await plane.caught_up()
    assert await beside(plane, 1) == []
    assert sorted(await beside(plane, 3)) == ["4", "50"]
    drift = await plane.verify(deep=True)
    assert drift.clean and {it.projection: it.items for it in drift.parts} == {
        "town_nodes": TOWNS + 1,
        "person_nodes": TOWNS,
        "roads": TOWNS + 1,
        "lives_in": TOWNS,
    }


async def test_a_row_that_no_graph_holds_is_parked_alone(plane: pp.Plane) -> None:
    """What is no number at all; its neighbours in the batch are applied."""
    await by_hand(plane, "UPDATE road SET miles = 'NaN' WHERE id = 5")
    await by_hand(plane, "UPDATE road SET miles = 2 WHERE id = 6")
    await plane.caught_up()
    drift = await plane.verify(Roads)
    assert (drift.clean, drift.parts[0].parked) == (True, ("5",))
    [near] = await plane.graph.neighbours(Roads, 6)
    assert near.edge.properties == {"miles": 2.0}


async def test_170_differences_are_found_and_mended_and_nothing_else(plane: pp.Plane) -> None:
    """Nodes and edges that are gone, wrong, or from nowhere; edges that lead to nothing."""
    nodes, edges = target_of(plane, TownNodes), target_of(plane, Roads)
    before = [await held(it) for it in (nodes, edges)]
    wrong = [town(str(n)) for n in range(1, 31)]
    strange = [town(f"x{n}") for n in range(25)]
    await nodes.store.apply(nodes.collection, [*wrong, *strange], [], FAR)
    await nodes.store.apply(nodes.collection, [], [str(n) for n in range(31, 61)], FAR)
    moved = [road(str(n), str(n), "nowhere" if n % 2 else "5") for n in range(1, 31)]
    dangling = [road(f"y{n}", f"gone {n}", "1" if n % 2 else "gone") for n in range(25)]
    await edges.store.apply(edges.collection, [*moved, *dangling], [], FAR)
    await edges.store.apply(edges.collection, [], [str(n) for n in range(31, 61)], FAR)

    mended = await plane.repair(TownNodes, Roads)
    assert (mended.found.missing, mended.found.stale, mended.found.extra) == (60, 60, 50)
    assert mended.left.clean
    assert [it.rows for it in mended.left.parts] == [85, 85]
    assert (await plane.verify(deep=True)).clean
    for was, it in zip(before, (nodes, edges), strict=True):
        now = await held(it)
        assert {key: now[key].digest for key in was} == {key: s.digest for key, s in was.items()}
        assert {key for key, s in now.items() if s.digest} == set(was)
    assert await beside(plane, 1) == ["2"] and await beside(plane, 40) == ["41"]

    # What only a deep look finds: the right digest over a wrong name, and over another end.
    [stamp] = await nodes.store.stamps(nodes.collection, ["3"])
    await nodes.store.apply(nodes.collection, [town("3", "no", str(stamp.digest))], [], FAR - 1)
    [stamp] = await edges.store.stamps(edges.collection, ["4"])
    await edges.store.apply(edges.collection, [road("4", "4", "9", str(stamp.digest))], [], FAR - 1)
    drift = await plane.verify(TownNodes, Roads, deep=True)
    assert [part.stale for part in drift.parts] == [("3",), ("4",)]
    mended = await plane.repair(TownNodes, Roads, deep=True)
    assert mended.left.clean and (await plane.verify(deep=True)).clean


async def test_what_is_applied_late_changes_nothing(plane: pp.Plane) -> None:
    """An older state of a node and of an edge, and of what is gone by now."""
    nodes, edges = target_of(plane, TownNodes), target_of(plane, Roads)
    await by_hand(plane, "DELETE FROM town WHERE id = 9; DELETE FROM road WHERE id = 11")
    await by_hand(plane, "UPDATE road SET goal = 5 WHERE id = 3")
    await plane.caught_up()
    before = [await held(it) for it in (nodes, edges)]
    await nodes.store.apply(nodes.collection, [town("2", "late"), town("9", "late")], ["4"], 1)
    late = [road("3", "3", "4"), road("11", "11", "12")]
    await edges.store.apply(edges.collection, late, ["5"], 1)
    assert [await held(it) for it in (nodes, edges)] == before
    assert (await beside(plane, 3), await beside(plane, 11)) == (["5"], [])
    assert (await plane.verify(deep=True)).clean


async def test_a_graph_that_is_gone_is_filled_again(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    """Its files are deleted between two openings; nodes and edges come back, edges last."""
    plane = await plane_of(**DECLARED)
    await fill(plane)
    await plane.close()
    for path in own_settings.home.glob("graph*"):
        rmtree(path) if path.is_dir() else path.unlink()
    again = await plane_of(**DECLARED)

    async def is_whole() -> bool:
        try:
            return await beside(again, 1) == ["2"]
        except pp.Unavailable:
            return False

    await becomes(is_whole, True, within_s=60)
    drift = await again.verify(deep=True)
    assert drift.clean and sum(it.items for it in drift.parts) == 4 * TOWNS
