"""One projection, several tables: whatever is written to one of them ends in the item it is in."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

import polyplane as pp
from tests.conftest import PlaneOf
from tests.flow.notes import (
    NOTES,
    POST,
    TRUTH,
    Comment,
    Note,
    NoteCache,
    NoteSearch,
    check,
    post,
    value,
)
from tests.flow.things import ODD, becomes, by_hand, connect

WRITERS = 4
WRITES = 200
NOTES_MAX = 40


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """Two notes: two comments on the first, one on none."""
    plane = await plane_of(**NOTES)
    await by_hand(plane, "INSERT INTO note VALUES (1, 'one'), (2, 'two')")
    await by_hand(plane, "INSERT INTO comment VALUES (11, 1, 'b'), (9, 1, 'a'), (5, NULL, 'none')")
    return plane


async def test_every_way_to_write(plane: pp.Plane) -> None:
    """Insert, update, move, let go, COPY, MERGE, CTE, upsert, savepoints, delete, TRUNCATE."""
    await check(plane, {1: ["a", "b"], 2: []})
    await by_hand(plane, "UPDATE comment SET body = 'B' WHERE id = 11")
    await check(plane, {1: ["a", "B"], 2: []})
    await by_hand(plane, "UPDATE comment SET note_id = 2 WHERE id = 11")
    await check(plane, {1: ["a"], 2: ["B"]})
    await by_hand(plane, "UPDATE comment SET note_id = 1 WHERE id = 5")
    await check(plane, {1: ["none", "a"], 2: ["B"]})
    await by_hand(plane, "UPDATE comment SET note_id = NULL WHERE id = 9")
    await check(plane, {1: ["none"], 2: ["B"]})
    await by_hand(plane, "UPDATE comment SET id = 99 WHERE id = 5")
    async with await connect(plane) as connection:
        async with connection.cursor().copy("COPY comment FROM STDIN") as copy:
            await copy.write("20\t1\tcopied\n21\t2\tcopied\n22\t\\N\tcopied\n")
        await check(plane, {1: ["copied", "none"], 2: ["B", "copied"]})
        await connection.execute(
            "MERGE INTO comment c USING (VALUES (20), (30)) AS s (id) ON c.id = s.id"
            " WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.id, 1, 'merged')"
        )
        await connection.execute(
            "WITH gone AS (DELETE FROM comment WHERE id = 21 RETURNING *)"
            " INSERT INTO comment SELECT 31, 1, 'again' FROM gone"
        )
        await connection.execute(
            "INSERT INTO comment VALUES (30, 2, 'x') ON CONFLICT (id) DO UPDATE SET body = 'upsert'"
        )
        await check(plane, {1: ["upsert", "again", "none"], 2: ["B"]})
        async with connection.transaction():
            await connection.execute("DELETE FROM comment WHERE id = 30")
            with pytest.raises(psycopg.errors.UniqueViolation):
                async with connection.transaction():
                    await connection.execute("INSERT INTO comment VALUES (40, 2, 'undone')")
                    await connection.execute("INSERT INTO comment VALUES (31, 2, 'twice')")
        async with connection.transaction(force_rollback=True):
            await connection.execute("DELETE FROM comment")
    await check(plane, {1: ["again", "none"], 2: ["B"]})
    await by_hand(plane, "DELETE FROM comment WHERE id = 31")
    await check(plane, {1: ["none"], 2: ["B"]})
    await by_hand(plane, "TRUNCATE comment")
    await check(plane, {1: [], 2: []})


async def test_rows_go_with_the_row_they_belong_to(plane: pp.Plane) -> None:
    """By cascade, by TRUNCATE ... CASCADE, and when all is written in one transaction."""
    await by_hand(plane, "DELETE FROM note WHERE id = 1")
    await check(plane, {2: []})
    assert await plane[NoteSearch].get([1]) == []
    assert await plane[NoteCache].get(1) is None
    async with await connect(plane) as connection, connection.transaction():
        await connection.execute("INSERT INTO note VALUES (3, 'three'), (4, '')")
        await connection.execute("INSERT INTO comment VALUES (1, 3, 'a'), (2, 4, 'b'), (3, 2, 'c')")
        await connection.execute("DELETE FROM note WHERE id = 3")
    await check(plane, {2: ["c"], 4: ["b"]})
    await by_hand(plane, "UPDATE note SET body = 'four' WHERE id = 4")
    await check(plane, {2: ["c"], 4: ["b"]})
    await by_hand(plane, "TRUNCATE note CASCADE")
    await check(plane, {})


async def test_what_is_settled_shows_a_write_to_another_table(plane: pp.Plane) -> None:
    async with plane.write(actor="ada") as tx:
        tx.add(Comment(id=77, note_id=2, body="new"))
    await plane.settled(tx.token)
    assert (await plane[NoteSearch].get([2]))[0].text == "two|new"
    assert (await plane[NoteCache].get(2)) == ["two", ["new"], []]
    await plane.cache.apply(plane.opened.targets[NoteCache.name].collection, [], ["2"], 1 << 52)
    assert await value(plane, NoteCache, 2) is None
    assert (await plane[NoteCache].get(2)) == ["two", ["new"], []]  # from truth, by the same way


async def test_partitions_and_rows_written_past_their_parent(plane_of: PlaneOf) -> None:
    first = await plane_of(**NOTES, flows=False)
    for n in range(3):
        await by_hand(
            first,
            f'CREATE TABLE mark_{n} PARTITION OF "Odd mark" FOR VALUES FROM ({n}0) TO ({n + 1}0)',
        )
    await first.close()
    plane = await plane_of(**NOTES)
    await by_hand(plane, "INSERT INTO note VALUES (1, 'one'), (2, 'two')")
    for statement, ones, twos in (
        ("""INSERT INTO "Odd mark" SELECT n, 1 + n % 2, n FROM generate_series(0, 5) n""", 3, 3),
        ("INSERT INTO mark_1 VALUES (10, 1, 'straight'), (11, NULL, 'none')", 4, 3),
        ("""UPDATE "Odd mark" SET id = id + 12, "the ""note"" of" = 2 WHERE id = 10""", 3, 4),
        ('UPDATE mark_1 SET "the ""note"" of" = 1 WHERE id = 11', 4, 4),
        ("DELETE FROM mark_0 WHERE id < 3", 2, 3),
        ("TRUNCATE mark_0", 1, 1),
        ('TRUNCATE "Odd mark"', 0, 0),
    ):
        await by_hand(plane, statement)
        await check(plane, {1: [], 2: []})
        assert [len((await value(plane, NoteCache, n))[2]) for n in (1, 2)] == [ones, twos]


async def test_keys_of_any_type_and_several_columns_of_one_table(plane_of: PlaneOf) -> None:
    """Odd texts and UUIDs; both columns of a letter, and the letter for itself."""
    plane = await plane_of(**POST)
    async with await connect(plane) as connection:
        for n, name in enumerate(ODD):
            await connection.execute("INSERT INTO person VALUES (%s)", [name])
            await connection.execute("INSERT INTO room VALUES (DEFAULT)")
            await connection.execute(
                "INSERT INTO letter SELECT %s, %s, %s, (SELECT id FROM room ORDER BY id LIMIT 1)",
                [f"{'aAbB'[n % 4]}{n}", name, ODD[n - 1]],
            )
        await post(plane)
        await connection.execute("UPDATE letter SET sender = receiver, receiver = sender")
        await post(plane)
        await connection.execute("UPDATE letter SET room_id = NULL WHERE title < 'b'")
        await connection.execute("UPDATE letter SET sender = NULL WHERE title > 'b'")
        await post(plane)
        for name in ODD[::2]:
            await connection.execute("DELETE FROM person WHERE name = %s", [name])
            await connection.execute("DELETE FROM letter WHERE receiver = %s", [name])
    await post(plane)
    await by_hand(plane, "TRUNCATE letter")
    await post(plane)


class Picky(pp.Cached[Note]):
    """Cannot take one kind of comment."""

    key_prefix = "picky:"
    touches = {"comments": Comment.note_id}  # noqa: RUF012

    def derive(self, note: Note, /, comments: Sequence[Comment] = ()) -> pp.Entry | None:
        """Raises for it."""
        return pp.Entry([int(comment.body) for comment in comments])


async def test_a_bad_related_row_parks_the_row_it_belongs_to(plane_of: PlaneOf) -> None:
    plane = await plane_of(models=[Note, Comment], projections=[Picky])
    await by_hand(plane, "INSERT INTO note VALUES (1, 'one'), (2, 'two')")
    await by_hand(plane, "INSERT INTO comment VALUES (1, 1, '1'), (2, 2, '2'), (3, 2, 'bad')")
    await plane.caught_up()
    assert await plane.opened.journal.dead_keys(Picky.name) == {"2"}
    assert await value(plane, Picky, 1) == [1]
    await by_hand(plane, "UPDATE comment SET body = '3' WHERE id = 3")
    await plane.caught_up()
    assert await value(plane, Picky, 2) == [2, 3]
    await becomes(lambda: plane.opened.journal.dead_keys(Picky.name), set(), within_s=10)
    assert (await plane.verify()).clean


async def write_at_random(plane: pp.Plane, dice: random.Random) -> None:
    """Notes and comments come, change, move and go; what a constraint refuses is left."""
    async with await connect(plane) as connection:
        for _ in range(WRITES):
            note, comment, text = (
                dice.randrange(NOTES_MAX),
                dice.randrange(3 * NOTES_MAX),
                f"{dice.random():.3f}",
            )
            other = dice.choice([None, dice.randrange(NOTES_MAX)])
            choices: list[tuple[str, list[Any]]] = [
                ("INSERT INTO note VALUES (%s, %s) ON CONFLICT (id) DO NOTHING", [note, text]),
                ("UPDATE note SET body = %s WHERE id = %s", [dice.choice(["", text]), note]),
                ("DELETE FROM note WHERE id = %s", [note]),
                ("INSERT INTO comment VALUES (%s, %s, %s)", [comment, other, text]),
                ("UPDATE comment SET body = %s WHERE id = %s", [text, comment]),
                ("UPDATE comment SET note_id = %s WHERE id = %s", [other, comment]),
                ("UPDATE comment SET note_id = %s WHERE note_id = %s", [other, note]),
                ("DELETE FROM comment WHERE id = %s", [comment]),
            ]
            statement, values = dice.choice(choices)
            try:
                async with connection.transaction(force_rollback=dice.random() < 0.1):
                    await connection.execute(statement.encode(), values)
                    await asyncio.sleep(dice.random() * 0.004)  # a transaction takes its time
            except (psycopg.errors.IntegrityError, psycopg.errors.DeadlockDetected):
                continue


async def test_concurrent_writers_of_both_tables(plane: pp.Plane) -> None:
    """Whoever commits last, every item ends equal to truth; `verify` is right meanwhile, too."""
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"SEED={seed}")
    async with asyncio.TaskGroup() as tasks:
        writers = [
            tasks.create_task(write_at_random(plane, random.Random(f"{seed} {n}")))
            for n in range(WRITERS)
        ]
        while not all(writer.done() for writer in writers):
            drift = await plane.verify()
            assert drift.clean, (seed, drift.parts)
    rows = await by_hand(plane, TRUTH)
    await check(plane, {id: comments for id, _, comments, _ in rows})


async def test_verify_repair_and_rebuild(plane: pp.Plane) -> None:
    """What they compare, mend and build covers the related rows."""
    await check(plane, {1: ["a", "b"], 2: []})
    await by_hand(plane, "ALTER TABLE comment DISABLE TRIGGER USER")
    await by_hand(plane, "UPDATE comment SET body = 'unseen' WHERE id = 11")
    await by_hand(plane, "INSERT INTO comment VALUES (12, 2, 'unseen, too')")
    await by_hand(plane, "ALTER TABLE comment ENABLE TRIGGER USER")
    drift = await plane.verify()
    assert [(part.projection, len(part.stale)) for part in drift.parts] == [
        (NoteSearch.name, 2),
        (NoteCache.name, 2),
    ]
    mended = await plane.repair()
    assert mended.left.clean
    await check(plane, {1: ["a", "unseen"], 2: ["unseen, too"]})
    assert (await plane.verify(deep=True)).clean
    writers = asyncio.create_task(write_at_random(plane, random.Random(7)))
    rebuilt = await plane.rebuild(NoteSearch)
    await writers
    assert rebuilt.collection != rebuilt.before
    rows = await by_hand(plane, TRUTH)
    await check(plane, {id: comments for id, _, comments, _ in rows})
