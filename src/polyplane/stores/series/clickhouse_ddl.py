"""The ClickHouse table of a stream, as SQL. Pure.

Text is written as ClickHouse itself prints it, so that what `system.tables` and `system.columns`
show can be compared with what is declared.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from polyplane.errors import Misconfigured
from polyplane.model.points import EVENT_ID
from polyplane.model.stream import Column, Stream

_TYPES: Final[dict[type, str]] = {
    str: "String",
    int: "Int64",
    float: "Float64",
    bool: "Bool",
    datetime: "DateTime64(6, 'UTC')",
    UUID: "UUID",
    # Canonical JSON as text: the engine's JSON type drops nulls, changes number types and has no
    # Arrow form, and JSONExtract reads text just as well.
    dict: "String",
}
_CODECS: Final[dict[type, str]] = {
    datetime: "Delta(8), ZSTD(1)",
    float: "Gorilla(8), ZSTD(1)",
    int: "T64, ZSTD(1)",
}
_DEDUPLICATION_WINDOW: Final = 100_000
"""Batches whose tokens a table remembers; far more than can be in flight."""
_ZSTD_LATER: Final = 9
"""Compression level of parts older than `compress_after_days`."""

# A power cut can break many parts at once; that is no reason to refuse the whole table, since
# nothing that `barrier` has confirmed is in them. Merges are synced, because they replace parts
# that were confirmed.
_TOLERANCE: Final = {
    "non_replicated_deduplication_window": _DEDUPLICATION_WINDOW,
    "max_suspicious_broken_parts": 1_000_000,
    "max_suspicious_broken_parts_bytes": 1 << 60,
    "min_rows_to_fsync_after_merge": 1,
    "min_compressed_bytes_to_fsync_after_merge": 1,
    "fsync_part_directory": 1,
}


def quoted(name: str) -> str:
    """`name` as a ClickHouse identifier."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def names_of(stream: type[Stream]) -> set[str]:
    """The columns that queries filter by."""
    return {*stream.order_by, *stream.indexes}


def column_type(stream: type[Stream], column: Column) -> str:
    """The ClickHouse type of `column`; names that queries filter by are low-cardinality."""
    name = _TYPES[column.type]
    if column.optional:
        name = f"Nullable({name})"
    if column.type is str and column.name in names_of(stream):
        name = f"LowCardinality({name})"
    return name


def column_types(stream: type[Stream]) -> dict[str, str]:
    """Every column of the stream's table -> its type, `event_id` last."""
    types = {column.name: column_type(stream, column) for column in stream.columns()}
    return {**types, EVENT_ID: "FixedString(16)"}


def sorting_key(stream: type[Stream]) -> str:
    """What points are sorted by, and one point is: `event_id` keeps different points apart."""
    return ", ".join([*stream.order_by, "time", EVENT_ID])


def ttl(stream: type[Stream]) -> str:
    """The TTL clause without its keyword: recompression and retention; empty for neither.

    As DateTime64: a DateTime ends in 2106 and would wrap around, and expire what is new.
    """
    clauses = []
    if stream.compress_after_days is not None:
        after = f"time + toIntervalDay({stream.compress_after_days})"
        clauses.append(f"{after} RECOMPRESS CODEC(ZSTD({_ZSTD_LATER}))")
    if stream.retention_days is not None:
        clauses.append(f"time + toIntervalDay({stream.retention_days})")
    return ", ".join(clauses)


def create_table(database: str, stream: type[Stream], *, fsync_inserts: bool) -> str:
    """CREATE TABLE for `stream`; `fsync_inserts` where we cannot sync the folder ourselves.

    Raises Misconfigured for a stream that ClickHouse cannot sort.
    """
    _check(stream)
    columns = [_column_sql(stream, column) for column in stream.columns()]
    columns.append(f"{EVENT_ID} FixedString(16) CODEC(ZSTD(1))")
    # Finds the points of a batch whatever the table is sorted by (`batch_of`).
    columns.append(f"INDEX by_batch {batch_of(EVENT_ID)} TYPE bloom_filter(0.001) GRANULARITY 1")
    columns += [_index_sql(column) for column in stream.columns() if _indexed(stream, column)]
    settings = _TOLERANCE | ({"fsync_after_insert": 1} if fsync_inserts else {})
    return "\n".join(
        [
            f"CREATE TABLE IF NOT EXISTS {quoted(database)}.{quoted(stream.name)} (",
            ",\n".join(f"    {line}" for line in columns),
            ")",
            "ENGINE = ReplacingMergeTree",
            "PARTITION BY toYYYYMM(time)",
            f"PRIMARY KEY ({', '.join([*stream.order_by, 'time'])})",
            f"ORDER BY ({sorting_key(stream)})",
            *([f"TTL {ttl(stream)}"] if ttl(stream) else []),
            "SETTINGS " + ", ".join(f"{name} = {value}" for name, value in settings.items()),
        ]
    )


