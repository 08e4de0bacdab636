"""What the tables of the assistant's other truth have alike: whose a row is, and their rules.

References carry their tenant along, so that no row can point into another tenant; that what is
referred to has the same owner, a trigger sees to. A rule is named like the column it is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks

SCHEMA: Final = "assistant"
MOMENT: Final = sa.DateTime(timezone=True)
NOW: Final = sa.func.now()


class Base(pp.Model):
    """Every table: whose it is, when it was made and last changed."""

    __abstract__ = True
    metadata = pp.metadata(schema=SCHEMA)
    # What the server fills in on an UPDATE comes back with it; an ETag needs all columns.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012

    tenant_id: Mapped[str] = marks.tenant()
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=NOW, sort_order=10)
    updated_at: Mapped[datetime] = mapped_column(
        MOMENT, server_default=NOW, onupdate=NOW, sort_order=11
    )


class Owned(Base):
    """A table whose rows are a person's; without an owner, everybody's in the tenant."""

    __abstract__ = True

    owner_id: Mapped[UUID | None] = marks.owner(sort_order=-4)


def one_of(column: str, values: Sequence[str]) -> sa.CheckConstraint:
    """The column has one of these values."""
    return sa.CheckConstraint(f"{column} IN ({', '.join(map(repr, values))})", name=column)


def rule(name: str, condition: str) -> sa.CheckConstraint:
    """A rule about a row, named like the column it is about."""
    return sa.CheckConstraint(condition, name=name)


def referable() -> sa.UniqueConstraint:
    """What a reference with its tenant refers to."""
    return sa.UniqueConstraint("id", "tenant_id")


def refers(column: str, table: str, *, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    """A reference within the tenant."""
    return sa.ForeignKeyConstraint(
        [column, "tenant_id"],
        [f"{SCHEMA}.{table}.id", f"{SCHEMA}.{table}.tenant_id"],
        ondelete=ondelete,
    )


def once_each(table: str, *columns: str) -> sa.Index:
    """One row at most of an owner for each value of the columns, rows without owner included."""
    return sa.Index(
        f"uq_{table}_{columns[0]}",
        "tenant_id",
        "owner_id",
        *columns,
        unique=True,
        postgresql_nulls_not_distinct=True,
    )


def imported_once(table: str) -> sa.Index:
    """What comes in under an external id comes in once."""
    return sa.Index(
        f"uq_{table}_external_id",
        "tenant_id",
        "owner_id",
        "external_id",
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )


def listed(table: str, *, by: str = "created_at") -> sa.Index:
    """The order in which rows are listed, page by page."""
    return sa.Index(f"ix_{table}_listed", "tenant_id", by, "id")


def jsonb(*, nullable: bool = False) -> Any:
    """A column of JSON; empty unless it is given."""
    kind = sa.dialects.postgresql.JSONB(none_as_null=True)
    return mapped_column(kind, nullable=nullable, server_default=None if nullable else "{}")
