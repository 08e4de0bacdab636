"""Many rows in one statement: a column of them is one array, written as PostgreSQL writes it.

A driver looks at each value on its way; for thousands of rows of plain types that takes longer than
all the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects import postgresql

from polyplane.model.table import table_name

_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]


def _quoted(value: str) -> str:
    return '"{}"'.format(value.replace("\\", "\\\\").replace('"', '\\"'))


_PLAIN: Final[tuple[tuple[type[sa.types.TypeEngine[Any]], type, Callable[[Any], str]], ...]] = (
    (sa.Integer, int, str),
    (sa.String, str, _quoted),
    (sa.Uuid, UUID, str),
    (sa.Boolean, bool, str),
    (sa.DateTime, datetime, lambda it: f'"{it.isoformat()}"'),
    (sa.Date, date, date.isoformat),
    (sa.Float, float, repr),
    (sa.Numeric, Decimal, str),
)
_NOT_PLAIN: Final = (sa.Enum, sa.CHAR, postgresql.CITEXT)
Written = tuple[type, Callable[[Any], str]]


def how_written(column: sa.Column[Any]) -> Written | None:
    """The Python type of a plain column's values, and how one is written; None for others."""
    if isinstance(column.type, _NOT_PLAIN):
        return None
    found = ((kind, write) for base, kind, write in _PLAIN if isinstance(column.type, base))
    return next(found, None)


def array_of(values: Sequence[Any], written: Written) -> str | None:
    """`values` as an array; None when one of them is of another type than the column's."""
    kind, write = written
    if any(type(value) is not kind for value in values if value is not None):
        return None
    return "{" + ",".join(["NULL" if it is None else write(it) for it in values]) + "}"


def insert_sql(
    table: sa.Table, columns: Sequence[str], key: Sequence[str], same: str
) -> sql.Composed:
    """Insert, or update what is there, rows of arrays `a0`, `a1`, ... for `columns`.

    What is there under a key is left if it differs in the column `same` ('' for none).
    """
    changed = [name for name in columns if name not in key] or list(key)
    names = {column.key: sql.Identifier(column.name) for column in table.columns}
    condition: sql.Composable = sql.SQL("")
    if same:
        condition = sql.SQL(" WHERE t.{0} = excluded.{0}").format(names[same])
    return sql.SQL(
        "INSERT INTO {} AS t ({}) SELECT * FROM {} ON CONFLICT ({}) DO UPDATE SET {}{}"
    ).format(
        _identifier(table),
        sql.SQL(", ").join(names[it] for it in columns),
        _arrays(table, columns),
        sql.SQL(", ").join(names[it] for it in key),
        sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(names[it]) for it in changed),
        condition,
    )


def update_sql(table: sa.Table, columns: Sequence[str], key: Sequence[str]) -> sql.Composed:
    """Update rows that are there from arrays `a0`, `a1`, ... for `columns`, which include `key`."""
    names = {column.key: sql.Identifier(column.name) for column in table.columns}
    return sql.SQL("UPDATE {} AS t SET {} FROM {} AS v ({}) WHERE {}").format(
        _identifier(table),
        sql.SQL(", ").join(
            sql.SQL("{0} = v.{0}").format(names[it]) for it in columns if it not in key
        ),
        _arrays(table, columns),
        sql.SQL(", ").join(names[it] for it in columns),
        sql.SQL(" AND ").join(sql.SQL("t.{0} = v.{0}").format(names[it]) for it in key),
    )


def parameters(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], written: Sequence[Written]
) -> dict[str, str] | None:
    """The arrays of `rows` for the parameters; None when a value is not of its column's type."""
    found = {}
    for n, (name, how) in enumerate(zip(columns, written, strict=True)):
        array = array_of([row[name] for row in rows], how)
        if array is None:
            return None
        found[f"a{n}"] = array
    return found


def _arrays(table: sa.Table, columns: Sequence[str]) -> sql.Composed:
    # Without lengths: a cast would cut what is too long, and an assignment refuses it.
    types = [
        re.sub(r"\(.*?\)", "", table.columns[name].type.compile(dialect=_DIALECT))
        for name in columns
    ]
    arrays = [
        sql.SQL("{}::{}[]").format(sql.Placeholder(f"a{n}"), sql.SQL(kind))
        for n, kind in enumerate(types)
    ]
    return sql.SQL("unnest({})").format(sql.SQL(", ").join(arrays))


def _identifier(table: sa.Table) -> sql.Identifier:
    return sql.Identifier(*table_name(table).split(".", 1))
