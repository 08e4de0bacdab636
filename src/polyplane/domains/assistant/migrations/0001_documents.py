"""Documents and their chunks."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR

revision = "0001_documents"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA: Final = "assistant"
MOMENT: Final = sa.DateTime(timezone=True)


def _id() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, nullable=False, server_default=sa.text("polyplane.new_key()"))


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant_id", sa.String(64), nullable=False, server_default="default")


def _moments() -> tuple[sa.Column[object], sa.Column[object]]:
    now = sa.func.now()
    return (
        sa.Column("created_at", MOMENT, nullable=False, server_default=now),
        sa.Column("updated_at", MOMENT, nullable=False, server_default=now),
    )


def _check(table: str, name: str, rule: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(rule, name=f"ck_{table}_{name}")


def _text(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False, server_default="")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def upgrade() -> None:
    op.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    _documents()
    _chunks()


def _documents() -> None:
    table = "documents"
    op.create_table(
        table,
        _id(),
        _tenant(),
        sa.Column("owner_id", sa.Uuid),
        sa.Column("source", sa.String(20), nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("blob_id", sa.Uuid),
        sa.Column("sha256", sa.String(64)),
        sa.Column("size", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("file_stamp", sa.String(100)),
        sa.Column(
            "media_type",
            sa.String(255),
            nullable=False,
            server_default="application/octet-stream",
        ),
        _text("title", 500),
        sa.Column("state", sa.String(20), nullable=False, server_default="received"),
        sa.Column("failure_code", sa.String(50)),
        sa.Column("failure_reason", sa.String(1000)),
        sa.Column("chunker_version", sa.Integer),
        sa.Column("chunk_size", sa.Integer),
        sa.Column("chunk_overlap", sa.Integer),
        _count("text_length"),
        _count("chunk_count"),
        sa.Column("summary", sa.Text, nullable=False, server_default=""),
        sa.Column("metadata", JSONB, nullable=False, server_default="{}"),
        *_moments(),
        *_rules(table),
        schema=SCHEMA,
    )
    for index, columns in (
        ("ix_documents_listed", ["tenant_id", "created_at", "id"]),
        ("ix_assistant_documents_blob_id", ["blob_id"]),
        ("ix_assistant_documents_owner_id", ["owner_id"]),
    ):
        op.create_index(index, table, columns, schema=SCHEMA)
    op.create_index(
        "ix_documents_unread",
        table,
        ["id"],
        schema=SCHEMA,
        postgresql_where=sa.text("state IN ('received', 'parsing')"),
    )


def _rules(table: str) -> tuple[sa.Constraint, ...]:
    return (
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.UniqueConstraint("id", "tenant_id", name=f"uq_{table}_id"),
        sa.UniqueConstraint(
            "tenant_id",
            "owner_id",
            "source",
            "name",
            name=f"uq_{table}_tenant_id",
            postgresql_nulls_not_distinct=True,
        ),
        sa.ForeignKeyConstraint(
            ["blob_id"], ["polyplane.blob.committed_id"], name=f"fk_{table}_blob_id"
        ),
        _check(table, "source", "source IN ('upload', 'folder', 'url')"),
        _check(table, "state", "state IN ('received', 'parsing', 'ready', 'failed')"),
        _check(table, "name", "octet_length(name) BETWEEN 1 AND 2048"),
        _check(
            table,
            "blob_id",
            "(blob_id IS NULL) = (sha256 IS NULL) AND (blob_id IS NOT NULL OR state = 'failed')",
        ),
        _check(
            table,
            "failure_code",
            "(failure_code IS NOT NULL) = (state = 'failed')"
            " AND (failure_reason IS NOT NULL) = (state = 'failed')",
        ),
        _check(table, "chunker", "state <> 'ready' OR chunker_version IS NOT NULL"),
        _check(table, "chunk_count", "chunk_count >= 0 AND text_length >= 0"),
    )


def _chunks() -> None:
    table = "document_chunks"
    op.create_table(
        table,
        _id(),
        _tenant(),
        sa.Column("owner_id", sa.Uuid),
        sa.Column("document_id", sa.Uuid, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("start_at", sa.Integer, nullable=False),
        sa.Column("end_at", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("heading", sa.Text, nullable=False, server_default=""),
        sa.Column("page", sa.Integer),
        _text("title", 500),
        _text("media_type", 255),
        sa.Column("chunker_version", sa.Integer, nullable=False),
        *_moments(),
        sa.Column(
            "search",
            TSVECTOR,
            sa.Computed(
                "setweight(to_tsvector('english', title), 'A')"
                " || setweight(to_tsvector('english', heading), 'B')"
                " || setweight(to_tsvector('english', text), 'D')",
                persisted=True,
            ),
        ),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.UniqueConstraint(
            "document_id",
            "ordinal",
            name=f"uq_{table}_document_id",
            deferrable=True,
            initially="DEFERRED",
        ),
        sa.ForeignKeyConstraint(
            ["document_id", "tenant_id"],
            [f"{SCHEMA}.documents.id", f"{SCHEMA}.documents.tenant_id"],
            name=f"fk_{table}_document_id",
            ondelete="CASCADE",
        ),
        _check(table, "ordinal", "ordinal >= 0 AND start_at >= 0 AND end_at >= start_at"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_document_chunks_search", table, ["search"], schema=SCHEMA, postgresql_using="gin"
    )


def downgrade() -> None:
    for table in ("document_chunks", "documents"):
        op.drop_table(table, schema=SCHEMA)
