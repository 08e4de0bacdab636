"""What every ring of tests shares."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, Protocol
from uuid import uuid4

import psycopg
import pytest
import structlog
from httpx import ASGITransport, AsyncClient
from hypothesis import settings
from sqlalchemy import URL, make_url

from polyplane import Plane, Settings
from polyplane.embedded import Engines
from polyplane.ops.migrate import CORE, migrate_up
from polyplane.serve.api.app import create_app

# A failing example prints the blob that replays it exactly (`@reproduce_failure`). Examples that
# talk to engines have no sensible deadline of their own; pytest-timeout bounds the test. Not made
# from what is in force: where CI is set, that is a profile which tries the same each time.
plain = settings.get_profile("default")
settings.register_profile("default", plain, deadline=None, print_blob=True, max_examples=40)
settings.register_profile("long", settings.get_profile("default"), max_examples=2_000)
settings.load_profile("default")

# What a shell starts in the background, and all its children, ignore Ctrl-C; tests of it do not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A traceback in the log is told in plain lines: to paint every frame, as is usual, takes
# longer than most of the tests that have one.
*_others, _ = structlog.get_config()["processors"]
_plain = structlog.dev.ConsoleRenderer(
    colors=False, exception_formatter=structlog.dev.plain_traceback
)
structlog.configure(processors=[*_others, _plain])


class SharedEngines(Engines):
    """Each test has namespaces, prefixes and buckets of its own in them, made as it likes: tests
    come as the administrators. The plane's own logins are tested in tests/flow/test_credentials.py
    and wherever `up` starts its engines itself.
    """

    @property
    def urls(self) -> Mapping[str, str]:
        return {**super().urls, **self.admins}


@pytest.fixture(scope="session")
async def engines() -> AsyncIterator[Engines]:
    """One set of real engines for the whole run; each test has its own names in them.

    Not below pytest's own folder: each start of pytest closes that to other users, and
    PostgreSQL runs as one.
    """
    home = Path(mkdtemp(prefix="polyplane-test-"))
    engines = SharedEngines(home)
    try:
        await engines.start()
        await _hasten(engines, home)
        yield engines
        await engines.stop()
    finally:
        _remove(home)


async def _hasten(engines: Engines, home: Path) -> None:
    """A database for each test takes PostgreSQL a third of the time where nobody cuts its power
    (who does has a home of its own) and nobody vacuums some hundred of them all the time.
    """
    secrets = json.loads((home / "secrets.json").read_text())["postgres"]
    url = make_url(engines.urls["postgres"]).set(username="postgres", password=secrets["admin"])
    async with await psycopg.AsyncConnection.connect(
        url.render_as_string(hide_password=False), autocommit=True
    ) as admin:
        for name in ("fsync", "full_page_writes", "summarize_wal", "autovacuum"):
            await admin.execute(f"ALTER SYSTEM SET {name} = off".encode())
        await admin.execute("SELECT pg_reload_conf()")


def _remove(home: Path) -> None:
    """Without waiting: a database for each test is a hundred thousand files in the end."""
    os.posix_spawnp("rm", ["rm", "-rf", str(home)], os.environ)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for a home: the engines' account may enter it, unlike pytest's."""
    path = Path(mkdtemp(prefix="polyplane-place-"))
    path.chmod(0o755)
    yield path
    rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def chdb_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One folder for all of a session: a process may have one chdb path open at a time."""
    return f"chdb://{tmp_path_factory.mktemp('chdb')}"


class PlaneOf(Protocol):
    """Opens a plane on the shared engines, with a database and a namespace of its own."""

    async def __call__(self, *, settings: Settings | None = None, **declared: Any) -> Plane: ...


@pytest.fixture
async def own_settings(engines: Engines, tmp_path: Path, chdb_url: str) -> Settings:
    """Settings of a plane that shares nothing with another test's but the servers."""
    return await settings_in(tmp_path, engines, chdb_url)


async def settings_in(
    home: Path, engines: Engines, chdb_url: str, *, is_empty: bool = False
) -> Settings:
    """Settings of a plane of that home, with a database and a namespace of its own; the database
    has the plane's own tables, unless it must be empty.
    """
    name = f"t{uuid4().hex[:12]}"
    url = make_url(engines.urls["postgres"])
    admin = await psycopg.AsyncConnection.connect(
        url.render_as_string(hide_password=False), autocommit=True
    )
    async with admin:
        template = "template1" if is_empty else await _template(admin, url)
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    return Settings.load(
        environ={},
        home=home,
        namespace=name,
        database_url=url.set(database=name).render_as_string(hide_password=False),
        nats_url=engines.urls["nats"],
        cache_url=engines.urls["valkey"],
        objects_url=engines.urls["s3"],
        vector_url=f"lancedb://{home / 'lancedb'}",
        series_url=chdb_url,
    )


async def _template(admin: psycopg.AsyncConnection[Any], url: URL) -> str:
    """A database with the plane's own tables: to make them takes half a second each time. That
    they are made in an empty one, test_migrate, test_rows and each `up` show.
    """
    name = "with_core"
    known = await admin.execute("SELECT FROM pg_database WHERE datname = %s", [name])
    if await known.fetchone() is None:
        await admin.execute(f"CREATE DATABASE {name}".encode())
        await migrate_up(url.set(database=name).render_as_string(hide_password=False), [CORE])
    return name


@pytest.fixture
async def plane_of(own_settings: Settings) -> AsyncIterator[PlaneOf]:
    """`plane = await plane_of(models=[...], ...)`; closed after the test."""
    opened: list[Plane] = []

    async def open_plane(*, settings: Settings | None = None, **declared: Any) -> Plane:
        plane = Plane(settings=settings or own_settings, **declared)
        await plane.open()
        opened.append(plane)
        return plane

    yield open_plane
    for plane in reversed(opened):
        await plane.close()


@pytest.fixture
async def client_of() -> AsyncIterator[Callable[[Plane], AsyncClient]]:
    """`client = client_of(plane)`: an HTTP client of the plane's API, without a socket."""
    clients: list[AsyncClient] = []

    def make(plane: Plane) -> AsyncClient:
        app = create_app(plane, plane.declared.applications)
        client = AsyncClient(transport=ASGITransport(app=app), base_url="http://127.0.0.1")
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()
