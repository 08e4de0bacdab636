"""A PostgreSQL that recovers: waited for, stopped meanwhile, started anew when it cannot."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.pq import PGconn, Ping

from polyplane.embedded import Engines, keeper
from polyplane.truth.database import Database
from tests.flow.test_embedded_faults import home, until

__all__ = ["home"]


async def test_a_server_that_recovers_is_waited_for_and_can_be_stopped(home: Path) -> None:
    """One backend of PostgreSQL killed makes all of it recover; it takes nobody meanwhile."""
    engines = Engines(home, wanted=["postgres"])
    await engines.start()
    pid = engines.health()["postgres"].pid
    url = engines.urls["postgres"]
    database = Database(url)
    await database.ping()
    kill_backend(pid)
    await until(lambda: PGconn.ping(url.encode()) == Ping.REJECT)
    await database.awake(30)
    await database.close()
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    kill_backend(pid)
    await connection.close()
    began = time.monotonic()
    await engines.stop()  # in the midst of it, where PostgreSQL 18 may hang
    assert time.monotonic() - began < 20
    await engines.start()
    assert engines.health()["postgres"].state == "up"
    await engines.stop()


async def test_a_server_whose_recovery_dies_is_started_anew(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its disk fails for a moment; PostgreSQL 18 then stays up and takes nobody."""
    monkeypatch.setattr(keeper, "WATCH_PERIOD_S", 0.5)
    engines = Engines(home, wanted=["postgres"])
    await engines.start()
    pid, url = engines.health()["postgres"].pid, engines.urls["postgres"]
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    some = "SELECT n, repeat('x', 200) FROM generate_series(1, 300000) n"  # to recover
    await connection.execute(f"CREATE TABLE rows AS {some}".encode())
    kill_backend(pid)
    await connection.close()
    abort_recovery(pid)
    await until(lambda: engines.health()["postgres"].restarts == 1, 60)
    assert "recover" in (engines.health()["postgres"].last_error or "")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute("SELECT count(*) FROM rows")
        assert await cursor.fetchone() == (300_000,)
    await engines.stop()


def abort_recovery(pid: int | None) -> None:
    """Abort the process that recovers, as soon as there is one; it lives for a second at most."""
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(pid).children():
                if "startup" in "".join(process.cmdline()):
                    process.send_signal(signal.SIGABRT)
                    return
    raise AssertionError("nothing recovered it")


def kill_backend(pid: int | None) -> None:
    """kill -9 of a process of PostgreSQL that serves a client, which there is."""
    served = [p for p in psutil.Process(pid).children() if "polyplane" in "".join(p.cmdline())]
    served[0].kill()
