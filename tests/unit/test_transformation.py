"""Declarations of transformations: what cannot work is refused before anything runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import Format
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks, transform
from polyplane.errors import Misconfigured, Refused
from polyplane.marks import Secret
from polyplane.model.table import table_of
from polyplane.model.transformation import form_of
from polyplane.runtime.declared import Declared
from polyplane.truth.arrays import array_of, how_written
from polyplane.truth.transforms import begins

TEXTS = 1009
"""PostgreSQL's number of text[]."""


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Note(Base):
    """A source."""

    __tablename__ = "note"
    id: Mapped[UUID] = pp.key()
    tenant_id: Mapped[str] = marks.tenant()
    owner_id: Mapped[UUID | None] = marks.owner()
    body: Mapped[str]


class Page(Base):
    """A target that has all that is asked for."""

    __tablename__ = "page"
    id: Mapped[UUID] = pp.key()
    tenant_id: Mapped[str] = marks.tenant()
    author_id: Mapped[UUID | None] = marks.owner()
    text: Mapped[str] = mapped_column("written")
    token: Mapped[Secret[str] | None] = marks.secret()


class Bare(Base):
    """A target that says nothing of whose its rows are."""

    __tablename__ = "bare"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]


class Row:
    """A row of `Note`, as a scan gives it."""

    id = UUID(int=7)
    tenant_id = "acme"
    owner_id = UUID(int=8)
    body = "kettle"


def declared(source: Any, target: Any, **what: Any) -> Any:
    """A class made by hand."""
    bases = (transform.Transformation[source, target],)
    return type("Made", (transform.Transformation,), {"__orig_bases__": bases, **what})


def to(*columns: transform.Column, source: Any = Note, target: Any = Page, **what: Any) -> Any:
    """One by columns."""
    return declared(source, target, columns=columns, **what)


def test_what_is_made_keeps_key_tenant_and_owner() -> None:
    """None of them needs to be said."""
    form = form_of(to(transform.column(Page.text, Note.body, str.upper)))
    made = form.made(Row())
    assert made is not None and made.tenant == "acme" and made.key == (Row.id,)
    assert made.values == {
        "written": "KETTLE",
        "id": Row.id,
        "tenant_id": "acme",
        "author_id": Row.owner_id,
    }


def test_a_row_that_cannot_be_is_refused() -> None:
    """Another row's key, another tenant, a secret, something else altogether."""

    def refused(give: Any, **what: Any) -> str:
        def apply(self: Any, row: Any, /) -> Any:
            return give

        with pytest.raises(Refused) as error:
            form_of(declared(Note, Page, apply=apply, **what)).made(Row())
        return error.value.message

    assert "key of another row" in refused(Page(id=UUID(int=1), text="x"))
    assert "another tenant" in refused(Page(tenant_id="other", text="x"))
    assert "token cannot be given" in refused(Page(token=Secret("x")))
    assert "a dict, not a Page" in refused({})
    assert "The key id is not given" in refused(Page(text="x"), same_key=False)


def test_what_cannot_work_is_said_at_once() -> None:
    """With a fix, where there is one."""
    plain = transform.column(Page.text, Note.body)
    for wrong, why in (
        (declared(Note, Page), "either columns or apply"),
        (to(plain, apply=lambda self, row, /: None), "either columns or apply"),
        (to(plain, target=Bare), "keys of Note and Bare are of different types"),
        (to(transform.column(Bare.body, Note.body), target=Bare, same_key=False), "everybody's"),
        (to(transform.column(Page.token, Note.body)), "is a secret"),
        (to(transform.column(Bare.body, Note.body)), "Page.body is no column"),
        (to(transform.column(Page.text, Page.text)), "Note.text is no column"),
        (type("Made", (transform.Transformation,), {}), "what is made of what"),
    ):
        with pytest.raises(Misconfigured, match=why):
            form_of(wrong)
    with pytest.raises(Misconfigured, match="no column of a model"):
        transform.column("x", Note.body)  # type: ignore[call-overload]
    application = pp.Application(name="a", models=[Note], transformations=[to(plain)])
    with pytest.raises(Misconfigured, match="Page, which is no model"):
        Declared.of([application], [], [], [])
    twice = pp.Application(name="a", models=[Note, Page], transformations=[to(plain)] * 2)
    with pytest.raises(Misconfigured, match="Two of the same kind"):
        Declared.of([twice], [], [], [])
    once = Declared.of(
        [pp.Application("b", models=[Note, Page], transformations=[to(plain)])], [], [], []
    )
    assert once.captured == (Note,) and once.shared(set()).transformations == once.transformations


@given(
    st.sampled_from(["running", "done", "stopped", "failed"]),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
)
def test_how_one_goes_on(state: str, version: int, anew: bool, knows: bool) -> None:
    """It never goes on by other code, never takes all again without need, never misses a change."""
    how = begins(state, version=version, declared=1, anew=anew, knows_changes=knows)
    assert (how == "new") >= anew
    if not anew:
        assert (how in ("joined", "other")) == (state == "running")
        assert how != "on" or (version == 1 and (state != "done" or knows))
        is_new = version != 1 or (state == "done" and not knows)
        assert (how == "new") == (state != "running" and is_new)


@given(st.lists(st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"))))
def test_texts_are_written_as_postgresql_reads_them(values: list[str | None]) -> None:
    """By psycopg's own reading of an array."""
    written = how_written(table_of(Page).columns["written"])
    assert written is not None
    array = array_of(values, written)
    assert array is not None
    read = Transformer()
    assert read.get_loader(TEXTS, Format.TEXT).load(array.encode()) == values
    assert array_of([1], written) is None and how_written(table_of(Page).columns["token"]) is None
