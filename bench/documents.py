"""The truth of the measurements: notes of 100 characters, documents of 384 with a vector each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Mapped

import polyplane as pp
from bench.ground import Ground, connect

DIMENSIONS: Final = 64
BODY_CHARACTERS: Final = 384


class Base(pp.Model):
    """A catalogue of the benchmarks' own."""

    __abstract__ = True
    metadata = pp.metadata()


class Plain(Base):
    """A table that nothing captures."""

    __tablename__ = "plain"
    id: Mapped[UUID] = pp.key()
    owner: Mapped[str]
    body: Mapped[str]


class Note(Base):
    """The same table, captured."""

    __tablename__ = "note"
    id: Mapped[UUID] = pp.key()
    owner: Mapped[str]
    body: Mapped[str]


class NoteCache(pp.Cached[Note]):
    """What makes the plane capture notes."""

    key_prefix = "note:"

    def derive(self, note: Note, /) -> pp.Entry | None:
        """A note as it is."""
        return pp.Entry({"owner": note.owner, "body": note.body})


class Document(Base):
    """A text and its vector, computed beforehand: 64 little-endian 32-bit floats."""

    __tablename__ = "document"
    id: Mapped[UUID] = pp.key()
    owner: Mapped[str]
    title: Mapped[str]
    body: Mapped[str]
    embedding: Mapped[bytes]


class DocumentSearch(pp.Vectors[Document]):
    """Documents by their own vectors."""

    dimensions = DIMENSIONS

    def derive(self, document: Document, /) -> pp.Vector | None:
        """The body under its vector; owner and title to filter by."""
        tags = {"owner": document.owner, "title": document.title}
        return pp.Vector(document.body, tags, np.frombuffer(document.embedding, "<f4"))


def documents(count: int) -> Iterator[tuple[UUID, str, str, str, bytes]]:
    """The same `count` rows of `document` every time."""
    words = [word for word in pp.__doc__.split() if word.isalpha()] if pp.__doc__ else ["word"]
    dice = random.Random(64)
    vectors = np.random.default_rng(64).normal(size=(count, DIMENSIONS)).astype("<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for number in range(count):
        text = f"{number} " + " ".join(dice.choices(words, k=BODY_CHARACTERS // 3))
        body = text[:BODY_CHARACTERS]
        row = (f"owner {number % 100}", f"title {number}", body, vectors[number].tobytes())
        yield UUID(int=number + 1), *row


async def filled_database(ground: Ground, count: int) -> str:
    """The URL of a database with `count` documents and, so far, no capture."""
    url = await ground.database()
    async with ground.plane(url, flows=False, models=[Document]):
        pass
    async with await connect(url) as connection, connection.cursor() as cursor:
        columns = "id, owner, title, body, embedding"
        async with cursor.copy(f"COPY document ({columns}) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["uuid", "text", "text", "text", "bytea"])
            for row in documents(count):
                await copy.write_row(row)
        await connection.execute("ANALYZE document")
    return url


def name_of(url: str) -> str:
    """The database's name in its URL."""
    return url.rpartition("/")[2]
