"""Points of a stream as Arrow tables: what comes in is validated here, once, column by column.

Two ways in, one result: `decode` takes columns of plain Python or JSON values, `decode_ipc` Arrow
stream bytes. Both give a table of exactly `arrow_schema(stream)` or raise Refused naming the
column and the first bad row. Everything is vectorised; only the search for a bad row is not.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from polyplane.errors import Refused, TooLarge
from polyplane.model.digest import canonical
from polyplane.model.stream import Column, Stream
from polyplane.model.tenancy import of_tenant

MAX_ROWS: Final = 100_000
"""Most points in one batch."""
MAX_NAME: Final = 255
"""Most characters of a text that the stream sorts or filters by (`order_by`, `indexes`)."""
MAX_TEXT: Final = 65_536
"""Most bytes of any other text, JSON included."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""Most bytes that the dictionary-encoded texts of one column may expand to."""
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""Timestamps lie in [EARLIEST, LATEST): what every series engine can partition and expire."""
EVENT_ID: Final = "event_id"
EVENT_ID_TYPE: Final = pa.binary(16)

ARROW_TYPES: Final[dict[type, pa.DataType]] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", "UTC"),
    UUID: pa.uuid(),
    dict: pa.string(),  # canonical JSON: Arrow has no type that keeps any object as it is
}
_PYTHON_TYPES: Final[dict[type, set[type]]] = {
    float: {float, int},
    datetime: {datetime, str},
    UUID: {UUID, str},
}
_EXPECTED: Final[dict[type, str]] = {
    str: "a text that is not too long",
    int: "a whole number of at most 64 bits",
    float: "a finite number that a 64-bit float holds exactly",
    bool: "true or false",
    datetime: "an RFC 3339 timestamp with a zone, at most microseconds, from 1970 to 2099",
    UUID: "a UUID",
    dict: "a JSON object of finite numbers that is not too long",
}
_RFC3339: Final = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})$"


def arrow_schema(stream: type[Stream]) -> pa.Schema:
    """The columns of `stream` as Arrow types; a `dict` column is canonical JSON text."""
    return pa.schema(
        [pa.field(c.name, ARROW_TYPES[c.type], nullable=c.optional) for c in stream.columns()]
    )


def decode(
    stream: type[Stream], columns: Mapping[str, Sequence[Any]], *, max_rows: int = MAX_ROWS
) -> pa.Table:
    """A validated table from columns of plain values, as JSON or Python brings them.

    UUIDs and timestamps may be text. Raises Refused naming the column and row, TooLarge.
    """
    lengths = {name: len(values) for name, values in columns.items()}
    return _table(stream, columns, lengths, max_rows)


def decode_ipc(
    stream: type[Stream], payload: bytes, *, max_rows: int = MAX_ROWS, tenant: str | None = None
) -> pa.Table:
    """A validated table from Arrow IPC stream bytes of untrusted origin.

    Lossless casts are made (narrow numbers, other time units and zones, dictionaries, text for
    UUIDs). Raises Refused naming the column and row, TooLarge.
    """
    found = _read_ipc(payload, max_rows)
    if tenant is not None:
        found = of_tenant(stream, found, tenant)
    return conform(stream, found, max_rows=max_rows)


def encode_ipc(stream: type[Stream], points: pa.Table) -> bytes:
    """`points`, validated, as Arrow IPC stream bytes."""
    return ipc_bytes(conform(stream, points))


def ipc_bytes(table: pa.Table) -> bytes:
    """A table, as it is, as Arrow IPC stream bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def conform(stream: type[Stream], points: pa.Table, *, max_rows: int = MAX_ROWS) -> pa.Table:
    """`points` as a table of `arrow_schema(stream)`; Refused, TooLarge as `decode_ipc`."""
    names = points.column_names
    if len(set(names)) != len(names):
        raise Refused("A column is there twice.", field=max(names, key=names.count))
    columns = {name: points.column(name).combine_chunks() for name in names}
    return _table(stream, columns, dict.fromkeys(names, points.num_rows), max_rows)


def event_ids(batch_id: str, n: int) -> pa.Array:
    """The identities of the `n` points of a batch: 8 bytes of the batch, 8 of the row index.

    Deterministic, so that a batch that is delivered again brings the same points again.
    """
    halves = np.empty((n, 2), dtype=">u8")
    halves[:, 0] = int.from_bytes(blake2b(batch_id.encode(), digest_size=8).digest(), "big")
    halves[:, 1] = np.arange(n)
    return pa.FixedSizeBinaryArray.from_buffers(EVENT_ID_TYPE, n, [None, pa.py_buffer(halves)])


