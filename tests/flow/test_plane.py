"""The way of the data, end to end, on real engines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import psycopg
import pytest
from sqlalchemy.orm import Mapped

import polyplane as pp
from polyplane.model.items import Item
from tests.conftest import PlaneOf

DIMENSIONS = 8


class Base(pp.Model):
    """A catalogue of this file's own."""

    __abstract__ = True
    metadata = pp.metadata()


class Note(Base):
    """The truth of these tests."""

    __tablename__ = "note"
    id: Mapped[UUID] = pp.key()
    owner: Mapped[str]
    body: Mapped[str]


class NoteSearch(pp.Vectors[Note]):
    """Notes with a body, by a cheap deterministic embedding."""

    dimensions = DIMENSIONS

    def derive(self, note: Note, /) -> pp.Vector | None:
        """Nothing follows from an empty note."""
        if not note.body:
            return None
        letters = np.frombuffer((note.body * DIMENSIONS).encode()[:DIMENSIONS], dtype="u1")
        return pp.Vector(note.body, {"owner": note.owner}, letters.astype("f4"))


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """A plane with notes."""
    return await plane_of(models=[Note], projections=[NoteSearch])


async def by_hand(plane: pp.Plane, statement: str) -> list[tuple[Any, ...]]:
    """What somebody does with psql, behind the application's back."""
    url = plane.settings.url("database_url")
    assert url is not None
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(statement)
        return await cursor.fetchall() if cursor.description else []


async def held(plane: pp.Plane, key: object) -> str | None:
    """The text the vector store holds under `key`."""
    hits = await plane[NoteSearch].get([key])
    return hits[0].text if hits else None


async def becomes(look: Callable[[], Awaitable[object]], wanted: object, within_s: float) -> None:
    """Wait until `look()` is `wanted`; fail with what it was last."""
    last: object = None
    try:
        async with asyncio.timeout(within_s):
            while (last := await look()) != wanted:
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{last!r} did not become {wanted!r} in {within_s} s") from None


async def test_a_write_is_found_once_it_is_settled(plane: pp.Plane) -> None:
    """Read your writes."""
    async with plane.write(actor="ada") as tx:
        note = Note(owner="ada", body="the kettle is broken")
        tx.add(note)
    await plane.settled(tx.token)
    hits = await plane[NoteSearch].search([1.0] * DIMENSIONS, tags={"owner": "ada"})
    assert [(hit.key, hit.text) for hit in hits] == [(str(note.id), "the kettle is broken")]
    assert await plane[NoteSearch].search([1.0] * DIMENSIONS, tags={"owner": "eve"}) == []
    assert (await plane.verify()).clean


async def test_what_is_done_by_hand_is_seen_within_a_second(plane: pp.Plane) -> None:
    """INSERT without an id, UPDATE, UPDATE of the key and DELETE."""
    await plane.caught_up()  # a collection that was never filled is no answer
    [(key,)] = await by_hand(
        plane, "INSERT INTO note (owner, body) VALUES ('ada', 'Größe 🙂') RETURNING id"
    )
    await becomes(lambda: held(plane, key), "Größe 🙂", 1)
    await by_hand(plane, f"UPDATE note SET body = 'second' WHERE id = '{key}'")
    await becomes(lambda: held(plane, key), "second", 1)
    [(other,)] = await by_hand(
        plane, f"UPDATE note SET id = gen_random_uuid() WHERE id = '{key}' RETURNING id"
    )
    await becomes(lambda: held(plane, other), "second", 1)
    await becomes(lambda: held(plane, key), None, 1)
    await by_hand(plane, "DELETE FROM note")
    await becomes(lambda: held(plane, other), None, 1)
    drift = await plane.verify()
    assert drift.clean and drift.parts[0].items == 0 and drift.parts[0].tombstones == 2


async def test_bulk_rollback_truncate_and_rows_that_derive_nothing(plane: pp.Plane) -> None:
    """Statements of many keys, and keys from which nothing follows (any more)."""
    many = "INSERT INTO note (owner, body) SELECT 'ada', 'n' || n FROM generate_series(1, 3500) n"
    await by_hand(plane, many)
    with pytest.raises(RuntimeError, match="never mind"):
        async with plane.write(actor="ada") as tx:
            tx.add(Note(owner="ada", body="not to be"))
            await tx.flush()
            raise RuntimeError("never mind")
    assert tx.token is None
    part = (await plane.verify()).parts[0]
    assert (part.rows, part.items) == (3500, 3500) and part.truth_digest == part.store_digest
    await by_hand(plane, "UPDATE note SET body = '' WHERE body < 'n2'")
    part = (await plane.verify()).parts[0]
    assert (part.missing, part.stale, part.extra) == ((), (), ())
    assert part.rows == 3500 and part.items == part.derived < 3500
    await by_hand(plane, "TRUNCATE note")
    part = (await plane.verify()).parts[0]
    assert (part.rows, part.items, part.tombstones) == (0, 0, 3500)


