"""Tables of truth: the declarative base, the key column, and the rows `derive` sees."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from polyplane.errors import Misconfigured

NAMES: Final = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class Model(DeclarativeBase):
    """A mapped table of truth.

    An application that shares a process with others declares its own base with its own
    `metadata` (and, usually, its own PostgreSQL schema)::

        class Base(pp.Model):
            __abstract__ = True
            metadata = pp.metadata(schema="laboratory")
    """

    # The schema is said, for what PostgreSQL takes otherwise depends on who is connected.
    metadata = sa.MetaData(schema="public", naming_convention=NAMES)


def metadata(schema: str = "public") -> sa.MetaData:
    """A fresh table catalogue with polyplane's constraint names, in the PostgreSQL `schema`."""
    return sa.MetaData(schema=schema, naming_convention=NAMES)


def key() -> Mapped[UUID]:
    """The UUID primary key of a model: UUIDv7 where the server can, else random.

    The server makes it (`polyplane.new_key()`, see truth/sql/base.sql), so that a row inserted by
    hand has one too; SQLAlchemy reads it back in the INSERT's own RETURNING.
    """
    return mapped_column(
        sa.Uuid, primary_key=True, server_default=sa.text("polyplane.new_key()"), sort_order=-10
    )


def table_of(model: type[Model]) -> sa.Table:
    """The table `model` is mapped to."""
    table = sa.inspect(model).local_table
    if not isinstance(table, sa.Table):
        raise Misconfigured(f"{model.__name__} is not mapped to a plain table.")
    return table


def table_name(table: sa.Table) -> str:
    """`schema.table`, the name of a table in changes, positions and metrics."""
    return f"{table.schema or 'public'}.{table.name}"


__all__ = ["Model", "key", "metadata", "table_name", "table_of"]
