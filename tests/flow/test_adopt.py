"""Adopting a database with every kind of key and name, following it, and taking it all back."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psycopg
import pytest
from mypy import api

import polyplane as pp
from polyplane.embedded import Engines
from polyplane.errors import NotFound
from polyplane.feed.jetstream import connect
from polyplane.serve.adoption import AdoptReport, module_name, run_adopt, run_remove
from tests.conftest import settings_in

HERE = Path(__file__).parent

TABLES = {
    "Sales Dept.Order \"Lines\"", "Sales Dept.article", "public.None", "public.article",
    "public.bytes", "public.codes", "public.days", "public.decimals", "public.empty_one",
    "public.floats", "public.link", "public.moods", "public.padded", "public.part", "public.slugs",
    "public.timed", "public.uuids", "public.表",
}  # fmt: skip

SKIPPED = {
    "public.no_key": "no primary key",
    "public.parent": "inherit",
    "public.child": "no primary key",
    "public.networks": "key column net",
    "public.looked_at": "a view",
    "public.kept": "materialized view",
    "public.part_1": "a partition",
}

RELATIONS = """
SELECT format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relacl::text,
  (SELECT array_agg(tgname ORDER BY 1)::text FROM pg_trigger t WHERE t.tgrelid = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^(pg_|information_schema)' ORDER BY 1
"""


def url_of(settings: pp.Settings) -> str:
    url = settings.url("database_url")
    assert url is not None
    return url


def run_sql(settings: pp.Settings, file: str) -> None:
    with psycopg.connect(url_of(settings), autocommit=True) as connection:
        for statement in (HERE / file).read_text(encoding="utf-8").split(";\n"):
            connection.execute(statement.encode())


def everything(settings: pp.Settings) -> dict[str, tuple[str, str, str]]:
    """Relation -> its kind and rights, its rows, its triggers."""
    found = {}
    with psycopg.connect(url_of(settings)) as connection:
        for name, kind, rights, triggers in connection.execute(RELATIONS).fetchall():
            rows = []
            if kind in "rp":
                query = f"SELECT t::text FROM {name} t ORDER BY 1"
                rows = connection.execute(query.encode()).fetchall()
            found[name] = (f"{kind} {rights}", str(rows), triggers or "")
    return found


def has_plane(settings: pp.Settings) -> bool:
    """Whether anything of ours is in the database."""
    return any("polyplane" in f"{name} {held[2]}" for name, held in everything(settings).items())


@pytest.fixture
async def own_settings(engines: Engines, tmp_path: Path, chdb_url: str) -> pp.Settings:
    """Here the database must hold nothing of ours."""
    return await settings_in(tmp_path, engines, chdb_url, is_empty=True)


@pytest.fixture
def database(own_settings: pp.Settings) -> pp.Settings:
    """Settings whose database holds the tables of adopted.sql."""
    run_sql(own_settings, "adopted.sql")
    return own_settings


async def adopted(settings: pp.Settings, out: Path, *tables: str) -> AdoptReport:
    return await run_adopt(settings, tables, out=out, force=False, tell=print)


async def test_every_table_is_adopted_followed_and_taken_back(
    database: pp.Settings, tmp_path: Path
) -> None:
    before = everything(database)
    out = tmp_path / f"{tmp_path.name}.py"
    report = await adopted(database, out)
    assert {it.table for it in report.tables} == TABLES
    assert report.is_clean and sum(it.rows for it in report.tables) > 150
    assert set(report.skipped) == set(SKIPPED)
    assert [n for n, why in SKIPPED.items() if why not in report.skipped[n]] == []

    module = sys.modules[module_name(out)]
    plane = pp.Plane(models=module.MODELS, projections=module.PROJECTIONS, settings=database)
    async with plane:
        await asyncio.to_thread(run_sql, database, "adopted_changes.sql")
        await plane.caught_up()
        drift = await plane.verify()
        assert drift.clean, drift.parts
        hits = await plane[module.ArticleSearch].search("changed", tags={"status": "done"})
        assert hits and hits[0].text.startswith("changed")
        assert "hunter" not in hits[0].text
        (label,) = await plane[module.MoodsSearch].get(["angry"])
        assert label.text == "a label added later"
        with pytest.raises(pp.Conflict, match="A plane runs on this database"):
            await run_remove(database, print)

    changed = everything(database)
    taken = await run_remove(database, print)
    assert {*taken.tables} == TABLES | {"public.part_1"}
    assert len(taken.collections) == len(TABLES)
    after = everything(database)
    assert {name: held[::2] for name, held in after.items()} == {
        name: held[::2] for name, held in before.items()
    }
    assert {name: held[1] for name, held in after.items()} == {
        name: held[1] for name, held in changed.items() if name in before
    }
    assert not has_plane(database)
    url = database.url("nats_url")
    assert url is not None
    feed = await connect(url, database.namespace)
    with pytest.raises(pp.Unavailable):
        await feed.bounds(feed.subjects.changes)
    await feed.close()

    again = await adopted(database, tmp_path / "again_plane.py", "slugs")
    assert again.is_clean and [it.rows for it in again.tables] == [19]


@pytest.mark.filterwarnings("ignore:This declarative base already contains a class")
async def test_adopting_again_changes_nothing(database: pp.Settings, tmp_path: Path) -> None:
    out = tmp_path / f"{tmp_path.name}.py"
    await adopted(database, out, "slugs", 'Order "Lines"')
    first, text = everything(database), out.read_text()
    await adopted(database, out, "slugs", 'Order "Lines"')
    assert out.read_text() == text
    for name, held in everything(database).items():
        assert name.startswith("polyplane.") or held == first[name]


async def test_the_module_is_the_users(database: pp.Settings, tmp_path: Path) -> None:
    out = tmp_path / "mine.py"
    out.write_text("# mine\n")
    with pytest.raises(pp.Conflict, match=r"mine\.py exists"):
        await adopted(database, out, "slugs")
    assert out.read_text() == "# mine\n"
    assert not has_plane(database)


async def test_the_module_has_no_type_error(database: pp.Settings, tmp_path: Path) -> None:
    out = tmp_path / f"{tmp_path.name}.py"
    await adopted(database, out)
    told, trouble, status = api.run(["--strict", "--no-error-summary", str(out)])
    assert status == 0, told + trouble


@pytest.mark.parametrize("name", ["no_key", "looked_at", "part_1", "public.networks", "parent"])
async def test_what_cannot_be_captured_is_refused_by_name(
    database: pp.Settings, tmp_path: Path, name: str
) -> None:
    with pytest.raises(pp.Refused, match="cannot be adopted") as refused:
        await adopted(database, tmp_path / "x.py", name)
    assert refused.value.field == "tables"
    assert not has_plane(database)
    assert not (tmp_path / "x.py").exists()


async def test_a_name_must_mean_one_table(database: pp.Settings, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no table teapot"):
        await adopted(database, tmp_path / "x.py", "teapot")
    with pytest.raises(pp.Refused, match="Several tables are called article"):
        await adopted(database, tmp_path / "x.py", "article")


async def test_removing_nothing_is_nothing(database: pp.Settings) -> None:
    before = everything(database)
    taken = await run_remove(database, print)
    assert taken.tables == [] and everything(database) == before


async def test_what_stands_on_the_schema_keeps_it(database: pp.Settings, tmp_path: Path) -> None:
    await adopted(database, tmp_path / "x.py", "slugs")
    with psycopg.connect(url_of(database)) as connection:
        connection.execute("ALTER TABLE uuids ALTER u SET DEFAULT polyplane.new_key()")
    before = everything(database)
    with pytest.raises(pp.Conflict, match="uuids"):
        await run_remove(database, print)
    assert everything(database) == before
