"""What a projection may touch is checked when a plane is made. No database."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, column_property, mapped_column, relationship

import polyplane as pp
from polyplane.errors import Misconfigured
from polyplane.model.touches import touches_of
from polyplane.runtime.declared import Declared
from polyplane.truth.scan import source_of


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Note(Base):
    """What is touched for."""

    __tablename__ = "note"
    id: Mapped[UUID] = pp.key()
    twin: Mapped[UUID | None]
    comments: Mapped[list[Comment]] = relationship(lambda: Comment)


class Comment(Base):
    """What is touched."""

    __tablename__ = "comment"
    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[UUID] = mapped_column(sa.ForeignKey(Note.id))
    note_name: Mapped[str]
    count: Mapped[int]
    big: Mapped[int] = mapped_column(sa.BigInteger)
    price: Mapped[Decimal] = mapped_column(sa.Numeric(8, 3))
    code: Mapped[str] = mapped_column(sa.CHAR(4))
    shout: Mapped[str] = column_property(sa.func.upper("a"))


class Pair(Base):
    """A key of two columns."""

    __tablename__ = "pair"
    one: Mapped[int] = mapped_column(primary_key=True)
    two: Mapped[int] = mapped_column(primary_key=True)


class Word(Base):
    """A key of unlimited text."""

    __tablename__ = "word"
    word: Mapped[str] = mapped_column(sa.Text, primary_key=True)


class Small(Base):
    """A key of two bytes."""

    __tablename__ = "small"
    id: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True)


class Price(Base):
    """A key with decimals."""

    __tablename__ = "price"
    amount: Mapped[Decimal] = mapped_column(sa.Numeric(10, 2), primary_key=True)


class Share(Base):
    """A key that can be written in more than one way."""

    __tablename__ = "share"
    part: Mapped[float] = mapped_column(primary_key=True)


def projection(parent: type[Base], **touched: Any) -> type[pp.Cached[Any]]:
    """A projection of `parent` that takes whatever it touches."""

    class Touched(pp.Cached[Any]):
        model = parent
        touches = touched

        def derive(self, row: Any, /, **related: Sequence[Any]) -> pp.Entry | None:
            return pp.Entry(len(related))

    return Touched


def check(it: type[pp.Cached[Any]], *models: type[Base]) -> None:
    """As a plane does."""
    Declared.of([], models, [it], [])


@pytest.mark.parametrize(
    ("parent", "attribute", "told", "fix"),
    [
        (Note, "note_id", "no column of a model", "Comment.note_id"),
        (Note, Note.comments, "no column of a model", "Comment.note_id"),
        (Note, Comment.shout, "no plain column", ""),
        (Note, Note.twin, "a column of Note itself", "another model"),
        (Pair, Comment.count, "Pair has a key of 2 columns", "a key of one column"),
        (Note, Comment.note_name, "is a text; the key of Note is UUID", "the type of note.id"),
        (Small, Comment.note_name, "is a text; the key of Small is an integer", "small.id"),
        (Word, Comment.code, "is CHAR; the key of Word is a text", "word.word"),
        (Price, Comment.price, r"is NUMERIC\(8, 3\); the key of Price is NUMERIC\(10, 2\)", ""),
        (Share, Comment.count, "share.part is DOUBLE PRECISION", "a UUID, an integer or a text"),
    ],
)
def test_what_cannot_be_touched(parent: type[Base], attribute: Any, told: str, fix: str) -> None:
    with pytest.raises(Misconfigured, match=told) as refused:
        check(projection(parent, comments=attribute), parent, Comment)
    assert fix in refused.value.fix
    assert refused.value.message.startswith("Touched touches 'comments'")


@pytest.mark.parametrize(
    ("parent", "attribute"),
    [
        (Note, Comment.note_id),
        (Small, Comment.count),
        (Small, Comment.big),
        (Word, Comment.note_name),
    ],
)
def test_columns_that_hold_the_key(parent: type[Base], attribute: Any) -> None:
    it = projection(parent, comments=attribute)
    check(it, parent, Comment)
    [touch] = touches_of(it)
    assert (touch.name, touch.model, touch.column.name) == ("comments", Comment, attribute.key)


def test_what_is_touched_is_a_model_of_the_plane() -> None:
    it = projection(Note, comments=Comment.note_id)
    with pytest.raises(Misconfigured, match="touches Comment, which is no model") as refused:
        check(it, Note)
    assert refused.value.fix == "Add Comment to models."
    shared = Declared((), (), (it,), ()).shared({"cache"})
    assert shared.models == (Note, Comment)


def test_derive_takes_what_is_touched() -> None:
    class Deaf(pp.Cached[Note]):
        touches = {"comments": Comment.note_id}  # noqa: RUF012

        def derive(self, note: Note, /) -> pp.Entry | None:
            return pp.Entry(1)

    with pytest.raises(Misconfigured, match=r"Deaf\.derive does not take") as refused:
        check(Deaf, Note, Comment)
    assert "(self, row: Note, /, comments: Sequence[Comment] = ())" in refused.value.fix


def test_a_projection_without_touches_reads_as_ever() -> None:
    it = projection(Note)
    assert touches_of(it) == ()
    assert source_of(Note, touches_of(it)).related == ()
