"""Graphs without an adapter: the quickest loads that the drivers let one write, and one question.

What a load by hand must do to be the same work as ours, and no more than that:

- It is given rows as a plane is, 10,000 at a time, and has them on the disk in the end: Ladybug by
  one CHECKPOINT and a sync, as ours, Neo4j by its commits.
- A key is there once. That is a primary key or a constraint, of edges, too; Ladybug has none for
  relations, so that their keys are a table of nodes beside them, without which nobody could change
  or delete an edge by its key but by looking at all of them.
- It has neither digests nor positions, ends beside the keys, tombstones nor a gate, and looks for
  nothing: what that costs is counted against us.

A bare load of Ladybug is told beside it, and required of nobody: one COPY of all there is, as if
nobody had to give it rows, of edges without any key that is unique.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote, urlsplit

import ladybug
import pyarrow as pa
from neo4j import AsyncDriver, AsyncGraphDatabase, NotificationMinimumSeverity, Query

from bench.ground import Skipped
from bench.program import ROOT
from polyplane.stores.disk import sync

NEO4J_URL: Final = "POLYPLANE_TEST_NEO4J_URL"
NODE: Final = ("id", "name", "people")
EDGE: Final = ("source", "target", "id", "miles")
_NODE_TYPES: Final = (pa.string(), pa.string(), pa.int64())
_EDGE_TYPES: Final = (pa.string(), pa.string(), pa.string(), pa.float64())
_BATCH: Final = 10_000
_AT_ONCE: Final = 2
"""Transactions that make nodes at the same time: the server works while we send."""
_START_S: Final = 900.0
_STATEMENT_S: Final = 120.0
_BUFFER_BYTES: Final = 1 << 30

Row = tuple[Any, ...]


class Raw(Protocol):
    """An empty graph, of nodes `NODE` and edges `EDGE`."""

    async def nodes(self, rows: Sequence[Row]) -> None:
        """Make all of these, durably."""
        ...

    async def edges(self, rows: Sequence[Row]) -> None:
        """Make all of these, between nodes that are there, durably."""
        ...

    async def beside(self, key: str, limit: int) -> list[Row]:
        """Id and miles of the edges out of `key`, id, name and people of what they lead to."""
        ...

    async def close(self) -> None:
        """Take it away."""
        ...


class RawLadybug:
    """A database of its own, by the same thread: COPY, then a checkpoint."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._database = ladybug.Database(
            folder / "raw.lbug",
            buffer_pool_size=_BUFFER_BYTES,
            max_num_threads=2,
            auto_checkpoint=False,
        )
        self._connection = ladybug.Connection(self._database, 2)
        for name in ("Raw", "Bare"):
            self._run(
                f"CREATE NODE TABLE {name}(id STRING, name STRING, people INT64, PRIMARY KEY(id))"
            )
            self._run(
                f"CREATE REL TABLE {name}_WAY(FROM {name} TO {name}, id STRING, miles DOUBLE)"
            )
        self._run("CREATE NODE TABLE Raw_WAY_KEY(id STRING, PRIMARY KEY(id))")

    def _run(self, statement: str, **parameters: Any) -> list[Row]:
        result = self._connection.execute(statement, parameters)
        assert isinstance(result, ladybug.QueryResult)
        with result:
            return [tuple(cast(list[Any], row)) for row in result]

    def _copy(self, table: str, rows: pa.Table) -> None:
        self._run(f"COPY {table} FROM $rows", rows=rows)

    def _keep(self) -> None:
        self._run("CHECKPOINT")
        sync(self._folder)

    async def nodes(self, rows: Sequence[Row]) -> None:
        """See there."""
        for at in range(0, len(rows), _BATCH):
            self._copy("Raw", _table(rows[at : at + _BATCH], NODE, _NODE_TYPES))
        self._keep()

    async def edges(self, rows: Sequence[Row]) -> None:
        """See there."""
        for at in range(0, len(rows), _BATCH):
            some = _table(rows[at : at + _BATCH], EDGE, _EDGE_TYPES)
            self._copy("Raw_WAY_KEY", some.select(["id"]))
            self._copy("Raw_WAY", some)
        self._keep()

    async def bare_load(self, nodes: Sequence[Row], edges: Sequence[Row]) -> tuple[float, float]:
        """Seconds to make all of these elsewhere, with nothing that need not be."""
        started = perf_counter()
        self._copy("Bare", _table(nodes, NODE, _NODE_TYPES))
        self._keep()
        between = perf_counter()
        self._copy("Bare_WAY", _table(edges, EDGE, _EDGE_TYPES))
        self._keep()
        return between - started, perf_counter() - between

    async def beside(self, key: str, limit: int) -> list[Row]:
        """See there."""
        return self._run(
            "MATCH (a:Raw {id: $key})-[r:Raw_WAY]->(b:Raw)"
            " RETURN r.id, r.miles, b.id, b.name, b.people ORDER BY r.id"
            f" LIMIT {limit:d}",
            key=key,
        )

    async def close(self) -> None:
        """Its folder goes with the others."""
        self._connection.close()
        self._database.close()


