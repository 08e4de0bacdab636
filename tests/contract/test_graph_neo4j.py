"""Neo4j keeps the contract of graph stores; and what becomes of a server that fails.

One file, so that of several processes of tests one starts the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from neo4j import AsyncDriver, AsyncGraphDatabase
from neo4j.exceptions import ConstraintError

from polyplane.errors import Misconfigured, Refused, StoreDown
from polyplane.model.collection import Collection
from polyplane.model.graph import GraphNode
from polyplane.model.items import Stamp
from polyplane.model.scope import Scope
from polyplane.stores.graph import neo4j_loading
from polyplane.stores.graph.neo4j_graph import Neo4jStore, connect
from polyplane.stores.graph.neo4j_names import AHEAD, ALTERED, OWN, STRANGE
from polyplane.stores.graph_protocol import GraphStore
from polyplane.testing.graph import GraphStoreContract, RawItem
from polyplane.testing.samples import ALL
from tests.contract.neo4j_towns import ROADS, TOWNS, VIEW, plain, road, stamps, town
from tests.neo4j_server import PASSWORD, Neo4j, neo4j

# A first run fetches the server, which has a bound of its own.
pytestmark = pytest.mark.timeout(120, func_only=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Neo4j]:
    """One for the whole run."""
    with neo4j() as running:
        yield running


@pytest.fixture
async def raw(server: Neo4j) -> AsyncIterator[AsyncDriver]:
    """The driver itself, on a database that holds nothing but the collections there were: to make
    them anew for each test takes longer than the tests.
    """
    auth = ("neo4j", PASSWORD)
    async with AsyncGraphDatabase.driver(
        server.address, auth=auth, notifications_min_severity="OFF"
    ) as driver:
        await driver.execute_query("MATCH (n) WHERE n.shape IS NULL DETACH DELETE n")
        yield driver


@pytest.fixture
async def store(server: Neo4j, raw: AsyncDriver) -> AsyncIterator[Neo4jStore]:
    """A store that holds nothing, with the collections of this file."""
    store = await connect(server.url)
    await store.prepare(TOWNS)
    await store.prepare(ROADS)
    yield store
    await store.close()


class TestNeo4j(GraphStoreContract):
    """The contract, on a database that is emptied for each test."""

    bulk_rows = 3_000

    @pytest.fixture(autouse=True)
    def opened(self, server: Neo4j, raw: AsyncDriver) -> None:
        self.server, self.raw = server, raw

    async def open(self, folder: Path) -> GraphStore:
        return await connect(self.server.url)

    @pytest.mark.long
    async def test_large_batches(self, store: GraphStore) -> None:
        await super().test_large_batches(store)

    async def raw_items(self, store: GraphStore, collection: Collection) -> list[RawItem]:
        raw = await (self._edges if collection.ends else self._nodes)(collection.labelled)
        return [
            RawItem(
                key,
                held["_position"],
                held.get("_digest"),
                {name: plain(value) for name, value in held.items() if name not in OWN},
                ends,
            )
            for key, held, ends in raw
        ]

    async def _nodes(self, name: str) -> list[Any]:
        found = await self.raw.execute_query(
            f"MATCH (n) WHERE n:`{name}` OR n:`{name}/any` RETURN properties(n), labels(n)"
        )
        raw = [record for record in found.records if record[0]["_position"] != 0]
        assert all((name in labels) is ("id" in held) for held, labels in raw)
        assert all(f"{name}/any" in labels for _, labels in raw)
        assert all(held.get("id") in (None, held["_key"]) for held, _ in raw)
        return [(held["_key"], held, None) for held, _ in raw]

    async def _edges(self, name: str) -> list[Any]:
        edges = await self.raw.execute_query(
            f"MATCH (a)-[r:`{name}`]->(b) RETURN properties(r), a._key, b._key"
        )
        gone = await self.raw.execute_query(f"MATCH (n:`{name}/gone`) RETURN properties(n)")
        return [
            *((held["id"], held, (source, target)) for held, source, target in edges.records),
            *((record[0]["_key"], record[0], None) for record in gone.records),
        ]

    async def raw_edge(
        self, store: GraphStore, collection: Collection, like: str, key: str | None
    ) -> None:
        """Two under one key are not to be had before their constraint is dropped, by somebody who
        may: after that the collection is made anew for the next test.
        """
        name = collection.labelled
        if key == like:
            with pytest.raises(ConstraintError):
                await self._another(name, like, key)
            await self.raw.execute_query(f"DROP CONSTRAINT `{name}/id`")
            await self.raw.execute_query(
                "MATCH (c:`polyplane/collection` {name: $name}) SET c.shape = ''", name=name
            )
        await self._another(name, like, key)

    async def _another(self, name: str, like: str, key: str | None) -> None:
        await self.raw.execute_query(
            f"MATCH (a)-[r:`{name}` {{id: $like}}]->(b) CREATE (a)-[s:`{name}`]->(b) "
            "SET s = r{.*, id: $key}",
            like=like,
            key=key,
        )


# What free queries may do


@pytest.mark.parametrize(
    "text",
    [
        "MATCH (t:Town) SET t.name = 'x'",  # by the engine, from here on
        "MATCH (t:Town) CALL { WITH t CREATE (m:Town) } RETURN t",
        "MATCH (t:Town) DETACH DELETE t",
        "OPTIONAL MATCH (t:Town) CALL (t) { MERGE (n:Town {id: 'new'}) } RETURN 1",
        "UNWIND [1] AS x CALL { CREATE (n:Town) } IN TRANSACTIONS RETURN x",
        "MATCH (t:Town) RETURN nothing",
        "RETURN $missing",
        "CREATE (t:Town {id: 'new'})",  # by their words, from here on
        "CREATE INDEX mine FOR (t:Town) ON (t.name)",
        "LOAD CSV FROM 'file:///etc/passwd' AS row RETURN row",
        "MATCH (t) LOAD /* */ CSV FROM 'http://127.0.0.1:1/' AS row RETURN row",
        "CALL dbms.listConfig() YIELD name RETURN name",
        "MATCH (t:Town) CALL db.clearQueryCaches() YIELD value RETURN value",
        "CALL{CALL db.labels() YIELD label RETURN label} RETURN label",
        "SHOW USERS",
        "TERMINATE TRANSACTIONS 'neo4j-transaction-1'",
        "ALTER CURRENT USER SET PASSWORD FROM 'a' TO 'b'",
        "USE system MATCH (n) RETURN n",
        "CALL { USE system MATCH (n) RETURN n } RETURN n",
        "EXPLAIN MATCH (n) RETURN n",
        "RETURN 1 AS x UNION ALL USE system RETURN 1 AS x",
        "MATCH (n) RETURN n; MATCH (n) DETACH DELETE n",
        ";",
    ],
)
async def test_a_free_query_only_reads(store: Neo4jStore, raw: AsyncDriver, text: str) -> None:
    await store.apply(TOWNS, [town("a")], [], 1)
    with pytest.raises(Refused):
        await store.cypher(VIEW, ALL, text, {})
    assert await stamps(store, TOWNS) == [Stamp("a", 1, town("a").digest)]
    counted = await raw.execute_query(
        "MATCH (n) WHERE n.shape IS NULL RETURN count(n), min(n.name)"
    )
    assert list(counted.records[0].values()) == [1, "a"]


async def test_a_free_query_is_bounded(store: Neo4jStore) -> None:
    await store.apply(TOWNS, [town(f"t{i}") for i in range(5)], [], 1)
    text = "MATCH (t:Town) RETURN t, t.name AS use ORDER BY t.id"
    table = await store.cypher(VIEW, ALL, text, {}, limit=3)
    assert (table.columns, len(table.rows), table.truncated) == (("t", "use"), 3, True)
    assert table.rows[0] == (GraphNode("Town", "t0", {"name": "t0"}), "t0")
    assert not (await store.cypher(VIEW, ALL, text, {}, limit=5)).truncated
    with pytest.raises(Refused, match=r"timeout|longer"):
        endless = "UNWIND range(1, 2000000000) AS x WITH x WHERE x < 0 RETURN x"
        await store.cypher(VIEW, ALL, endless, {}, timeout_s=0.5)
    with pytest.raises(Refused):
        await store.cypher(VIEW, Scope("acme"), "MATCH (t:Town) RETURN t", {})
    for bad in (object(), 2**70, {1: 2}):
        with pytest.raises(Refused):
            await store.cypher(VIEW, ALL, "RETURN $bad", {"bad": bad})


async def test_what_is_hidden_has_no_label_and_no_id(store: Neo4jStore) -> None:
    await store.apply(TOWNS, [town("a"), town("b")], [], 1)
    await store.apply(ROADS, [road("r", "a", "not there"), road("s", "a", "b")], ["gone"], 1)
    await store.apply(TOWNS, [], ["b", "never"], 2)
    for text, expected in (
        ("MATCH (t:Town) RETURN t.id", [("a",)]),
        ("MATCH (t:Town)-[r:ROAD]->(u:Town) RETURN r.id", []),
        ("MATCH (t:Town {id: 'a'})-[r:ROAD]->(u) RETURN r.id, u, u.id ORDER BY r.id", _HIDDEN),
    ):
        assert (await store.cypher(VIEW, ALL, text, {})).rows == expected
    assert await store.neighbours(VIEW, ALL, "ROAD", "a") == []
    await store.apply(TOWNS, [town("b"), town("not there")], [], 3)
    assert [it.edge.key for it in await store.neighbours(VIEW, ALL, "ROAD", "a")] == ["r", "s"]


_HIDDEN = [("r", None, None), ("s", None, None)]


# Several in one database


async def test_namespaces_do_not_meet(store: Neo4jStore, server: Neo4j) -> None:
    other = await connect(server.url, namespace="other")
    try:
        for collection in (TOWNS, ROADS):
            await other.prepare(collection)
        await store.apply(TOWNS, [town("a"), town("b")], [], 5)
        await store.apply(ROADS, [road("r", "a", "b")], [], 5)
        await other.apply(TOWNS, [town("a", "another")], [], 1)
        assert await stamps(other, TOWNS) == [Stamp("a", 1, town("a", "another").digest)]
        assert await stamps(other, ROADS) == []
        table = await other.cypher(VIEW, ALL, "MATCH (t:Town) RETURN t.name", {})
        assert table.rows == [("another",)]
        assert await other.neighbours(VIEW, ALL, "ROAD", "a") == []
        await other.forget(ROADS)
        await other.forget(TOWNS)
        assert len(await stamps(store, TOWNS)) == 2
        assert len(await store.neighbours(VIEW, ALL, "ROAD", "a")) == 1
    finally:
        await other.close()


async def test_gates_hold_for_several_writers(store: Neo4jStore, server: Neo4j) -> None:
    """Puts and drops of the same keys, and edges to nodes that come and go, at once."""
    other = await connect(server.url)
    keys = [f"k{i}" for i in range(20)]

    async def write(writer: Neo4jStore, position: int) -> None:
        alive, dead = keys[position % 3 :: 2], keys[(position + 1) % 3 :: 2]
        dead = [key for key in dead if key not in alive]
        await writer.apply(TOWNS, [town(key, str(position)) for key in alive], dead, position)
        roads = [road(key, key, keys[position % 20], float(position)) for key in alive]
        await writer.apply(ROADS, roads, dead, position)

    try:
        order = [7, 3, 11, 1, 9, 5, 12, 2, 8, 4, 10, 6]
        await asyncio.gather(*(write((store, other)[it % 2], it) for it in order))
    finally:
        await other.close()
    towns, roads = {}, {}
    for position in sorted(order):
        alive, dead = keys[position % 3 :: 2], keys[(position + 1) % 3 :: 2]
        for key in {*alive, *dead}:
            lives = key in alive
            a, b = town(key, str(position)), road(key, key, keys[position % 20], float(position))
            towns[key] = Stamp(key, position, a.digest if lives else None)
            roads[key] = Stamp(key, position, b.digest if lives else None)
    assert await stamps(store, TOWNS) == [towns[key] for key in sorted(towns)]
    assert await stamps(store, ROADS) == [roads[key] for key in sorted(roads)]


# What others have put there


async def test_what_is_nobodys_is_told_and_buried(store: Neo4jStore, raw: AsyncDriver) -> None:
    await store.apply(TOWNS, [town("a"), town("b"), town("c")], [], 1)
    await store.apply(ROADS, [road("r", "a", "b")], [], 1)
    for text in (
        "CREATE (:Town {name: 'no key'})",
        "CREATE (:Town {id: 'a', name: 'a second one'})",
        "CREATE (:`Town/any` {_key: 7})",
        "MATCH (t:Town {id: 'b'}) SET t.id = 'z'",
        "MATCH (t:Town {id: 'c'}) REMOVE t:Town",
        "MATCH (a:`Town/any` {_key: 'a'}), (b:Town {id: 'z'}) CREATE (a)-[:ROAD {km: 1.0}]->(b)",
        "MATCH (a:`Town/any` {_key: 'a'}) CREATE (a)-[:ROAD {id: 'mine', _position: 1}]->(:X)",
    ):
        await raw.execute_query(text)
    towns, roads = await stamps(store, TOWNS), await stamps(store, ROADS)
    strange = [stamp for stamp in towns + roads if stamp.key.startswith(STRANGE)]
    assert [stamp[1:] for stamp in strange] == [(AHEAD, ALTERED)] * 3
    assert [stamp for stamp in towns if stamp not in strange] == [
        Stamp("a", 1, town("a").digest),
        Stamp("a", AHEAD, ALTERED),
        Stamp("b", 1, ALTERED),
        Stamp("c", 1, ALTERED),
    ]
    assert [stamp for stamp in roads if stamp not in strange] == [
        Stamp("mine", 1, ALTERED),
        Stamp("r", 1, road("r", "a", "b").digest),
    ]
    asked = [stamp.key for stamp in towns]
    assert sorted(await store.stamps(TOWNS, list(dict.fromkeys(asked)))) == sorted(towns)
    assert sorted(await store.stamps(ROADS, [it.key for it in roads])) == sorted(roads)
    await store.bury(TOWNS, list(dict.fromkeys(asked)), 2)
    await store.bury(ROADS, [it.key for it in roads], 2)
    assert await stamps(store, TOWNS) == [Stamp(key, 2, None) for key in "abc"]
    assert await stamps(store, ROADS) == [Stamp(key, 2, None) for key in ("mine", "r")]
    await store.apply(TOWNS, [town("a"), town("b")], [], 3)
    await store.apply(ROADS, [road("r", "a", "b")], [], 3)
    assert [it.node.key for it in await store.neighbours(VIEW, ALL, "ROAD", "a")] == ["b"]


async def test_stubs_that_nobody_needs_go(store: Neo4jStore, raw: AsyncDriver) -> None:
    await store.apply(ROADS, [road("r", "x", "y"), road("s", "x", "z")], [], 1)
    await store.apply(ROADS, [], ["r"], 2)
    await store.maintain(TOWNS, full=True)
    left = await raw.execute_query("MATCH (n:`Town/any`) RETURN n._key AS key ORDER BY key")
    assert [record["key"] for record in left.records] == ["x", "z"]


# Servers that fail


async def test_what_cannot_work_is_said(server: Neo4j) -> None:
    for url, password in (
        (server.url, "wrong"),
        (server.url + "/nosuchdatabase", ""),
        (server.url + "?what=this", ""),
        ("bolt://", ""),
    ):
        with pytest.raises(Misconfigured):
            await connect(url, password=password)
    with pytest.raises(StoreDown):
        await connect("bolt://127.0.0.1:1", password="x", timeout_s=5)


async def test_a_server_that_stands_still_is_down_until_it_goes_on(
    server: Neo4j, store: Neo4jStore
) -> None:
    await store.apply(TOWNS, [town("a")], [], 1)
    hasty = await connect(server.url, timeout_s=1.0)
    server.freeze(frozen=True)
    try:
        for asked in (
            hasty.ping(),
            hasty.apply(TOWNS, [town("a", "new")], ["b"], 2),
            hasty.nodes(VIEW, ALL, "Town", ["a"]),
            connect(server.url, timeout_s=0.5),
        ):
            with pytest.raises(StoreDown):
                await asked
    finally:
        server.freeze(frozen=False)
        await hasty.close()
    await store.apply(TOWNS, [town("a", "new")], ["b"], 2)
    expected = [Stamp("a", 2, town("a", "new").digest), Stamp("b", 2, None)]
    assert await stamps(store, TOWNS) == expected


@pytest.mark.long
async def test_a_killed_server_keeps_what_it_acknowledged(server: Neo4j, store: Neo4jStore) -> None:
    many = [town(f"t{i:05}") for i in range(6_000)]
    await store.apply(TOWNS, [town("before")], ["gone"], 1)
    await store.apply(ROADS, [road("r", "before", "t00001")], [], 1)
    await store.barrier()
    writing = asyncio.create_task(store.apply(TOWNS, many, [], 2))
    async with asyncio.timeout(60):
        while len(await store.stamps(TOWNS, ["t00000"])) == 0 and not writing.done():
            await asyncio.sleep(0.01)
    server.kill()
    is_done = (await asyncio.gather(writing, return_exceptions=True))[0] is None
    with pytest.raises(StoreDown):
        await store.ping()
    server.start()
    held = await stamps(store, TOWNS)
    assert {Stamp("before", 1, town("before").digest), Stamp("gone", 1, None)} <= set(held)
    put = [stamp for stamp in held if stamp.position == 2]
    assert put == [Stamp(item.key, 2, item.digest) for item in many[: len(put)]]
    assert len(put) == len(many) if is_done else put
    await store.apply(TOWNS, many, [], 2)
    assert len(await stamps(store, TOWNS)) == len(many) + 2
    assert [it.node.key for it in await store.neighbours(VIEW, ALL, "ROAD", "before")] == ["t00001"]


async def test_a_first_load_creates_only_what_is_new(
    server: Neo4j, store: Neo4jStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neo4j_loading, "LOAD_ROWS", 3)
    monkeypatch.setattr(neo4j_loading, "BATCH", 4)
    other, is_new = await connect(server.url), store._loads._is_new
    await store.apply(TOWNS, [town(f"t{i}") for i in range(5)], [], 5)
    await store.apply(ROADS, [road(f"r{i}", f"t{i}", "t0") for i in range(5)], [], 5)
    assert is_new == {"Town": True, "ROAD": True}
    await other.apply(TOWNS, [town(f"t{i}") for i in range(3, 7)], [], 4)
    await store.apply(TOWNS, [town(f"t{i}") for i in range(6, 9)], [], 3)
    await other.apply(ROADS, [], ["r7"], 9)
    await store.apply(ROADS, [road(f"r{i}", "t1", "t9") for i in range(5, 8)], [], 6)
    assert is_new == {"Town": False, "ROAD": False}
    held = {stamp.key: stamp.position for stamp in await stamps(store, TOWNS)}
    assert held == {f"t{i}": 5 if i < 5 else 4 if i < 7 else 3 for i in range(9)}
    told = [(it.position, it.digest is None) for it in await stamps(store, ROADS)]
    assert told == [*[(5, False)] * 5, *[(6, False)] * 2, (9, True)]
    await other.close()
