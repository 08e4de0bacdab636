"""Mistakes a type checker must see: each marked line is an error of that kind, no other is."""

# ruff: noqa: RUF012

from collections.abc import Sequence
from typing import TypedDict
from uuid import UUID

from sqlalchemy.orm import Mapped

import polyplane as pp
from polyplane import marks, transform
from polyplane.marks import Secret


class Base(pp.Model):
    __abstract__ = True
    metadata = pp.metadata()


class Note(Base):
    __tablename__ = "note"
    id: Mapped[UUID] = pp.key()
    owner: Mapped[str]
    stars: Mapped[int]


class Comment(Base):
    __tablename__ = "comment"
    id: Mapped[UUID] = pp.key()
    note_id: Mapped[UUID | None]
    body: Mapped[str]


class Login(Base):
    __tablename__ = "login"
    id: Mapped[UUID] = pp.key()
    token: Mapped[Secret[str]] = marks.secret()
    codes: Mapped[Secret[list[int]] | None] = marks.secret()


class Tags(TypedDict):
    owner: str
    stars: int


class Good(pp.Vectors[Note, Tags]):
    def derive(self, note: Note, /) -> pp.Vector[Tags] | None:
        return pp.Vector(note.owner, {"owner": note.owner, "stars": note.stars})


class MisspeltColumn(pp.Vectors[Note]):
    def derive(self, note: Note, /) -> pp.Vector | None:
        return pp.Vector(note.ownr)  # E: attr-defined


class WrongTagType(pp.Vectors[Note, Tags]):
    def derive(self, note: Note, /) -> pp.Vector[Tags] | None:
        return pp.Vector(note.owner, {"owner": note.owner, "stars": "five"})  # E: typeddict-item


class MissingTag(pp.Vectors[Note, Tags]):
    def derive(self, note: Note, /) -> pp.Vector[Tags] | None:
        return pp.Vector(note.owner, {"owner": note.owner})  # E: typeddict-item


class WrongKind(pp.Cached[Note]):
    def derive(self, note: Note, /) -> pp.Vector | None:  # E: override
        return pp.Vector(note.owner)


class NoteCache(pp.Cached[Note]):
    def derive(self, note: Note, /) -> pp.Entry | None:
        return pp.Entry({"owner": note.owner})


class Touching(pp.Vectors[Note]):
    touches = {"comments": Comment.note_id, "replies": Comment.id}

    def derive(
        self, note: Note, /, comments: Sequence[Comment] = (), replies: Sequence[Comment] = ()
    ) -> pp.Vector | None:
        return pp.Vector("".join(comment.body for comment in comments))


class TouchingWhatIsNot(pp.Cached[Note]):
    touches = {"comments": Comment.note}  # E: attr-defined

    def derive(self, note: Note, /, comments: Sequence[Comment] = ()) -> pp.Entry | None:
        return pp.Entry([comment.text for comment in comments])  # E: attr-defined


class TouchingByName(pp.Cached[Note]):
    touches = {"comments": "note_id"}  # E: dict-item

    def derive(self, note: Note, /, comments: Sequence[Comment] = ()) -> pp.Entry:
        return pp.Entry(len(comments))


class ReadingASecret(pp.Vectors[Login]):
    def derive(self, login: Login, /) -> pp.Vector | None:
        return pp.Vector(login.token)  # E: arg-type


class TaggedWithASecret(pp.Vectors[Login, Tags]):
    def derive(self, login: Login, /) -> pp.Vector[Tags] | None:
        return pp.Vector("", {"owner": login.token, "stars": 1})  # E: typeddict-item


class SayingSo(pp.Vectors[Login]):
    secrets = True

    def derive(self, login: Login, /) -> pp.Vector | None:
        if login.codes is None:
            return pp.Vector(login.token.reveal())
        return pp.Vector(login.codes.reveal())  # E: arg-type


def wrong_secrets() -> None:
    login = Login(token=Secret("kettle"))
    login.token = "kettle"  # E: assignment
    login.token = Secret(1)  # E: arg-type
    login.codes = Secret([1])


async def wrong_verbs(plane: pp.Plane) -> None:
    await plane[NoteCache].search("kettle")  # E: attr-defined
    await plane[Good].serach("kettle")  # E: attr-defined
    await plane[Good].search("kettle", limit="ten")  # E: arg-type
    plane[Note]  # E: type-var
    async with plane.write() as tx:  # E: call-arg
        tx.add("not a row")  # E: arg-type
    await plane[Good].search("kettle", tags={"stars": pp.Range(ge=3)})


class Sorted(transform.Transformation[Note, Comment]):
    columns = (
        transform.column(Comment.body, Note.owner),
        transform.column(Comment.body, Note.stars, str),
        transform.column(Comment.note_id, Note.id),
        transform.column(Comment.boddy, Note.owner),  # E: attr-defined
        transform.column(Comment.body, Note.stars, str.title),  # E: arg-type
    )


class Wrong(transform.Transformation[Note, Comment]):
    def apply(self, row: Note, /) -> Comment | None:
        return row  # E: return-value
