"""What the tables of the assistant's other truth have alike: whose a row is, and their rules.

References carry their tenant along, so that no row can point into another tenant; that what is
referred to has the same owner, a trigger sees to. A rule is named like the column it is about.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from polyplane import marks
from polyplane.domains.assistant.models import Base

MOMENT: Final = sa.DateTime(timezone=True)
NOW: Final = sa.func.now()


class Owned(Base):
    """A table whose rows are a person's; without an owner, everybody's in the tenant."""

    __abstract__ = True

    owner_id: Mapped[UUID | None] = marks.owner(sa.Uuid, sort_order=-4)


def rule(name: str, condition: str) -> sa.CheckConstraint:
    """A rule about a row, named like the column it is about."""
    return sa.CheckConstraint(condition, name=name)


def once_each(*columns: str) -> sa.UniqueConstraint:
    """One row at most of an owner for each value of the columns, rows without owner included."""
    return sa.UniqueConstraint(
        "tenant_id", "owner_id", *columns, postgresql_nulls_not_distinct=True
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


def listed_by(table: str, column: str) -> sa.Index:
    """The order in which rows are listed, page by page, when not by their making."""
    return sa.Index(f"ix_{table}_listed", "tenant_id", column, "id")
