"""What is true of documents: the tables `documents` and `document_chunks` of schema `assistant`.

A file is a blob; a document refers to it and says what came of reading it; its chunks cover its
text without gaps. References carry their tenant along, so that no row can point into another one.
What has an owner is seen by that user alone, what has none by everybody in the tenant.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks

SCHEMA: Final = "assistant"
SOURCES: Final = ("upload", "folder", "url")
STATES: Final = ("received", "parsing", "ready", "failed")
NAME_BYTES_MAX: Final = 2_048
"""Of a document's name in UTF-8: an entry of an index holds no more."""
TITLE_MAX: Final = 500
REASON_MAX: Final = 1_000
BETWEEN: Final = " > "
"""Between the headings above a chunk."""

_NOW: Final = sa.func.now()
_MOMENT: Final = sa.DateTime(timezone=True)


class Base(pp.Model):
    """Every table: whose it is, when it was made and last changed."""

    __abstract__ = True
    metadata = pp.metadata(schema=SCHEMA)
    # What the server fills in on an UPDATE comes back with it; an ETag needs all columns.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012

    tenant_id: Mapped[str] = marks.tenant()
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=_NOW, sort_order=10)
    updated_at: Mapped[datetime] = mapped_column(
        _MOMENT, server_default=_NOW, onupdate=_NOW, sort_order=11
    )


def one_of(column: str, values: Sequence[str]) -> sa.CheckConstraint:
    """The rule, named like the column, that it has one of these values."""
    return sa.CheckConstraint(f"{column} IN ({', '.join(map(repr, values))})", name=column)


def owned() -> sa.UniqueConstraint:
    """What a reference with its tenant refers to."""
    return sa.UniqueConstraint("id", "tenant_id")


def refers(column: str, table: str, *, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    """A reference to a row of the same tenant."""
    return sa.ForeignKeyConstraint(
        [column, "tenant_id"],
        [f"{SCHEMA}.{table}.id", f"{SCHEMA}.{table}.tenant_id"],
        ondelete=ondelete,
    )


def listed(table: str) -> sa.Index:
    """The order in which rows are listed, page by page."""
    return sa.Index(f"ix_{table}_listed", "tenant_id", "created_at", "id")


class Document(Base):
    """Something to be found again: what was read of one file.

    Its name is unique among those of one owner and source: the path of a file in a folder, the URL,
    or what an upload was called. `state`: received (its content is kept), parsing, ready, failed.
    `file_stamp` says which state of the file on disk was read: size, times and inode. What the
    chunks are made by is `chunker_version`, `chunk_size` and `chunk_overlap`, known once it is
    ready. A file that could not be taken has no blob.
    """

    __tablename__ = "documents"
    __table_args__ = (
        owned(),
        sa.UniqueConstraint(
            "tenant_id", "owner_id", "source", "name", postgresql_nulls_not_distinct=True
        ),
        one_of("source", SOURCES),
        one_of("state", STATES),
        sa.CheckConstraint(f"octet_length(name) BETWEEN 1 AND {NAME_BYTES_MAX}", name="name"),
        sa.CheckConstraint(
            "(blob_id IS NULL) = (sha256 IS NULL) AND (blob_id IS NOT NULL OR state = 'failed')",
            name="blob_id",
        ),
        sa.CheckConstraint(
            "(failure_code IS NOT NULL) = (state = 'failed')"
            " AND (failure_reason IS NOT NULL) = (state = 'failed')",
            name="failure_code",
        ),
        sa.CheckConstraint("state <> 'ready' OR chunker_version IS NOT NULL", name="chunker"),
        sa.CheckConstraint("chunk_count >= 0 AND text_length >= 0", name="chunk_count"),
        listed("documents"),
        sa.Index(
            "ix_documents_unread",
            "id",
            postgresql_where=sa.text("state IN ('received', 'parsing')"),
        ),
    )

    id: Mapped[UUID] = pp.key()
    owner_id: Mapped[UUID | None] = marks.owner(sa.Uuid, index=True)
    source: Mapped[str] = mapped_column(sa.String(20))
    name: Mapped[str] = mapped_column(sa.Text(collation="C"))
    blob_id: Mapped[UUID | None] = pp.Blob.reference()
    sha256: Mapped[str | None] = mapped_column(sa.String(64))
    size: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    file_stamp: Mapped[str | None] = mapped_column(sa.String(100))
    media_type: Mapped[str] = mapped_column(
        sa.String(255), server_default="application/octet-stream"
    )
    title: Mapped[str] = mapped_column(sa.String(TITLE_MAX), server_default="")
    state: Mapped[str] = mapped_column(sa.String(20), server_default="received")
    failure_code: Mapped[str | None] = mapped_column(sa.String(50))
    failure_reason: Mapped[str | None] = mapped_column(sa.String(REASON_MAX))
    chunker_version: Mapped[int | None]
    chunk_size: Mapped[int | None]
    chunk_overlap: Mapped[int | None]
    text_length: Mapped[int] = mapped_column(server_default="0")
    chunk_count: Mapped[int] = mapped_column(server_default="0")
    summary: Mapped[str] = mapped_column(sa.Text, server_default="")
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default="{}")


class DocumentChunk(Base):
    """A piece of a document's text: what stands from `start_at` to `end_at`, in characters.

    `heading` are the headings above its beginning, the outermost first, with ` > ` between them.
    `digest` is of its text alone. `title`, `media_type` and the owner are the document's.
    `chunker_version` is that which first cut this text. There is a column `search`, too, which
    PostgreSQL keeps: the words of title, heading and text (see `SEARCH`).
    """

    __tablename__ = "document_chunks"
    __table_args__ = (
        refers("document_id", "documents", ondelete="CASCADE"),
        sa.UniqueConstraint("document_id", "ordinal", deferrable=True, initially="DEFERRED"),
        sa.CheckConstraint("ordinal >= 0 AND start_at >= 0 AND end_at >= start_at", name="ordinal"),
    )

    id: Mapped[UUID] = pp.key()
    owner_id: Mapped[UUID | None] = marks.owner(sa.Uuid)
    document_id: Mapped[UUID]
    ordinal: Mapped[int]
    start_at: Mapped[int]
    end_at: Mapped[int]
    text: Mapped[str] = mapped_column(sa.Text)
    digest: Mapped[str] = mapped_column(sa.String(32))
    heading: Mapped[str] = mapped_column(sa.Text, server_default="")
    page: Mapped[int | None]
    title: Mapped[str] = mapped_column(sa.String(TITLE_MAX), server_default="")
    media_type: Mapped[str] = mapped_column(sa.String(255), server_default="")
    chunker_version: Mapped[int]


SEARCH: Final = sa.Column(
    "search",
    TSVECTOR,
    sa.Computed(
        "setweight(to_tsvector('english', title), 'A')"
        " || setweight(to_tsvector('english', heading), 'B')"
        " || setweight(to_tsvector('english', text), 'D')",
        persisted=True,
    ),
)
"""For full text where the vector store is down. Not mapped: no projection needs to read it."""
_CHUNKS: Final = DocumentChunk.__table__
assert isinstance(_CHUNKS, sa.Table)
_CHUNKS.append_column(SEARCH)
sa.Index("ix_document_chunks_search", SEARCH, postgresql_using="gin")

MODELS: Final = (Document, DocumentChunk)
