"""Rows of truth in pages, in the order of their keys."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from psycopg import sql

from polyplane.truth.database import Connection
from polyplane.truth.rows import Row
from polyplane.truth.scan import Source, array_text, rows_by_key, rows_of

PAGE_BYTES: Final = 16 << 20
"""Of the rows of a page, as they are stored; one row may have more."""
_NARROW: Final = (sa.Uuid, sa.Integer, sa.Float, sa.Boolean, sa.DateTime, sa.Date, sa.Time)


async def page_of(
    connection: Connection, source: Source, after: str | None, limit: int
) -> list[Row]:
    """At most `limit` rows whose keys come behind `after` (None: the first ones), in the order of
    the key's own index; fewer where they are large, and none only at the end.
    """
    query = _page_query(source, is_first=after is None)
    named = {"limit": limit, "bytes": PAGE_BYTES, **({} if after is None else {"after": after})}
    cursor = await connection.execute(query, named, binary=source.binary)
    return await rows_of(connection, source, cursor)


def _page_query(source: Source, *, is_first: bool) -> sql.Composed:
    captured = source.captured
    names = [sql.Identifier("r", column.name) for column in captured.key_columns]
    order, types = sql.SQL(", ").join(names), [sql.SQL(it) for it in captured.key_types()]
    if len(types) == 1:
        behind = sql.SQL("%(after)s::{}").format(types[0])
    else:
        behind = sql.SQL(", ").join(
            sql.SQL("(%(after)s::jsonb ->> {})::{}").format(sql.Literal(i), it)
            for i, it in enumerate(types)
        )
    where = sql.SQL("") if is_first else sql.SQL("WHERE ({}) > ({})").format(order, behind)
    rows = sql.SQL("SELECT r.* FROM {} r {} ORDER BY {} LIMIT %(limit)s").format(
        captured.identifier, where, order
    )
    wide = [it for it in captured.table.columns if not isinstance(it.type, _NARROW)]
    if not wide:
        return sql.SQL("SELECT {} FROM ({}) r ORDER BY {}").format(source.columns, rows, order)
    size = sql.SQL(" + ").join(
        sql.SQL("coalesce(pg_column_size({}), 0)").format(sql.Identifier("r", it.name))
        for it in wide
    )
    return sql.SQL(
        "SELECT {} FROM (SELECT r.*, sum({}) OVER (ORDER BY {} ROWS BETWEEN UNBOUNDED PRECEDING"
        " AND 1 PRECEDING) AS polyplane_before FROM ({}) r) r"
        " WHERE coalesce(polyplane_before, 0) < %(bytes)s ORDER BY {}"
    ).format(source.columns, size, order, rows, order)


async def locked_by_key(connection: Connection, source: Source, keys: list[str]) -> dict[str, Any]:
    """The rows of `keys` that exist, as they are once nobody else can change them, until the
    transaction of `connection` ends.
    """
    captured = source.captured
    query = sql.SQL("SELECT FROM {} r WHERE {} ORDER BY {} FOR NO KEY UPDATE").format(
        captured.identifier, captured.by_keys(), captured.key_order()
    )
    await connection.execute(query, {"keys": array_text(keys)})
    return await rows_by_key(connection, source, keys)
