"""Rows of truth as `derive` sees them: by key, or all of them in key order."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects import postgresql

from polyplane.errors import Misconfigured
from polyplane.garbage import uncollected
from polyplane.model.key import can_be_told
from polyplane.model.table import Model, table_of
from polyplane.truth.capture import Captured
from polyplane.truth.database import Connection, Database, in_our_words

_SORT_S = 900.0
"""How long the first row of a scan may take: all are sorted before it comes."""
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

_BINARY = (
    sa.Uuid,
    sa.String,
    sa.Integer,
    sa.Float,
    sa.Numeric,
    sa.Boolean,
    sa.DateTime,
    sa.Date,
    sa.LargeBinary,
    postgresql.JSONB,
)

SCAN_ROWS: Final = 2_000
"""Rows of a scan to work on at a time: few enough to stay in the processor's caches, and for the
event loop to serve others in between."""

Row = tuple[str, Any]
"""(canonical key, the row as an object with one attribute per column)."""


@dataclass(frozen=True, slots=True)
class Source:
    """How the rows of one model are read. Build it with `source_of`."""

    captured: Captured
    make: Callable[[Sequence[Any]], Any]
    columns: sql.Composed
    converters: tuple[tuple[int, Callable[[Any], Any]], ...]
    binary: bool
    """Whether psycopg knows the binary form of every column."""

    def row(self, values: Sequence[Any]) -> Row:
        """(key, row object) of one fetched tuple, whose first value is the key."""
        if not self.converters:
            return values[0], self.make(values[1:])
        converted = list(values)
        for index, convert in self.converters:
            converted[index] = convert(converted[index])
        return converted[0], self.make(converted[1:])


def source_of(model: type[Model]) -> Source:
    """The reader of `model`'s rows.

    A row has the model's column attributes and nothing else: a relation, which would need
    another query for each row, raises AttributeError that says so.
    """
    mapper = sa.inspect(model)
    captured = Captured(table_of(model))
    properties = list(mapper.column_attrs)
    columns = [prop.columns[0] for prop in properties]
    convert = []
    for index, column in enumerate(columns, start=1):
        if not isinstance(column, sa.Column):
            raise Misconfigured(f"{model.__name__}.{column} is not a plain column.")
        if _native(column.type):
            continue
        processor = column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None)
        if processor is not None:
            convert.append((index, processor))
    return Source(
        captured=captured,
        make=partial(tuple.__new__, _row_class(model.__name__, [prop.key for prop in properties])),
        columns=sql.SQL(", ").join(
            [captured.key(), *(sql.Identifier("r", column.name) for column in columns)]
        ),
        converters=tuple(convert),
        binary=all(_has_binary_form(column.type) for column in columns),
    )


def _native(kind: sa.types.TypeEngine[Any]) -> bool:
    """Types psycopg already gives as the Python value people expect."""
    if isinstance(kind, sa.Enum):  # a label that was added later is a string like the others
        return kind.enum_class is None
    return isinstance(
        kind, sa.Uuid | sa.JSON | sa.Numeric | sa.Float | sa.DateTime | postgresql.UUID
    )


def _has_binary_form(kind: sa.types.TypeEngine[Any]) -> bool:
    """Whether psycopg reads it in binary; of a type it does not know it would give the bytes."""
    return isinstance(kind, _BINARY) and not isinstance(kind, sa.Enum | postgresql.CITEXT)


def _row_class(name: str, fields: Sequence[str]) -> type[Any]:
    """A light immutable class with one attribute per column."""

    def missing(self: object, attribute: str) -> NoReturn:
        raise AttributeError(
            f"{name}.{attribute} is not a column; derive sees the row's own columns only."
        )

    try:
        base = namedtuple(f"{name}Row", fields)  # type: ignore[misc]  # fields known at run time
    except ValueError as error:
        raise Misconfigured(f"{name}: {error}.", fix="Map that column by another name.") from None
    return type(base.__name__, (base,), {"__slots__": (), "__getattr__": missing})


async def rows_by_key(
    connection: Connection, source: Source, keys: Sequence[str]
) -> dict[str, Any]:
    """Canonical key -> row, for those of `keys` that exist, in one query.

    `keys` may hold what is no key of this table at all, as a store that somebody wrote into does.
    """
    keys = [key for key in keys if can_be_told(key)]
    query = sql.SQL("SELECT {} FROM {} r WHERE {}")
    select = (source.columns, source.captured.identifier)
    try:
        cursor = await connection.execute(
            query.format(*select, source.captured.by_keys()),
            {"keys": keys},
            binary=source.binary,
        )
    except psycopg.DataError:  # not even of the key's type: compare texts, without an index
        as_text = sql.SQL("{} = ANY(%(keys)s::text[])").format(source.captured.key())
        cursor = await connection.execute(
            query.format(*select, as_text), {"keys": keys}, binary=source.binary
        )
    return dict(map(source.row, await cursor.fetchall()))


async def some_keys(database: Database, source: Source, count: int, seed: int) -> list[str]:
    """The keys of `count` rows at random; the same for the same rows and `seed`."""
    query = sql.SQL("SELECT {0} FROM {1} r ORDER BY hashtextextended({0}, %s) LIMIT %s").format(
        source.captured.key(), source.captured.identifier
    )
    async with database.connection(deadline_s=_SORT_S) as connection:
        cursor = await connection.execute(query, (seed, count))
        return [row[0] for row in await cursor.fetchall()]


async def all_rows(
    database: Database, source: Source, *, batch_size: int = SCAN_ROWS, ordered: bool = False
) -> AsyncGenerator[list[Row], None]:
    """Every row, in batches, from one snapshot; `ordered` by key (code points).

    The snapshot is taken when the first batch is asked for.
    """
    query = sql.SQL("SELECT {} FROM {} r {}").format(
        source.columns,
        source.captured.identifier,
        source.captured.in_key_order() if ordered else sql.SQL(""),
    )
    with in_our_words():
        async with (
            database.connection(deadline_s=_SORT_S) as connection,
            connection.transaction(),
        ):
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '10min'")
            async with connection.cursor("scan", binary=source.binary) as cursor:
                cursor.itersize = batch_size
                await cursor.execute(query)
                while batch := await cursor.fetchmany(batch_size):
                    with uncollected():
                        rows = [source.row(values) for values in batch]
                        batch.clear()  # before the collector is back
                    yield rows
