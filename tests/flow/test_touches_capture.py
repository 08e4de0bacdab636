"""What touches install and write, and how related rows are read."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from polyplane.model.touches import touches_of
from polyplane.ops import adopt
from polyplane.truth.capture import Captured, install, remove
from polyplane.truth.database import Database
from polyplane.truth.scan import all_rows, rows_by_key, source_of
from polyplane.truth.touching import touching_of, unindexed
from tests.conftest import PlaneOf
from tests.flow.notes import NOTES, POST, Letter, Note, NoteCache, Rooms
from tests.flow.things import Proxy, by_hand, connect, evil

TRIGGERS = """
SELECT c.relname, count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgname LIKE 'polyplane%' AND t.tgenabled = 'A' GROUP BY 1 ORDER BY 1
"""


async def test_what_is_installed(plane_of: PlaneOf) -> None:
    """Nothing on tables that nobody touches; nothing twice; all of it is taken off again."""
    plane = await plane_of(**POST, flows=False)
    assert await by_hand(plane, TRIGGERS) == [("letter", 16), ("person", 4), ("room", 4)]
    declared = [it for p in plane.declared.projections for it in touching_of(p)]
    assert len({it.name for it in declared}) == 3
    async with plane.opened.database.connection() as connection:
        assert await install(connection, declared) == []
        assert await unindexed(connection, declared) == [
            "public.letter(receiver) of public.person",
            "public.letter(room_id) of public.room",
        ]
        await connection.execute("ALTER TABLE letter DISABLE TRIGGER USER")
        own = Captured(source_of(Letter).captured.table)
        assert len(await install(connection, [*declared, own])) == 4
        for _ in range(2):
            await remove(connection, declared[0])
        assert await by_hand(plane, TRIGGERS) == [("letter", 12), ("person", 4), ("room", 4)]
        assert await install(connection, [*declared, own]) == [declared[0].name]


async def test_a_column_that_is_gone_holds_nothing_up(plane_of: PlaneOf) -> None:
    """Its triggers let no write succeed; they go when a plane is opened."""
    plane = await plane_of(**POST, flows=False)
    await by_hand(plane, "ALTER TABLE letter RENAME sender TO author")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        await by_hand(plane, "INSERT INTO letter VALUES ('t', 'a', 'b')")
    await plane.close()
    fewer = [projection for projection in POST["projections"] if projection is Rooms]
    plane = await plane_of(models=POST["models"], projections=fewer, flows=False)
    await by_hand(plane, "INSERT INTO letter VALUES ('t', 'a', 'b')")
    found = await by_hand(plane, "SELECT tbl, op::text, keys FROM polyplane.outbox ORDER BY tbl")
    assert found == [("public.letter", "I", ["t"]), ("public.person", "R", ["b"])]


async def test_adopt_remove_takes_them_off(plane_of: PlaneOf) -> None:
    plane = await plane_of(**POST, flows=False)
    await by_hand(plane, "ALTER TABLE room ALTER id DROP DEFAULT")  # it stands on our schema
    await plane.close()
    url = plane.settings.url("database_url")
    assert url is not None
    database = Database(url)
    names = await adopt.remove(database, url, lambda said: None)
    await database.close()
    assert names == ["public.letter", "public.person", "public.room"]
    assert await by_hand(plane, TRIGGERS) == []
    await by_hand(plane, "INSERT INTO letter VALUES ('t', 'a', 'b')")
    await by_hand(plane, "TRUNCATE letter")


async def test_what_one_statement_tells(plane_of: PlaneOf) -> None:
    """Each key once, a thousand at most in a row; nothing where nothing belongs to anything."""
    plane = await plane_of(**NOTES, flows=False)
    await by_hand(plane, "INSERT INTO note SELECT n, 'n' FROM generate_series(1, 2500) n")
    await by_hand(plane, "TRUNCATE polyplane.outbox")
    sizes_of = "array_agg(cardinality(keys) ORDER BY cardinality(keys) DESC)"
    told = f"SELECT {sizes_of} FROM polyplane.outbox"
    for statement, sizes in (
        ("INSERT INTO comment SELECT n, 1, 'c' FROM generate_series(1, 3000) n", [1]),
        ("UPDATE comment SET note_id = 1 + id % 2 WHERE id <= 10", [2]),
        ("UPDATE comment SET note_id = NULL", [2]),
        ("UPDATE comment SET body = 'x'", None),
        ("DELETE FROM comment WHERE id > 2500", None),
        ("UPDATE comment SET note_id = id WHERE id <= 999", [999]),
        ("UPDATE comment SET note_id = id WHERE id <= 2500", [1000, 1000, 1000, 500]),
        ("DELETE FROM comment WHERE id = 0", None),
        ("DELETE FROM comment", [1000, 1000, 1000, 500]),
        ("INSERT INTO comment SELECT n, n, 'c' FROM generate_series(1, 2000) n", [1000] * 3),
        ("TRUNCATE comment", [1000, 1000]),
        ("TRUNCATE comment", None),
    ):
        await by_hand(plane, statement)
        [(found,)] = await by_hand(plane, f"{told} WHERE tbl = 'public.note' AND op = 'R'")
        assert found == sizes, statement
        await by_hand(plane, "TRUNCATE polyplane.outbox")


async def test_a_writer_s_session_changes_nothing(plane_of: PlaneOf) -> None:
    """Neither its search_path nor its synchronous_commit."""
    plane = await plane_of(**NOTES, flows=False)
    await by_hand(plane, "INSERT INTO note SELECT n, 'n' FROM generate_series(1, 2500) n")
    async with await connect(plane) as connection:
        await evil(connection)
        await connection.execute("SET synchronous_commit = off")
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO public.comment SELECT g, g, 'c'"
                " FROM pg_catalog.generate_series(1, 2500) g"
            )
            cursor = await connection.execute("SHOW synchronous_commit")
            assert await cursor.fetchone() == ("on",)
        for statement in (
            "UPDATE public.comment SET body = 'd'",
            "DELETE FROM public.comment WHERE id OPERATOR(pg_catalog.>) 1",
            "TRUNCATE public.comment",
        ):
            await connection.execute(statement.encode())
        cursor = await connection.execute(
            "SELECT pg_catalog.count(DISTINCT k) FROM polyplane.outbox, pg_catalog.unnest(keys) k"
            " WHERE op OPERATOR(pg_catalog.=) 'R'"
        )
        assert await cursor.fetchone() == (2_500,)


async def test_one_more_query_for_each_touch(plane_of: PlaneOf) -> None:
    """However many rows there are; and none at all when there are none."""
    plane = await plane_of(**NOTES, flows=False)
    calls: list[str] = []
    await by_hand(plane, "INSERT INTO note SELECT n, 'n' FROM generate_series(1, 50) n")
    await by_hand(plane, "INSERT INTO comment VALUES (11, 1, 'b'), (9, 1, 'a')")
    async with plane.opened.database.connection() as connection:

        async def execute(query: Any, *values: Any, **named: Any) -> Any:
            calls.append(str(query))
            return await connection.execute(query, *values, **named)

        counting: Any = Proxy(connection, execute=execute)
        for keys, count in (([str(n) for n in range(1, 51)], 2 + 2), (["1"], 2 + 2), (["0"], 2)):
            calls.clear()
            source = source_of(Note, touches_of(NoteCache))
            rows = await rows_by_key(counting, source, keys)
            assert len(rows) == len(keys) - keys.count("0") and len(calls) == count, calls
        calls.clear()
        await rows_by_key(counting, source_of(Note), ["1"])
        assert len(calls) == 1
        strange = await rows_by_key(counting, source, ["1", "no key"])
        assert [it.body for it in strange["1"].related["comments"]] == ["a", "b"]


async def test_all_tables_are_read_as_of_one_moment(plane_of: PlaneOf) -> None:
    """By key and batch by batch: what others commit meanwhile is in none of them, or in all."""
    plane = await plane_of(**NOTES, flows=False)
    await by_hand(plane, "INSERT INTO note VALUES (1, 'old'), (2, 'old')")
    await by_hand(plane, "INSERT INTO comment VALUES (1, 1, 'old'), (2, 2, 'old')")
    source = source_of(Note, touches_of(NoteCache))
    database = plane.opened.database
    async with database.connection() as connection:

        async def execute(query: Any, *values: Any, **named: Any) -> Any:
            found = await connection.execute(query, *values, **named)
            if values:  # no setting, but a query: of the parent, at first
                await by_hand(plane, "UPDATE note SET body = 'new'")
                await by_hand(plane, "UPDATE comment SET body = 'new'")
            return found

        meanwhile: Any = Proxy(connection, execute=execute)
        rows = await rows_by_key(meanwhile, source, ["1", "2"])
        assert {it.row.body for it in rows.values()} == {"old"}
        assert {it.related["comments"][0].body for it in rows.values()} == {"old"}
    seen = []
    async for batch in all_rows(database, source, batch_size=1, ordered=True):
        seen += [(it.row.body, it.related["comments"][0].body) for _, it in batch]
        await by_hand(plane, "UPDATE note SET body = 'newer'")
        await by_hand(plane, "UPDATE comment SET body = 'newer'")
    assert seen == [("new", "new")] * 2
