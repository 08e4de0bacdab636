"""Migrations on a real PostgreSQL: up, down and up again, failures, and many runners at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

import polyplane.ops.migrate as migrate
from polyplane.errors import Conflict, Misconfigured, PolyplaneError
from polyplane.model.table import Model, key, metadata
from polyplane.ops.migrate import (
    CORE,
    Component,
    create_missing,
    migrate_down,
    migrate_up,
    migration_status,
)
from polyplane.truth.database import Database, alchemy_url
from polyplane.truth.migrations import versions

CATALOGUE = """
SELECT 'table', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = to_regnamespace('polyplane')
UNION ALL SELECT 'index', indexname, indexdef, '', true, '' FROM pg_indexes
WHERE schemaname = 'polyplane'
UNION ALL SELECT 'function', proname, prosrc, '', true, '' FROM pg_proc
WHERE pronamespace = to_regnamespace('polyplane')
ORDER BY 1, 2, 3
"""

CORE_REVISIONS = sorted(path.name[:4] for path in Path(versions.__file__).parent.glob("[0-9]*.py"))
REVISIONS = {
    "a1": "op.execute('CREATE SCHEMA shop; CREATE TABLE shop.one (id int PRIMARY KEY)')",
    "a2": "op.execute('CREATE TABLE shop.two (id uuid PRIMARY KEY DEFAULT polyplane.new_key())')",
    "a3": "op.execute('CREATE TABLE shop.three ()'); op.execute('SELECT 1 / 0')",
}


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(alchemy_url(url).set(drivername="postgresql").render_as_string(False))


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def table_names(url: str, schema: str) -> set[object]:
    query = f"SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('\"{schema}\"')"
    return {row[0] for row in rows(url, query + " AND relkind IN ('r', 'p')")}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Component]:
    """An application's history of two revisions; `add_bad` below appends a failing one."""
    package = tmp_path / "shop_revisions"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("a1", "a2"):
        write_revision(package, name)
    monkeypatch.syspath_prepend(tmp_path)
    yield Component("shop", "shop_revisions")
    sys.modules.pop("shop_revisions", None)


def write_revision(package: Path, name: str) -> None:
    number = int(name[1:])
    before = repr(f"a{number - 1}") if number > 1 else None
    undo = "DROP SCHEMA shop CASCADE" if number == 1 else "DROP TABLE shop.two"
    (package / f"{name}.py").write_text(
        dedent(f'''
            """The shop's revision {number}."""
            from alembic import op
            revision = {name!r}
            down_revision = {before}
            def upgrade(): {REVISIONS[name]}
            def downgrade(): op.execute({undo!r})
        ''')
    )


async def test_up_down_up_gives_the_same_schema(database_url: str) -> None:
    assert [s.current for s in await migration_status(database_url, [CORE])] == [None]
    assert rows(database_url, CATALOGUE) == []  # asking has made nothing

    applied = await migrate_up(database_url, [CORE])
    assert applied[0].revision == "0001" and applied[0].direction == "up"
    first = rows(database_url, CATALOGUE)
    assert len(first) > 40

    undone = await migrate_down(database_url, CORE, "base")
    assert [step.revision for step in undone] == [step.revision for step in reversed(applied)]
    assert rows(database_url, CATALOGUE) == []
    assert rows(database_url, "SELECT to_regnamespace('polyplane')") == [(None,)]

    await migrate_up(database_url, [CORE])
    assert rows(database_url, CATALOGUE) == first


async def test_one_of_many_runners_does_each_revision(database_url: str, shop: Component) -> None:
    runs = await asyncio.gather(*(migrate_up(database_url, [CORE, shop]) for _ in range(6)))
    done = [step.revision for run in runs for step in run]
    assert sorted(done) == [*CORE_REVISIONS, "a1", "a2"]

    downs = await asyncio.gather(*(migrate_down(database_url, shop, "base") for _ in range(6)))
    assert sorted(s.revision for run in downs for s in run) == ["a1", "a2"]
    assert table_names(database_url, "shop") == set()


async def test_a_failing_revision_leaves_nothing_behind(
    database_url: str, shop: Component, tmp_path: Path
) -> None:
    write_revision(tmp_path / "shop_revisions", "a3")
    with pytest.raises(PolyplaneError, match=r"The migration shop a3 failed: .*division by zero"):
        await migrate_up(database_url, [CORE, shop])
    assert table_names(database_url, "shop") == {"one", "two"}

    core, after = await migration_status(database_url, [CORE, shop])
    assert (core.current, core.pending) == (CORE_REVISIONS[-1], ())
    assert (after.current, after.head, after.pending) == ("a2", "a3", ("a3",))


async def test_down_takes_one_revision_and_core_goes_last(
    database_url: str, shop: Component
) -> None:
    await migrate_up(database_url, [CORE, shop])
    with pytest.raises(Conflict, match="application shop stands on it"):
        await migrate_down(database_url, CORE, "base")

    assert [step.revision for step in await migrate_down(database_url, shop)] == ["a2"]
    assert [step.revision for step in await migrate_down(database_url, shop, "a1")] == []
    assert table_names(database_url, "shop") == {"one"}
    with pytest.raises(Misconfigured, match="no_such"):
        await migrate_down(database_url, shop, "no_such")


async def test_a_database_newer_than_the_code_is_refused(
    database_url: str, shop: Component, tmp_path: Path
) -> None:
    await migrate_up(database_url, [CORE, shop])
    (tmp_path / "shop_revisions" / "a2.py").unlink()
    with pytest.raises(Misconfigured, match="a2"):
        await migrate_up(database_url, [CORE, shop])
    with pytest.raises(Misconfigured, match="a2"):
        await migration_status(database_url, [shop])


async def test_core_stays_while_a_column_default_needs_it(database_url: str) -> None:
    await migrate_up(database_url, [CORE])
    with connect(database_url) as connection:
        connection.execute("CREATE TABLE kettle (id uuid DEFAULT polyplane.new_key())")
    with pytest.raises(Conflict, match="kettle"):
        await migrate_down(database_url, CORE, "base")
    assert "outbox" in table_names(database_url, "polyplane")


async def test_a_runner_does_not_wait_for_ever(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "WAIT_S", 1)
    with connect(database_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('polyplane.migrate', 0))")
        with pytest.raises(PolyplaneError, match="waited 1 s for a lock"):
            await migrate_up(database_url, [CORE])


async def test_missing_tables_are_made_once(database_url: str) -> None:
    class Base(Model):
        __abstract__ = True
        metadata = metadata(schema="Tea house")

    class Kettle(Base):
        __tablename__ = "kettle"
        id: Mapped[object] = key()
        litres: Mapped[float]

    class Spoon(Base):
        __tablename__ = "spoon"
        id: Mapped[object] = key()
        kettle: Mapped[object] = mapped_column(sa.ForeignKey(Kettle.id))

    await migrate_up(database_url, [CORE])
    database = Database(database_url)
    try:
        made = await asyncio.gather(*(create_missing(database, [Spoon, Kettle]) for _ in range(4)))
        assert sorted(name for names in made for name in names) == [
            "Tea house.kettle",
            "Tea house.spoon",
        ]
    finally:
        await database.close()
    assert table_names(database_url, "Tea house") == {"kettle", "spoon"}