def _table(
    stream: type[Stream], columns: Mapping[str, Any], lengths: Mapping[str, int], max_rows: int
) -> pa.Table:
    """The checks on the batch as a whole, then each column."""
    declared = {column.name: column for column in stream.columns()}
    for name in columns:
        if name not in declared:
            known = ", ".join(declared)
            raise Refused(
                f"{stream.name} has no column {name}.", field=name, fix=f"It has {known}."
            )
    for name, column in declared.items():
        if name not in columns and not column.optional:
            raise Refused(f"The column {name} is required.", field=name)
    rows = lengths["time"]
    if rows == 0:
        raise Refused("There are no points in the batch.", field="time")
    if rows > max_rows:
        raise TooLarge(f"A batch has at most {max_rows} points, not {rows}.", field="time")
    for name, length in lengths.items():
        if length != rows:
            raise Refused(f"{name} has {length} values but time has {rows}.", field=name)
    schema = arrow_schema(stream)
    names = {*stream.order_by, *stream.indexes}
    arrays = [
        _column(column, columns[name], name in names)
        if name in columns
        else pa.nulls(rows, schema.field(name).type)
        for name, column in declared.items()
    ]
    return pa.table(arrays, schema=schema)


def _column(column: Column, values: Any, is_name: bool) -> pa.Array:
    """The validated array of one column; Refused names the first row that does not fit."""

    def shape(some: Any) -> pa.Array:
        array = some if isinstance(some, pa.Array) else _plain_array(column, some)
        array = _SHAPES[column.type](array, MAX_NAME if is_name else MAX_TEXT)
        if array.null_count and not column.optional:
            raise ValueError("null in a required column")
        return array

    try:
        return shape(values)
    except (ValueError, TypeError, OverflowError, NotImplementedError) as error:
        # A prefix fails if and only if it has a bad row: bisect for the shortest that fails.
        low, high = 0, len(values)
        while high - low > 1:
            middle = (low + high) // 2
            try:
                shape(values[:middle])
                low = middle
            except (ValueError, TypeError, OverflowError, NotImplementedError):
                high = middle
        expected = _EXPECTED[column.type] + (" or null" if column.optional else "")
        raise Refused(
            f"{column.name}, row {low}: expected {expected}, not {_shown(values[low])}.",
            field=column.name,
        ) from error


def _shown(value: Any) -> str:
    """`value` for people, short."""
    try:
        text = repr(value.as_py() if isinstance(value, pa.Scalar) else value)
    except (ValueError, LookupError, OverflowError):  # what a hostile Arrow type cannot show
        text = "this"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain_array(column: Column, values: Any) -> pa.Array:
    """Python values as the Arrow array that loses nothing of them.

    Arrow's own conversion is too kind: True becomes 1.0 and a naive time becomes UTC. So the
    Python types decide first.
    """
    if isinstance(values, np.ndarray):
        return pa.array(values)
    types = set(map(type, values)) - {type(None)}
    allowed = _PYTHON_TYPES.get(column.type, {column.type})
    if not types <= allowed:
        raise TypeError(f"{types - allowed} in a column of {column.type}")
    if types == {dict}:
        texts = [None if v is None else canonical(v).decode() for v in values]
        _refuse_hidden_nan(values, texts)
        return pa.array(texts, pa.string())
    if datetime in types and str in types:
        values = [v.isoformat() if isinstance(v, datetime) else v for v in values]
    elif datetime in types and any(v.tzinfo is None for v in values if v is not None):
        raise ValueError("a timestamp without a zone")
    if UUID in types:
        values = [None if v is None else str(v) for v in values]
    return pa.array(values)


def _refuse_hidden_nan(values: Sequence[Any], texts: Sequence[str | None]) -> None:
    """JSON writes NaN and infinity as null: look where there is a null."""
    for value, text in zip(values, texts, strict=True):
        if text is not None and "null" in text and not _finite(value):
            raise ValueError("a number that is not finite")


def _finite(value: Any) -> bool:
    match value:
        case float():
            return math.isfinite(value)
        case dict():
            return all(map(_finite, value.values()))
        case list() | tuple():
            return all(map(_finite, value))
    return True


def _text(array: pa.Array, longest: int) -> pa.Array:
    """Any encoding of text as plain strings of bounded length."""
    kind = array.type
    if pa.types.is_null(kind):
        return array.cast(pa.string())
    if pa.types.is_dictionary(kind) and array.null_count < len(array):
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        if pc.sum(lengths).as_py() > MAX_BYTES:
            raise ValueError("the dictionary expands to too much")
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()):
        raise TypeError(f"{kind} is not text")
    texts = array.cast(pa.string())
    measure = pc.utf8_length if longest == MAX_NAME else pc.binary_length
    if (pc.max(measure(texts)).as_py() or 0) > longest:
        raise ValueError("too long")
    return texts


def _int(array: pa.Array, _: int) -> pa.Array:
    if not (pa.types.is_integer(array.type) or pa.types.is_null(array.type)):
        raise TypeError(f"{array.type} is not a whole number")
    return array.cast(pa.int64())


