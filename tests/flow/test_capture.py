"""Capture and keys: whatever is done to a table, by whomever, ends in the store."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import make_url
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane.embedded import Engines
from tests.conftest import PlaneOf
from tests.flow.things import ODD, by_hand, connect, evil


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


def search_of(model: type[Base]) -> type[pp.Vectors[Any]]:
    """A projection that puts the row's body, and drops a row without one."""

    class Search(pp.Vectors[Any]):
        name = f"{model.__name__.lower()}_search"
        dimensions = 2

        def derive(self, row: Any, /) -> pp.Vector | None:
            return pp.Vector(row.body, {}, np.ones(2, "f4")) if row.body else None

    Search.model = model
    return Search


class Word(Base):
    """A text key."""

    __tablename__ = "word"
    word: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[str]


class Country(Base):
    """A padded key."""

    __tablename__ = "country"
    code: Mapped[str] = mapped_column(sa.CHAR(3), primary_key=True)
    body: Mapped[str]


class Moment(Base):
    """A key whose text depends on who asks."""

    __tablename__ = "moment"
    at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True), primary_key=True)
    body: Mapped[str]


class Day(Base):
    """Another."""

    __tablename__ = "day"
    day: Mapped[date] = mapped_column(primary_key=True)
    body: Mapped[str]


class Share(Base):
    """And two more."""

    __tablename__ = "share"
    part: Mapped[float] = mapped_column(sa.Float(53), primary_key=True)
    hash: Mapped[bytes] = mapped_column(primary_key=True)
    body: Mapped[str]


class Price(Base):
    """A key with more than one spelling."""

    __tablename__ = "price"
    amount: Mapped[Decimal] = mapped_column(sa.Numeric(10, 2), primary_key=True)
    body: Mapped[str]


class Reading(Base):
    """A composite key: `Reading` of a sensor at a time, by an odd name."""

    __tablename__ = "Odd name"
    sensor: Mapped[str] = mapped_column('the "sensor"', primary_key=True)
    at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True), primary_key=True)
    code: Mapped[str] = mapped_column(sa.CHAR(2), primary_key=True)
    body: Mapped[str]


class Part(Base):
    """A partitioned table; its partitions are made by hand."""

    __tablename__ = "part"
    __table_args__ = {"postgresql_partition_by": "RANGE (id)"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]


class Child(Base):
    """Rows that go when their parent goes."""

    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    word: Mapped[str] = mapped_column(sa.ForeignKey(Word.word, ondelete="CASCADE"))
    body: Mapped[str]


def declared(*models: type[Base]) -> dict[str, Any]:
    """Models, each with its projection."""
    return {"models": models, "projections": [search_of(model) for model in models]}


async def check(plane: pp.Plane, *items: int) -> None:
    """No drift, and so many items in each projection."""
    drift = await plane.verify()
    assert drift.clean, drift.parts
    assert [part.items for part in drift.parts] == list(items)