def batch_of(event_id: str) -> str:
    """The batch part (first eight bytes, little-endian) of an event id expression."""
    return f"reinterpretAsUInt64({event_id})"


def index_of(event_id: str) -> str:
    """The index within its batch (last eight bytes, big-endian) of an event id expression."""
    return f"reinterpretAsUInt64(reverse(substring({event_id}, 9, 8)))"


def changes(
    database: str, stream: type[Stream], found: Mapping[str, str], found_key: str, engine: str
) -> list[str]:
    """ALTER statements that bring an existing table to the declaration: new columns, TTL.

    `found` maps the table's columns to their types, `found_key` is its sorting key and `engine`
    its full engine clause. Raises Misconfigured for what must not be changed in place.
    """
    alter = f"ALTER TABLE {quoted(database)}.{quoted(stream.name)}"
    statements = []
    for column in stream.columns():
        declared = column_type(stream, column)
        if column.name not in found:
            if not column.optional:
                raise Misconfigured(
                    f"{stream.name}.{column.name} is new, but older points have no value for it.",
                    fix="Declare it | None.",
                )
            statements.append(f"{alter} ADD COLUMN IF NOT EXISTS {_column_sql(stream, column)}")
            if _indexed(stream, column):
                statements.append(f"{alter} ADD {_index_sql(column)}")
        elif found[column.name] != declared:
            raise Misconfigured(
                f"{stream.name}.{column.name} is stored as {found[column.name]}, not {declared}.",
                fix="Give the changed column, or the stream, a new name.",
            )
    if found_key != sorting_key(stream):
        raise Misconfigured(
            f"{stream.name} is sorted by ({found_key}), not by ({sorting_key(stream)}).",
            fix="Give the stream a new name.",
        )
    stored = engine.partition(" TTL ")[2].partition(" SETTINGS ")[0]
    if stored != ttl(stream):
        verb = f"MODIFY TTL {ttl(stream)}" if ttl(stream) else "REMOVE TTL"
        statements.append(f"{alter} {verb}")
    return statements


def _check(stream: type[Stream]) -> None:
    declared = {column.name: column for column in stream.columns()}
    for name in (*declared, stream.name):
        if not name.isidentifier() or name == EVENT_ID:
            raise Misconfigured(f"{stream.name}: a column or stream cannot be called {name!r}.")
    for name in names_of(stream):
        if name not in declared or name == "time":
            raise Misconfigured(f"{stream.name}: {name} is no column to sort or filter by.")
        if declared[name].type is dict:
            raise Misconfigured(f"{stream.name}: JSON column {name} cannot be filtered by.")
    for name in stream.order_by:
        if declared[name].optional:
            raise Misconfigured(f"{stream.name}: {name} is in order_by and must not be optional.")
    if declared["time"].type is not datetime or declared["time"].optional:
        raise Misconfigured(f"{stream.name}.time must be a datetime.")
    for days in (stream.retention_days, stream.compress_after_days):
        if days is not None and not 1 <= days <= 36_500:
            raise Misconfigured(f"{stream.name}: {days} is not a number of days from 1 to 36,500.")


def _column_sql(stream: type[Stream], column: Column) -> str:
    codec = _CODECS.get(column.type, "ZSTD(1)")
    return f"{quoted(column.name)} {column_type(stream, column)} CODEC({codec})"


def _indexed(stream: type[Stream], column: Column) -> bool:
    return column.name == "time" or column.name in stream.indexes


def _index_sql(column: Column) -> str:
    """Skips granules by range where values have an order, else by membership."""
    ordered = column.type in (int, float, datetime)
    kind = "minmax" if ordered else "bloom_filter(0.01)"
    return f"INDEX by_{column.name} {quoted(column.name)} TYPE {kind} GRANULARITY 1"
