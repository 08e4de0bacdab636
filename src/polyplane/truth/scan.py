"""Rows of truth as `derive` sees them: by key, or all of them in key order."""

from __future__ import annotations

import asyncio
from collections import namedtuple
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NoReturn

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.adapt import Transformer
from psycopg.pq import Format
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow
from sqlalchemy.dialects import postgresql

from polyplane.errors import Misconfigured
from polyplane.garbage import uncollected
from polyplane.model.key import can_be_told
from polyplane.model.secret import SealedText
from polyplane.model.table import Model, table_of
from polyplane.model.touches import Touch
from polyplane.truth.capture import Captured, text_of
from polyplane.truth.database import Connection, Database, in_our_words
from polyplane.truth.keyring import Keyring
from polyplane.truth.rows import Joined, Row, Unreadable
from polyplane.truth.statements import statement
from polyplane.truth.unlocking import Unlocker, lock_of, unlocker_of

_SORT_S = 900.0
"""How long the first row of a scan may take: all are sorted before it comes."""
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_ONE_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"

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


@dataclass(frozen=True, slots=True)
class Source:
    """How the rows of one model are read. Build it with `source_of`."""

    captured: Captured
    make: Callable[[Sequence[Any]], Any]
    columns: sql.Composed
    converters: tuple[tuple[int, Callable[[Any], Any]], ...]
    binary: bool
    """Whether psycopg knows the binary form of every column."""
    names: tuple[str, ...]
    """The columns, in the order of the values behind the key."""
    related: tuple[Related, ...] = ()
    unlock: Unlocker | None = None
    """Has secrets revealed, where whoever derives may read them."""

    def row(self, values: Sequence[Any]) -> Row:
        """(key, row object) of one fetched tuple, whose first value is the key."""
        if not self.converters:
            return values[0], self.make(values[1:])
        converted = list(values)
        for index, convert in self.converters:
            converted[index] = convert(converted[index])
        return converted[0], self.make(converted[1:])

    def row_by_row(self, connection: Connection, result: PGresult) -> Iterator[Row]:
        """As `row`, of all that was fetched, when there are some that cannot be read."""
        read = Transformer(connection)
        read.set_pgresult(result)
        for index in range(result.ntuples):
            try:
                found = self.row(read.load_row(index, tuple))
            except Exception as error:
                key = (result.get_value(index, 0) or b"").decode()
                found = key, Unreadable(self._culprit(connection, result, index), error)
            yield found

    def _culprit(self, connection: Connection, result: PGresult, index: int) -> str:
        """The first column of a fetched row that cannot be read."""
        read, converters = Transformer(connection), dict(self.converters)
        for column, name in enumerate(self.names, start=1):
            value = result.get_value(index, column)
            loader = read.get_loader(result.ftype(column), Format(result.fformat(column)))
            try:
                loaded = None if value is None else loader.load(value)
                if column in converters:
                    converters[column](loaded)
            except Exception:
                return name
        return ""


@dataclass(frozen=True, slots=True)
class Related:
    """How the rows that belong to those of a source are read, and their `name`.

    The first value of a row is not its own key, but that of the row it belongs to.
    """

    name: str
    source: Source
    query: sql.Composed


def source_of(
    model: type[Model], touches: Sequence[Touch] = (), ring: Keyring | None = None
) -> Source:
    """The reader of `model`'s rows, and of those it `touches`; with `ring`, of their secrets too.

    A row has the model's column attributes and nothing else: a relation, which would need
    another query for each row, raises AttributeError that says so.
    """
    captured = Captured(table_of(model))
    related = tuple(_related(captured, touch, ring) for touch in touches)
    return replace(_rows_of(model, captured.key(), ring), related=related)