def _float(array: pa.Array, _: int) -> pa.Array:
    kind = array.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise TypeError(f"{kind} is not a number")
    numbers = array.cast(pa.float64())
    if pc.all(pc.is_finite(numbers)).as_py() is False:
        raise ValueError("not finite")
    return numbers


def _bool(array: pa.Array, _: int) -> pa.Array:
    if not (pa.types.is_boolean(array.type) or pa.types.is_null(array.type)):
        raise TypeError(f"{array.type} is not a truth value")
    return array.cast(pa.bool_())


def _time(array: pa.Array, _: int) -> pa.Array:
    if not (pa.types.is_timestamp(array.type) or pa.types.is_null(array.type)):
        array = pc.utf8_upper(_text(array, MAX_NAME))
        if pc.all(pc.match_substring_regex(array, _RFC3339)).as_py() is False:
            raise ValueError("not RFC 3339 with a zone")
    elif pa.types.is_timestamp(array.type) and array.type.tz is None:
        raise ValueError("a timestamp without a zone")
    times = array.cast(ARROW_TYPES[datetime])
    bounds = pc.min_max(times)
    if bounds["min"].is_valid and not (
        bounds["min"].as_py() >= EARLIEST and bounds["max"].as_py() < LATEST
    ):
        raise ValueError("out of range")
    return times


def _uuid(array: pa.Array, _: int) -> pa.Array:
    if isinstance(array.type, pa.UuidType):
        return array
    if array.type != pa.binary(16):
        # Few distinct values are usual (one experiment, one run): parse each of them once.
        distinct = _text(array, MAX_NAME).dictionary_encode()
        parsed = pa.array([_uuid_bytes(t) for t in distinct.dictionary.to_pylist()], pa.binary(16))
        array = parsed.take(distinct.indices)
    return pa.ExtensionArray.from_storage(pa.uuid(), array)


def _uuid_bytes(text: str) -> bytes:
    parsed = UUID(text)
    if str(parsed) != text.lower():  # UUID() also takes braces, urn: and no hyphens
        raise ValueError("not the canonical form of a UUID")
    return parsed.bytes


def _json(array: pa.Array, longest: int) -> pa.Array:
    """JSON objects as canonical text, each distinct text parsed once."""
    storage = array.storage if isinstance(array, pa.ExtensionArray) else array
    distinct = _text(storage, longest).dictionary_encode()
    texts = distinct.dictionary.to_pylist()
    objects = [orjson.loads(text) for text in texts]
    if not all(isinstance(each, dict) for each in objects):
        raise ValueError("not a JSON object")
    canonicals = pa.array([canonical(each).decode() for each in objects], pa.string())
    return canonicals.take(distinct.indices)


_SHAPES: Final[dict[type, Callable[[pa.Array, int], pa.Array]]] = {
    str: _text,
    int: _int,
    float: _float,
    bool: _bool,
    datetime: _time,
    UUID: _uuid,
    dict: _json,
}


def _read_ipc(payload: bytes, max_rows: int) -> pa.Table:
    """The table in `payload`, safe to compute with: fully validated, never larger than it."""
    try:
        for message in pa.ipc.MessageReader.open_stream(payload):
            if message.type in ("record batch", "dictionary") and _compressed(message):
                # Compression inside Arrow hides the size; transports have their own.
                raise Refused("The Arrow buffers are compressed.", fix="Send them as they are.")
        batches, rows = [], 0
        with pa.ipc.open_stream(payload) as reader:
            for batch in reader:
                rows += batch.num_rows
                if rows > max_rows:
                    raise TooLarge(f"A batch has at most {max_rows} points.", field="time")
                batch.validate(full=True)
                batches.append(batch)
            if not reader.schema.names:  # a name that is not UTF-8 fails here
                raise ValueError("no columns")
            return pa.Table.from_batches(batches, reader.schema)
    except (pa.ArrowException, ValueError, TypeError, OSError, struct.error) as error:
        raise Refused("This is not a readable Arrow IPC stream.") from error


def _compressed(message: pa.Message) -> bool:
    """Whether a record batch (or a dictionary's) declares compressed buffers.

    Arrow's flatbuffers: Message.header is slot 2, DictionaryBatch.data slot 1,
    RecordBatch.compression slot 3.
    """
    buffer = message.metadata
    root = struct.unpack_from("<I", buffer, 0)[0]
    batch = _child(buffer, root, 2)
    if message.type == "dictionary" and batch:
        batch = _child(buffer, batch, 1)
    return bool(batch and _child(buffer, batch, 3))


def _child(buffer: Any, table: int, slot: int) -> int | None:
    """The position of the table that `slot` of the flatbuffer table at `table` refers to."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    size = struct.unpack_from("<H", buffer, vtable)[0]
    if 4 + 2 * slot >= size:
        return None
    offset = struct.unpack_from("<H", buffer, vtable + 4 + 2 * slot)[0]
    if not offset:
        return None
    return int(table + offset + struct.unpack_from("<I", buffer, table + offset)[0])
