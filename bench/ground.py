"""The ground of all measurements: one set of real engines, and names of their own in them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
from sqlalchemy import make_url

from polyplane import Plane, Settings
from polyplane.embedded import Engines
from polyplane.feed import jetstream
from polyplane.stores.disk import sync

ENGINES: Final = ("postgres", "nats", "valkey")


class Skipped(Exception):
    """A measurement that cannot be made here, and why."""


Connection = psycopg.AsyncConnection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Size:
    """How often a measurement runs, and how large it is: `quick` ones only show that it works.

    `cranfield` is a folder with that collection, if there is one.
    """

    runs: int
    quick: bool
    cranfield: Path | None = None

    def scaled(self, full: int) -> int:
        """`full`, or a twentieth of it."""
        return max(1, full // 20) if self.quick else full


@dataclass(frozen=True, slots=True)
class Ground:
    """Running engines and a folder that is removed afterwards."""

    folder: Path
    engines: Engines

    async def database(self, template: str = "template1") -> str:
        """The URL of a new database, a copy of the one named `template`."""
        url = make_url(self.engines.urls["postgres"])
        name = f"b{uuid4().hex[:12]}"
        async with await connect(url.render_as_string(hide_password=False)) as admin:
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return url.set(database=name).render_as_string(hide_password=False)

    def login(self, name: str, database_url: str) -> str:
        """The URL of a login of fewer rights on the same database."""
        url = make_url(self.engines.logins[f"postgres.{name}"])
        database = make_url(database_url).database
        return url.set(database=database).render_as_string(hide_password=False)

    def settings(self, database_url: str, graph: str = "") -> Settings:
        """Settings of a plane on `database_url` that shares nothing else but the servers.

        `graph` is the URL of a server of graphs; without one a graph is a folder of its own.
        """
        name = f"b{uuid4().hex[:12]}"
        home = self.folder / name
        home.mkdir()
        return Settings.load(
            environ={},
            home=home,
            namespace=name,
            limit_caller="10000000/60",  # counted, and never reached
            database_url=database_url,
            nats_url=self.engines.admins["nats"],
            cache_url=self.engines.admins["valkey"],
            objects_url="http://no:keys@127.0.0.1:1",  # few measurements keep objects
            vector_url=f"lancedb://{home / 'lancedb'}",
            series_url=f"chdb://{self.folder / 'clickhouse'}",
            graph_url=graph or f"ladybug://{home / 'graph'}",
        )

    @asynccontextmanager
    async def plane(
        self, database_url: str, *, flows: bool = True, graph: str = "", **declared: Any
    ) -> AsyncIterator[Plane]:
        """An open plane on `database_url`; its streams and its home are gone afterwards."""
        settings = self.settings(database_url, graph)
        plane = Plane(settings=settings, flows=flows, **declared)
        async with plane:
            yield plane
        await self._drop_streams(plane)
        await asyncio.to_thread(shutil.rmtree, settings.home, ignore_errors=True)

    async def _drop_streams(self, plane: Plane) -> None:
        feed = await jetstream.connect(self.engines.admins["nats"], plane.namespace)
        series = [feed.subjects.stream(stream.name)[0] for stream in plane.declared.streams]
        for name in (feed.subjects.changes, feed.subjects.events, *series):
            await feed.delete(name)
        await feed.close()

    async def calm(self) -> None:
        """Have the disk write what earlier runs left behind, so that no run pays for another."""
        await asyncio.to_thread(sync, self.folder)


async def connect(url: str) -> Connection:
    """A connection in autocommit, past the plane."""
    return await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=10)


async def execute(url: str, statements: Sequence[str]) -> None:
    """Run `statements` one after the other."""
    async with await connect(url) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Start the engines under a folder of their own; stop them and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="polyplane-bench-"))
    try:
        engines = Engines(folder / "engines", wanted=ENGINES)
        await engines.start()
        try:
            yield Ground(folder, engines)
        finally:
            await engines.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