async def test_keys_of_any_text(plane_of: PlaneOf) -> None:
    """Odd characters, in a single key and in a composite one."""
    plane = await plane_of(**declared(Word, Reading))
    for word in ODD:
        await by_hand(plane, "INSERT INTO word VALUES (%s, 'w')", word)
        await by_hand(
            plane, """INSERT INTO "Odd name" VALUES (%s, '2026-01-01Z', 'ab', 'r')""", word
        )
    await check(plane, len(ODD), len(ODD))
    searching: Any = plane[plane.declared.projections[0]]
    assert [hit.key for hit in await searching.get(ODD)] == ODD
    for word in ODD[::2]:
        await by_hand(plane, "DELETE FROM word WHERE word = %s", word)
        await by_hand(plane, 'DELETE FROM "Odd name" WHERE "the ""sensor""" = %s', word)
    await check(plane, len(ODD) // 2, len(ODD) // 2)


async def test_a_key_is_the_same_whoever_writes(plane_of: PlaneOf) -> None:
    """How a session shows times, dates, floats and bytes must not change what a key is called."""
    plane = await plane_of(**declared(Moment, Day, Share, Reading, Country, Price))
    settings = [
        "SET timezone = 'Asia/Kolkata'; SET datestyle = 'German'; SET bytea_output = 'escape';"
        " SET extra_float_digits = -10",
        "SET timezone = 'America/New_York'; SET datestyle = 'SQL, DMY'",
    ]
    async with await connect(plane) as one, await connect(plane) as other:
        await one.execute(settings[0])
        await other.execute(settings[1])
        for table, values in {
            "moment": "'2026-01-01 12:00Z'",
            "day": "date '2026-02-01'",
            "share": r"0.1::float8 + 0.2, '\x00ff41'",
            '"Odd name"': "'s', '2026-01-01 12:00Z', 'a'",
            "country": "'NL'",
            "price": "1.5",
        }.items():
            await one.execute(f"INSERT INTO {table} VALUES ({values}, 'x')".encode())
        await check(plane, 1, 1, 1, 1, 1, 1)
        for table in ("moment", "day", "share", '"Odd name"', "country", "price"):
            await other.execute(f"UPDATE {table} SET body = 'y'".encode())
        await check(plane, 1, 1, 1, 1, 1, 1)
        for table in ("moment", "day", "share", '"Odd name"', "country", "price"):
            await other.execute(f"DELETE FROM {table}".encode())
    await check(plane, 0, 0, 0, 0, 0, 0)
    tombstones = {part.tombstones for part in (await plane.verify()).parts}
    assert tombstones == {1}  # else a key was called by two names


async def test_every_way_to_write(plane_of: PlaneOf) -> None:
    """COPY, upsert, MERGE, CTE, savepoints, keys that change places, cascades, TRUNCATE."""
    plane = await plane_of(**declared(Word, Child))
    async with await connect(plane) as connection:
        async with connection.cursor().copy("COPY word FROM STDIN") as copy:
            await copy.write("a\tone\nb\ttwo\nc\tthree\n")
        await connection.execute(
            "INSERT INTO word VALUES ('a', 'upserted'), ('d', 'new')"
            " ON CONFLICT (word) DO UPDATE SET body = excluded.body"
        )
        await connection.execute(
            "MERGE INTO word w USING (VALUES ('b'), ('e')) AS s (k) ON w.word = s.k"
            " WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.k, 'merged')"
        )
        await connection.execute(
            "WITH gone AS (DELETE FROM word WHERE word = 'c' RETURNING *)"
            " INSERT INTO word SELECT word || '2', body FROM gone"
        )
        await check(plane, 4, 0)
        await connection.execute(
            "UPDATE word SET word = CASE word WHEN 'a' THEN 'A' WHEN 'd' THEN 'D' ELSE word END"
        )
        async with connection.transaction():
            await connection.execute("INSERT INTO word VALUES ('kept', 'x')")
            with pytest.raises(psycopg.errors.UniqueViolation):
                async with connection.transaction():
                    await connection.execute("INSERT INTO word VALUES ('undone', 'x')")
                    await connection.execute("INSERT INTO word VALUES ('kept', 'x')")
            await connection.execute("UPDATE word SET body = '' WHERE word = 'kept'")
        await check(plane, 4, 0)
        await connection.execute(
            "INSERT INTO child SELECT n, w.word, 'c' FROM word w, generate_series(1, 1) n"
            " WHERE w.word = 'A'"
        )
        await check(plane, 4, 1)
        await connection.execute("UPDATE word SET body = 'x' WHERE word = 'kept'")
        await connection.execute("DELETE FROM word WHERE word = 'A'")
        await check(plane, 4, 0)
        await connection.execute("TRUNCATE word CASCADE")
    await check(plane, 0, 0)


async def test_partitions_and_rows_written_past_their_parent(
    plane_of: PlaneOf,
) -> None:
    """Through the parent, straight into a partition, moved between two, truncated alone."""
    first = await plane_of(**declared(Part), flows=False)
    for n in range(3):
        await by_hand(
            first,
            f"CREATE TABLE part_{n} PARTITION OF part FOR VALUES FROM ({n}00) TO ({n + 1}00)",
        )
    await first.close()
    plane = await plane_of(**declared(Part))
    await by_hand(plane, "INSERT INTO part SELECT n, 'p' FROM generate_series(0, 299, 10) n")
    await by_hand(plane, "INSERT INTO part_1 VALUES (101, 'straight'), (102, 'straight')")
    await check(plane, 32)
    await by_hand(plane, "UPDATE part SET id = 201 WHERE id = 101")
    await by_hand(plane, "UPDATE part_1 SET body = '' WHERE id = 102")
    await by_hand(plane, "DELETE FROM part_0 WHERE id = 0")
    await check(plane, 30)
    await by_hand(plane, "TRUNCATE part_0")
    await check(plane, 21)
    await by_hand(plane, "TRUNCATE part")
    await check(plane, 0)


async def test_a_replica_session_and_switched_off_triggers_are_covered(
    plane_of: PlaneOf, engines: Engines
) -> None:
    """As restores write; and what was disarmed is armed again at the next start."""
    plane = await plane_of(**declared(Word))
    secrets = json.loads((engines._home.path / "secrets.json").read_text())
    url = make_url(plane.settings.url("database_url") or "")
    admin = url.set(username="postgres", password=secrets["postgres"]["admin"])
    async with await psycopg.AsyncConnection.connect(
        admin.render_as_string(hide_password=False), autocommit=True
    ) as connection:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute("INSERT INTO public.word VALUES ('a', 'x'), ('b', 'x')")
        await connection.execute("DELETE FROM public.word WHERE word = 'b'")
    await check(plane, 1)
    for disarm in ("DISABLE TRIGGER polyplane_delete", "ENABLE TRIGGER polyplane_truncate"):
        await plane.close()
        await by_hand(plane, f"ALTER TABLE public.word {disarm}")
        plane = await plane_of(**declared(Word))
        [(armed,)] = await by_hand(
            plane,
            "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'polyplane%%' AND tgenabled = 'A'"
            " AND tgrelid = 'public.word'::regclass",
        )
        assert armed == 4
    await by_hand(plane, "DELETE FROM public.word")
    await check(plane, 0)


async def test_a_captured_write_is_durable_before_it_is_seen(plane_of: PlaneOf) -> None:
    """Else a crash takes back what stores have been told, and its number names another write."""
    plane = await plane_of(**declared(Word), flows=False)
    async with await connect(plane) as connection:
        await connection.execute("SET synchronous_commit = off")
        async with connection.transaction():
            await connection.execute("INSERT INTO word VALUES ('a', 'x')")
            cursor = await connection.execute("SHOW synchronous_commit")
            assert await cursor.fetchone() == ("on",)
        cursor = await connection.execute("SHOW synchronous_commit")
        assert await cursor.fetchone() == ("off",)
        await connection.execute("SET synchronous_commit = local")
        async with connection.transaction():
            await connection.execute("DELETE FROM word")
            cursor = await connection.execute("SHOW synchronous_commit")
            assert await cursor.fetchone() == ("local",)


async def test_a_writer_s_search_path_replaces_nothing(plane_of: PlaneOf) -> None:
    """Triggers run with the rights of the plane's role: nothing of the writer's may run there."""
    plane = await plane_of(**declared(Word, Moment), flows=False)
    async with await connect(plane) as connection:
        await evil(connection)
        with pytest.raises(psycopg.errors.RaiseException, match="stolen"):
            await connection.execute("SELECT 1 = 1")
        for table, key in (
            ("word", "g::pg_catalog.text"),
            ("moment", "pg_catalog.to_timestamp(g)"),
        ):
            rows = f"SELECT {key}, 'x' FROM pg_catalog.generate_series(1, 2500) g"
            await connection.execute(f"INSERT INTO public.{table} {rows}".encode())
            await connection.execute(f"UPDATE public.{table} SET body = 'y'".encode())
            await connection.execute(f"DELETE FROM public.{table}".encode())
            await connection.execute(f"TRUNCATE public.{table}".encode())
        cursor = await connection.execute(
            "SELECT tbl, op::pg_catalog.text, pg_catalog.array_agg(DISTINCT k)"
            " FROM polyplane.outbox, pg_catalog.unnest(keys) k GROUP BY 1, 2"
        )
        told = {(table, op): len(keys) for table, op, keys in await cursor.fetchall()}
    assert told == {(f"public.{t}", op): 2_500 for t in ("word", "moment") for op in "IUD"}
