"""A PgBouncer in transaction mode before the PostgreSQL of the tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

import polyplane as pp
from polyplane.embedded import Engines
from polyplane.embedded.ports import choose

SERVER_CONNECTIONS = 4
"""Of each login: few, so that clients share them all the time."""


def program() -> str:
    """Where PgBouncer is; the test is skipped without it."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        pytest.skip("NOT TESTED: there is no pgbouncer here (Debian's package pgbouncer)")
    return found


@asynccontextmanager
async def bouncer(engines: Engines, place: Path, *, options: bool = True) -> AsyncIterator[int]:
    """One that runs; its port. With `options` it ignores what sessions are started with."""
    where, port = make_url(engines.urls["postgres"]), choose(["it"], {}, [])["it"]
    logins = [url for url in engines.logins.values() if url.startswith("postgresql:")]
    users = [make_url(url) for url in (engines.urls["postgres"], *logins)]
    (place / "users").write_text("".join(f'"{it.username}" "{it.password}"\n' for it in users))
    (place / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={where.port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {place / 'users'}\npool_mode = transaction\n"
        f"default_pool_size = {SERVER_CONNECTIONS}\nmax_client_conn = 200\n"
        + ("ignore_startup_parameters = options\n" if options else "")
    )
    account = "nobody" if os.geteuid() == 0 else None  # it does not run as root
    with (place / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 (it begins at once)
            [program(), place / "pgbouncer.ini"], stdout=log, stderr=log, user=account
        )
    try:
        await _serves(port)
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def _serves(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


def through(settings: pp.Settings, port: int) -> pp.Settings:
    """`settings` with every login by way of the PgBouncer."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    for name in given:
        if name.startswith("database_"):
            url = make_url(settings.url(name) or "")
            given[name] = url.set(port=port).render_as_string(hide_password=False)
    return pp.Settings.load(environ={}, **given)


async def pooled(url: str) -> int:
    """How many server processes answer ten clients at once."""

    async def ask() -> int:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            cursor = await connection.execute("SELECT pg_backend_pid(), pg_sleep(0.05)")
            row = await cursor.fetchone()
            assert row is not None
            return int(row[0])

    return len({*await asyncio.gather(*(ask() for _ in range(10)))})