async def test_concurrent_writers_leave_no_drift(plane: pp.Plane) -> None:
    """Eight writers on the same keys; transactions that overlap and commit out of order."""
    many = "INSERT INTO note (owner, body) SELECT 'w', 'x' FROM generate_series(1, 20) RETURNING id"
    keys = [row[0] for row in await by_hand(plane, many)]
    generator = np.random.default_rng(20)

    async def writer(number: int) -> None:
        for turn in range(25):
            async with plane.write(actor=str(number)) as tx:
                for key in sorted(generator.choice(len(keys), 2, replace=False)):
                    note = await tx.get(Note, keys[key], for_update=True)
                    assert note is not None
                    note.body = f"{number} {turn}"

    await asyncio.gather(*(writer(number) for number in range(8)))
    part = (await plane.verify()).parts[0]
    assert (part.items, part.missing, part.stale, part.extra) == (20, (), (), ())


async def test_verify_names_what_differs(plane: pp.Plane) -> None:
    """Items taken out, altered and added behind the plane's back."""
    async with plane.write(actor="ada") as tx:
        notes = [Note(owner="ada", body=f"note {n}") for n in range(10)]
        tx.add_all(notes)
    await plane.settled(tx.token)
    store, collection = plane.opened.stores.vector, plane.opened.targets["note_search"].collection
    assert store is not None
    far = 1 << 52
    ones = np.ones(DIMENSIONS, "f4")
    strange = Item("strange", "0" * 32, pp.Vector("?", {"owner": "eve"}, ones))
    stale = Item(str(notes[1].id), "1" * 32, pp.Vector("?", {"owner": "x"}, ones))
    await store.apply(collection, [strange, stale], [str(notes[0].id)], far)
    drift = await plane.verify()
    part = drift.parts[0]
    assert (drift.missing, drift.stale, drift.extra) == (1, 1, 1) and not drift.clean
    assert part.missing == (str(notes[0].id),)
    assert part.stale == (str(notes[1].id),)
    assert part.extra == ("strange",)


async def test_events_go_out_if_and_only_if_the_transaction_commits(plane: pp.Plane) -> None:
    """CloudEvents through the same outbox, in order."""
    with pytest.raises(pp.Refused):
        async with plane.write(actor="ada", tenant="acme") as tx:
            tx.emit("notes.never", {})
            tx.emit("No Dot", {})
    async with plane.write(actor="ada", tenant="acme") as tx:
        tx.emit("notes.note.added", {"n": 1}, subject="desk.1")
        tx.emit("notes.note.added", {"n": 2})
    feed = plane.opened.feed
    reader = feed.reader(feed.subjects.events, [feed.subjects.all_events], 1)
    found = await reader.batch(10, wait_s=5)
    found += await reader.batch(10, wait_s=1) if len(found) < 2 else []
    await reader.close()
    events = [orjson.loads(message.body) for message in found]
    assert [event["data"] for event in events] == [{"n": 1}, {"n": 2}]
    assert found[0].subject == f"{plane.namespace}.events.acme.notes.note.added.desk%2E1"
    assert {event["specversion"] for event in events} == {"1.0"}
    assert {(event["tenant"], event["actor"]) for event in events} == {("acme", "ada")}


async def test_a_plane_goes_on_where_another_stopped(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    """Close, write by hand meanwhile, open again; and a model's new projection is backfilled."""
    first = await plane_of(models=[Note], projections=[NoteSearch])
    async with first.write(actor="ada") as tx:
        tx.add_all([Note(owner="ada", body=f"note {n}") for n in range(100)])
    await first.close()
    await by_hand(first, "DELETE FROM note WHERE body < 'note 5'")
    await by_hand(first, "INSERT INTO note (owner, body) VALUES ('bob', 'while it was closed')")

    class SecondSearch(pp.Vectors[Note]):
        dimensions = DIMENSIONS

        def derive(self, note: Note, /) -> pp.Vector | None:
            return pp.Vector(note.body, {"owner": note.owner}, np.ones(DIMENSIONS, "f4"))

    second = await plane_of(models=[Note], projections=[NoteSearch, SecondSearch])
    drift = await second.verify()
    assert drift.clean, drift.parts
    assert [part.items for part in drift.parts] == [part.rows for part in drift.parts]
