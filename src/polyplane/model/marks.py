"""Marks on columns: whose a row is, and what of it is personal or secret.

A mark is a word in the column's `info`; row-level security, the scope of derived stores, audit and
encryption are made from it.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from polyplane.model.secret import SealedText

MARK: Final = "polyplane.mark"
TENANT: Final = "tenant"
OWNER: Final = "owner"
PERSONAL: Final = "personal"
SECRET: Final = "secret"


def tenant() -> Mapped[str]:
    """The column that says whose tenant's a row is. Its table gets row-level security."""
    return mapped_column(
        sa.String(64), server_default="default", sort_order=-5, info={MARK: TENANT}
    )


def owner(*arguments: Any, **options: Any) -> Mapped[Any]:
    """A column, as `mapped_column` makes it, that holds the id of the user whose row it is.

    Other users of the tenant do not see the row, unless they may see all (`rows.all`). Rows
    without an owner are everybody's in the tenant.
    """
    return mapped_column(*arguments, **options, info={MARK: OWNER})


def personal(*arguments: Any, **options: Any) -> Mapped[Any]:
    """A column, as `mapped_column` makes it, about a person: masked in audit, erased with them."""
    return mapped_column(*arguments, **options, info={MARK: PERSONAL})


def secret(
    name: str | None = None, *, nullable: bool | None = None, deferred: bool = False
) -> Mapped[Any]:
    """A column of which the database, and all that follows from it, has ciphertext only.

    Its attribute holds a `Secret`: `token: Mapped[Secret[str]] = marks.secret()`. It cannot be
    searched for, sorted by or indexed. A row's secrets are encrypted with the data key of its owner
    (see `owner`), else of its tenant.
    """
    names = () if name is None else (name,)
    options: dict[str, Any] = {} if nullable is None else {"nullable": nullable}
    return mapped_column(*names, SealedText(), deferred=deferred, info={MARK: SECRET}, **options)


def marked(table: sa.Table, mark: str) -> list[sa.Column[Any]]:
    """The columns of `table` that have `mark`."""
    return [column for column in table.columns if column.info.get(MARK) == mark]


def tenant_column(table: sa.Table) -> sa.Column[Any] | None:
    """The column that says whose tenant's a row is, if the table has one."""
    return next(iter(marked(table, TENANT)), None)


def owner_column(table: sa.Table) -> sa.Column[Any] | None:
    """The column that holds the user whose row it is, if the table has one."""
    return next(iter(marked(table, OWNER)), None)
