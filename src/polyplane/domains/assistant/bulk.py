"""Rows of a statement, many at a time: one array for each column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from polyplane.domains.assistant.models import Base

ROWS_MAX: Final = 5_000
"""Rows of one statement."""
_IDS: Final = ARRAY(sa.Uuid())


def table(model: type[Base]) -> sa.Table:
    """The table of a model."""
    found = model.__table__
    assert isinstance(found, sa.Table)
    return found


def any_of(ids: Sequence[UUID]) -> Any:
    """What a column of ids is compared with: one parameter, however many they are."""
    return sa.any_(sa.bindparam(None, list(ids), type_=_IDS))


def given(model: type[Base], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """`rows` as a table of a statement, with the types of the model's columns."""
    kinds = [table(model).c[name].type for name in columns]
    values: Sequence[Sequence[Any]] = [*zip(*rows, strict=True)] or [()] * len(columns)
    arrays = [
        sa.bindparam(None, list(them), type_=ARRAY(kind))
        for kind, them in zip(kinds, values, strict=True)
    ]
    named = [sa.column(name, kind) for name, kind in zip(columns, kinds, strict=True)]
    return sa.func.unnest(*arrays).table_valued(*named, name="given").render_derived()


def parts(rows: Sequence[Any], most: int = ROWS_MAX) -> Iterator[Sequence[Any]]:
    """`rows`, so many at a time."""
    return (rows[start : start + most] for start in range(0, len(rows), most))
