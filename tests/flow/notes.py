"""Truths of several tables, projections that touch them, and what their stores must hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane.model.scope import Scope
from tests.flow.things import by_hand


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Note(Base):
    """What is read with all its comments."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    body: Mapped[str]


class Comment(Base):
    """What belongs to a note, or to none."""

    __tablename__ = "comment"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note_id: Mapped[int | None] = mapped_column(sa.ForeignKey(Note.id, ondelete="CASCADE"))
    body: Mapped[str]


class Mark(Base):
    """What else belongs to a note, in partitions that are made by hand."""

    __tablename__ = "Odd mark"
    __table_args__ = {"postgresql_partition_by": "RANGE (id)"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note_id: Mapped[int | None] = mapped_column('the "note" of', sa.BigInteger)
    body: Mapped[str]


class Room(Base):
    """A UUID key."""

    __tablename__ = "room"
    id: Mapped[UUID] = pp.key()


class Person(Base):
    """A text key."""

    __tablename__ = "person"
    name: Mapped[str] = mapped_column(primary_key=True)


class Letter(Base):
    """Two columns that hold keys of one table, one that holds keys of another; a text key."""

    __tablename__ = "letter"
    title: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    sender: Mapped[str | None] = mapped_column(sa.Text, index=True)
    receiver: Mapped[str | None]
    room_id: Mapped[UUID | None]


class NoteSearch(pp.Vectors[Note]):
    """A note and its comments as one text; nothing from an empty note."""

    dimensions = 2
    touches = {"comments": Comment.note_id}  # noqa: RUF012

    def derive(self, note: Note, /, comments: Sequence[Comment] = ()) -> pp.Vector | None:
        """They are taken in the order they come in."""
        if not note.body:
            return None
        text = "|".join([note.body, *(comment.body for comment in comments)])
        return pp.Vector(text, {"n": len(comments)}, np.ones(2, "f4"))


class NoteCache(pp.Cached[Note]):
    """The same, with marks."""

    key_prefix = "note:"
    touches = {"comments": Comment.note_id, "marks": Mark.note_id}  # noqa: RUF012

    def derive(
        self, note: Note, /, *, comments: Sequence[Comment] = (), marks: Sequence[Mark] = ()
    ) -> pp.Entry | None:
        """All bodies."""
        return pp.Entry([note.body, [it.body for it in comments], [it.body for it in marks]])


class Letters(pp.Cached[Person]):
    """What somebody sent and received."""

    key_prefix = "letters:"
    touches = {"sent": Letter.sender, "received": Letter.receiver}  # noqa: RUF012

    def derive(
        self, person: Person, /, sent: Sequence[Letter] = (), received: Sequence[Letter] = ()
    ) -> pp.Entry | None:
        """The titles."""
        return pp.Entry([[it.title for it in sent], [it.title for it in received]])


class Rooms(pp.Cached[Room]):
    """What lies in a room."""

    key_prefix = "room:"
    touches = {"letters": Letter.room_id}  # noqa: RUF012

    def derive(self, room: Room, /, letters: Sequence[Letter] = ()) -> pp.Entry | None:
        """The titles."""
        return pp.Entry([it.title for it in letters])


class LetterCache(pp.Cached[Letter]):
    """Letters themselves."""

    key_prefix = "letter:"

    def derive(self, letter: Letter, /) -> pp.Entry | None:
        """Who wrote it."""
        return pp.Entry(letter.sender)


NOTES: dict[str, Any] = {"models": [Note, Comment, Mark], "projections": [NoteSearch, NoteCache]}
POST: dict[str, Any] = {
    "models": [Person, Letter, Room],
    "projections": [Letters, Rooms, LetterCache],
}
TRUTH = """
SELECT n.id, n.body,
  ARRAY(SELECT c.body FROM comment c WHERE c.note_id = n.id ORDER BY c.id),
  ARRAY(SELECT m.body FROM "Odd mark" m WHERE m."the ""note"" of" = n.id ORDER BY m.id)
FROM note n ORDER BY n.id
"""


async def value(plane: pp.Plane, projection: type[pp.Cached[Any]], key: object) -> Any:
    """What the cache itself holds, without reading through."""
    collection = plane.opened.targets[projection.name].collection
    found = await plane.cache.get(collection, Scope.everything, str(key))
    return found and found.value


async def check(plane: pp.Plane, notes: dict[int, list[str]]) -> None:
    """No drift, these notes with these comments, and both stores hold what SQL finds."""
    await plane.caught_up()
    drift = await plane.verify()
    assert drift.clean, drift.parts
    truth = await by_hand(plane, TRUTH)
    assert {id: comments for id, _, comments, _ in truth} == notes
    for id, body, comments, marks in truth:
        assert await value(plane, NoteCache, id) == [body, comments, marks]
    hits = {hit.key: hit.text for hit in await plane[NoteSearch].get(range(50))}
    assert hits == {str(id): "|".join([body, *comments]) for id, body, comments, _ in truth if body}


async def post(plane: pp.Plane) -> None:
    """No drift, and everybody's letters are those that SQL finds."""
    await plane.caught_up()
    drift = await plane.verify()
    assert drift.clean, drift.parts
    titles = 'SELECT ARRAY(SELECT title FROM letter WHERE {} = {} ORDER BY title COLLATE "C")'
    for projection, table, key, columns in (
        (Letters, "person", "name", ("sender", "receiver")),
        (Rooms, "room", "id", ("room_id",)),
    ):
        for (name,) in await by_hand(plane, f"SELECT {key} FROM {table}"):
            found = [
                (await by_hand(plane, titles.format(column, "%s"), name))[0][0]
                for column in columns
            ]
            shown = await value(plane, projection, name)
            assert shown == (found if projection is Letters else found[0]), name