def _related(parent: Captured, touch: Touch, ring: Keyring | None) -> Related:
    source = _rows_of(touch.model, text_of(touch.column), ring)
    (key_type,) = parent.key_types()
    query = sql.SQL(
        "SELECT {} FROM {} r WHERE {} = ANY(%(keys)s::text[]::{}[]) ORDER BY {}"
    ).format(
        source.columns,
        source.captured.identifier,
        sql.Identifier("r", touch.column.name),
        sql.SQL(key_type),
        source.captured.key_order(),
    )
    return Related(touch.name, source, query)


def _rows_of(model: type[Model], key: sql.Composed, ring: Keyring | None) -> Source:
    """The reader of `model`'s rows, each with the text `key` before it."""
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
        processor: Callable[[Any], Any] | None
        processor = column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None)
        if isinstance(column.type, SealedText) and ring is None:
            processor = lock_of(column)
        if processor is not None:
            convert.append((index, processor))
    return Source(
        captured=captured,
        make=partial(tuple.__new__, _row_class(model.__name__, [prop.key for prop in properties])),
        columns=sql.SQL(", ").join(
            [key, *(sql.Identifier("r", column.name) for column in columns)]
        ),
        converters=tuple(convert),
        binary=all(_has_binary_form(column.type) for column in columns),
        names=tuple(column.name for column in columns),
        unlock=None if ring is None else unlocker_of(model, ring),
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


def array_text(texts: Sequence[str]) -> str:
    """`texts` as PostgreSQL writes an array: psycopg would look at each of thousands of keys."""
    joined = '","'.join(texts)
    if "\\" in joined or joined.count('"') != 2 * max(0, len(texts) - 1):
        joined = '","'.join(t.replace("\\", "\\\\").replace('"', '\\"') for t in texts)
    return f'{{"{joined}"}}' if texts else "{}"


async def rows_by_key(
    connection: Connection, source: Source, keys: Sequence[str]
) -> dict[str, Any]:
    """Canonical key -> row, for those of `keys` that exist: one query, and one for each touch.

    `keys` may hold what is no key of this table at all, as a store that somebody wrote into does.
    """
    keys = [key for key in keys if can_be_told(key)]
    try:
        return await _where(connection, source, source.captured.by_keys(), keys)
    except psycopg.DataError:  # not even of the key's type: compare texts, without an index
        as_text = sql.SQL("{} = ANY(%(keys)s::text[])").format(source.captured.key())
        return await _where(connection, source, as_text, keys)


async def _where(
    connection: Connection, source: Source, condition: sql.Composed, keys: Sequence[str]
) -> dict[str, Any]:
    """The rows that fulfil `condition` on `keys`; several queries see one snapshot."""
    query = sql.SQL("SELECT {} FROM {} r WHERE {}").format(
        source.columns, source.captured.identifier, condition
    )
    if not source.related:
        cursor = await connection.execute(query, {"keys": array_text(keys)}, binary=source.binary)
        return dict(await rows_of(connection, source, cursor))
    async with connection.transaction():
        await connection.execute(_ONE_SNAPSHOT)
        cursor = await connection.execute(query, {"keys": array_text(keys)}, binary=source.binary)
        rows = await rows_of(connection, source, cursor)
        return dict(await _joined(connection, source, rows))


async def rows_of(
    connection: Connection, source: Source, cursor: psycopg.AsyncCursor[TupleRow]
) -> list[Row]:
    """What a query has found; row by row, when there are some that cannot be read."""
    try:
        rows = list(map(source.row, await cursor.fetchall()))
    except Exception:  # the answer is there, but something in it
        assert cursor.pgresult is not None
        rows = list(source.row_by_row(connection, cursor.pgresult))
    return rows if source.unlock is None else await source.unlock(rows)


async def _joined(connection: Connection, source: Source, rows: list[Row]) -> list[Row]:
    """`rows`, each with what is related to it; one query for each touch."""
    keys = [key for key, _ in rows]
    found: dict[str, dict[str, list[Any]]] = {related.name: {} for related in source.related}
    for related in source.related if keys else ():
        cursor = await connection.execute(
            related.query, {"keys": array_text(keys)}, binary=related.source.binary
        )
        owned = found[related.name]
        try:
            while some := await cursor.fetchmany(SCAN_ROWS):
                with uncollected():
                    for key, row in map(related.source.row, some):
                        owned.setdefault(key, []).append(row)
                await asyncio.sleep(0)  # they may be many: let others have their turn
        except Exception:  # as in `rows_of`
            assert cursor.pgresult is not None
            owned.clear()
            for key, row in related.source.row_by_row(connection, cursor.pgresult):
                owned.setdefault(key, []).append(row)
        if related.source.unlock is not None:
            await related.source.unlock.related(owned)
    with uncollected():
        return [
            (key, Joined(row, {name: tuple(owned.get(key, ())) for name, owned in found.items()}))
            for key, row in rows
        ]


async def count_rows(database: Database, source: Source) -> int:
    """How many rows there are."""
    query = sql.SQL("SELECT count(*) FROM {}").format(source.captured.identifier)
    async with database.connection(deadline_s=_SORT_S) as connection:
        cursor = await connection.execute(query)
        row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def some_keys(database: Database, source: Source, count: int, seed: int) -> list[str]:
    """The keys of `count` rows at random; the same for the same rows and `seed`."""
    query = sql.SQL("SELECT {0} FROM {1} r ORDER BY hashtextextended({0}, %s) LIMIT %s").format(
        source.captured.key(), source.captured.identifier
    )
    async with database.connection(deadline_s=_SORT_S) as connection:
        cursor = await connection.execute(query, (seed, count))
        return [row[0] for row in await cursor.fetchall()]


async def rows_about(database: Database, source: Source) -> int | None:
    """About how many rows there are, as PostgreSQL's statistics say; None when they do not."""
    found = await database.row(
        statement("journal", "rows_about"), {"name": source.captured.identifier.as_string()}
    )
    return int(found[0]) if found and found[0] else None


async def all_rows(
    database: Database,
    source: Source,
    *,
    batch_size: int = SCAN_ROWS,
    ordered: bool = False,
    after: str | None = None,
) -> AsyncGenerator[list[Row], None]:
    """Every row, in batches, from one snapshot; `ordered` by key (code points).

    With `after` only those whose keys come behind it. The snapshot is taken when the first batch
    is asked for.
    """
    captured, values = source.captured, None
    where = sql.Composed([])
    if after is not None:
        condition, text = captured.behind(after)
        where, values = sql.SQL("WHERE {}").format(condition), {"after": text}
    query = sql.SQL("SELECT {} FROM {} r {} {}").format(
        source.columns,
        captured.identifier,
        where,
        captured.in_key_order() if ordered else sql.SQL(""),
    )
    with in_our_words():
        async with (
            database.connection(deadline_s=_SORT_S) as connection,
            connection.transaction(),
        ):
            await connection.execute(_ONE_SNAPSHOT)
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '10min'")
            async with connection.cursor("scan", binary=source.binary) as cursor:
                cursor.itersize = batch_size
                await cursor.execute(query, values)
                while rows := await _fetched(connection, source, cursor, batch_size):
                    if source.unlock is not None and not (rows := await source.unlock(rows)):
                        continue
                    if source.related:
                        rows = await _joined(connection, source, rows)
                    yield rows


async def _fetched(
    connection: Connection, source: Source, cursor: psycopg.AsyncServerCursor[Any], size: int
) -> list[Row]:
    """The next rows of a scan; one by one, when there are some that cannot be read."""
    before = cursor.pgresult
    try:
        batch = await cursor.fetchmany(size)
        with uncollected():
            rows = [source.row(values) for values in batch]
            batch.clear()  # before the collector is back
        return rows
    except Exception:
        if cursor.pgresult is None or cursor.pgresult is before:  # no answer came
            raise
        return list(source.row_by_row(connection, cursor.pgresult))