def _table(rows: Sequence[Row], names: Sequence[str], types: Sequence[pa.DataType]) -> pa.Table:
    columns = zip(zip(*rows, strict=True), types, strict=True)
    return pa.table([pa.array(column, kind) for column, kind in columns], names=list(names))


class RawNeo4j:
    """Labels of its own on the server: UNWIND over lists, keys by a constraint."""

    def __init__(self, driver: AsyncDriver, database: str | None, name: str) -> None:
        self._driver, self._database = driver, database
        self._label, self._type = f"`{name}.Raw`", f"`{name}.RAW_WAY`"
        self._constraints = [f"`{name}.raw`", f"`{name}.raw way`"]

    @classmethod
    async def opened(cls, url: str, name: str) -> RawNeo4j:
        """On the server at `url`."""
        parts = urlsplit(url)
        driver = AsyncGraphDatabase.driver(
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
            auth=(unquote(parts.username or "neo4j"), unquote(parts.password or "")),
            connection_timeout=30.0,
            notifications_min_severity=NotificationMinimumSeverity.OFF,
        )
        raw = cls(driver, unquote(parts.path.strip("/")) or None, name)
        things = (f"(n:{raw._label})", f"()-[n:{raw._type}]-()")
        for constraint, thing in zip(raw._constraints, things, strict=True):
            await raw._run(f"CREATE CONSTRAINT {constraint} FOR {thing} REQUIRE n.id IS UNIQUE")
        return raw

    async def _run(self, statement: str, **parameters: Any) -> list[Row]:
        async with self._driver.session(database=self._database, fetch_size=1_000) as session:
            query = Query(cast(Any, statement), timeout=_STATEMENT_S)
            result = await session.run(query, parameters)
            return [tuple(record.values()) async for record in result]

    async def nodes(self, rows: Sequence[Row]) -> None:
        """See there."""
        free = asyncio.Semaphore(_AT_ONCE)
        statement = (
            f"UNWIND $rows AS row CREATE (:{self._label}"
            " {id: row[0], name: row[1], people: row[2]})"
        )

        async def some(at: int) -> None:
            async with free:
                await self._run(statement, rows=rows[at : at + _BATCH])

        async with asyncio.TaskGroup() as tasks:
            for at in range(0, len(rows), _BATCH):
                tasks.create_task(some(at))

    async def edges(self, rows: Sequence[Row]) -> None:
        """One after the other: two that share a node would wait for each other, or fail."""
        statement = (
            f"UNWIND $rows AS row MATCH (a:{self._label} {{id: row[0]}})"
            f" MATCH (b:{self._label} {{id: row[1]}})"
            f" CREATE (a)-[:{self._type} {{id: row[2], miles: row[3]}}]->(b)"
        )
        for at in range(0, len(rows), _BATCH):
            await self._run(statement, rows=rows[at : at + _BATCH])

    async def beside(self, key: str, limit: int) -> list[Row]:
        """See there."""
        return await self._run(
            f"MATCH (a:{self._label} {{id: $key}})-[r:{self._type}]->(b:{self._label})"
            " RETURN r.id, r.miles, b.id, b.name, b.people ORDER BY r.id LIMIT $limit",
            key=key,
            limit=limit,
        )

    async def close(self) -> None:
        """The server may be somebody's."""
        await self._run(
            f"MATCH (n:{self._label}) CALL {{ WITH n DETACH DELETE n }}"
            f" IN TRANSACTIONS OF {_BATCH:d} ROWS"
        )
        for constraint in self._constraints:
            await self._run(f"DROP CONSTRAINT {constraint}")
        await self._driver.close()


@asynccontextmanager
async def neo4j_server() -> AsyncIterator[str]:
    """The URL of the server that the environment names, or of the tests' own, started for us.

    Raises Skipped where there is none, nor what starts one.
    """
    if url := os.environ.get(NEO4J_URL):
        yield url
        return
    if lacking := [name for name in ("java", "mvn") if shutil.which(name) is None]:
        raise Skipped(f"Neo4j needs {NEO4J_URL}, or Java 17 and Maven ({lacking[0]} is not there).")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.neo4j_server"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(_START_S):
            said = (await process.stdout.readline()).decode().strip()
        if not said:
            raise Skipped("The Neo4j of the tests does not start here; it says why above.")
        yield said
    finally:
        process.stdin.close()  # it ends with its input
        try:
            async with asyncio.timeout(60.0):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
