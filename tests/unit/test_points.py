"""Points come in whole or not at all, and what is refused is named by column and row."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from polyplane.errors import Refused, TooLarge
from polyplane.model import points
from polyplane.model.stream import Stream
from polyplane.testing.readings import Reading, readings

NAN = float("nan")


class Tiny(Stream):
    order_by = ("metric",)
    metric: str
    value: float
    note: str | None
    level: int | None
    good: bool | None
    run: UUID | None
    extra: dict[str, Any] | None


def tiny(n: int = 3, **changed: Any) -> dict[str, Any]:
    """The required columns of `n` points, and `changed` ones."""
    columns = {"time": ["2026-01-01T00:00:00Z"] * n, "metric": ["heat"] * n, "value": [1.5] * n}
    return columns | changed


def _named(value: object) -> str:
    """A test's name without addresses: it must be the same in every process."""
    return re.sub(r" at 0x\w+", "", ascii(value))[:40]


def refused(**changed: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        points.decode(Tiny, tiny(**changed))
    return caught.value


def test_json_and_python_give_the_same_points() -> None:
    columns = readings(50)
    text = orjson.loads(orjson.dumps(columns, default=str))
    table = points.decode(Reading, columns)
    assert table == points.decode(Reading, text)
    assert table.schema == points.arrow_schema(Reading)
    rows = table.to_pylist()
    assert rows[7]["time"] == columns["time"][7]
    assert rows[7]["run"] == UUID(columns["run"][7])
    assert rows[7]["extra"] == '{"a":{"é":"\u2028"},"b":[7,null]}'
    assert rows[0]["extra"] is None


def test_arrow_bytes_give_the_same_points() -> None:
    table = points.decode(Reading, readings(50))
    assert points.decode_ipc(Reading, points.encode_ipc(Reading, table)) == table
    assert points.conform(Reading, table) == table


def test_missing_optional_columns_are_null() -> None:
    table = points.decode(Tiny, tiny())
    assert table.schema == points.arrow_schema(Tiny)
    assert table["note"].null_count == 3


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01t00:00:00z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01 00:00:00.5+02:00", datetime(2025, 12, 31, 22, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-01T00:00:00.000001-00:30", datetime(2026, 1, 1, 0, 30, 0, 1, tzinfo=UTC)),
        ("1970-01-01T00:00:00Z", points.EARLIEST),
        (
            datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
    ],
)
def test_timestamps(text: Any, moment: datetime) -> None:
    assert points.decode(Tiny, tiny(1, time=[text]))["time"].to_pylist() == [moment]


BAD: dict[str, list[Any]] = {
    "value": [
        *(NAN, float("inf"), None, "1", True, 10**400, 2**63, 2**53 + 1),
        *([], {}, UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC)),
    ],
    "time": [
        *(None, 1767225600, "2026-01-01", "2026-01-01T00:00:00", "now", "", datetime(2026, 1, 1)),
        *("2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00.1234567Z"),
        *("1969-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "9999-12-31T00:00:00Z"),
        "2026-01-01T00:00:00+2:00",
    ],
    "metric": [None, 1, b"heat", "x" * 256, "\ud800", ["heat"]],
    "note": [1, "é" * 32_769, {}],
    "level": [1.0, 1.5, "1", True, 2**63, -(2**63) - 1, NAN],
    "good": [1, 0, "true", 1.0],
    "run": [
        *("x", "0" * 32, "{00000000-0000-0000-0000-000000000001}", 1, b"0" * 16),
        "urn:uuid:00000000-0000-0000-0000-000000000001",
    ],
    "extra": [
        *("{}", [], 1, {"a": NAN}, {"a": [{"b": float("inf")}]}),
        *({1: "a"}, {"a": "x" * 70_000}, {"a": object()}),
    ],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD.items() for value in values],
    ids=_named,
)
def test_a_bad_value_is_named_by_column_and_row(name: str, value: Any) -> None:
    good = {
        "value": 1.5,
        "time": "2026-01-01T00:00:00Z",
        "metric": "heat",
        "note": "a",
        "level": 1,
        "good": True,
        "run": str(UUID(int=1)),
        "extra": {"a": None},
    }[name]
    for row in (0, 3, 6):
        column = [good] * 7
        column[row] = value
        error = refused(**tiny(7, **{name: column}))
        assert error.field == name
        assert re.match(rf"{name}, row {row}: expected ", error.message)
        assert len(error.message) < 250


def test_a_batch_that_is_no_batch() -> None:
    assert refused(color=[1, 2, 3]).field == "color"
    assert refused(event_id=[b"x"] * 3).field == "event_id"
    assert refused(value=[1.0, 2.0]).field == "value"
    assert refused(time=[], metric=[], value=[]).field == "time"
    with pytest.raises(Refused) as caught:
        points.decode(Tiny, {"time": ["2026-01-01T00:00:00Z"], "value": [1.0]})
    assert caught.value.field == "metric"
    with pytest.raises(TooLarge):
        points.decode(Tiny, tiny(11), max_rows=10)
    with pytest.raises(Refused):
        points.decode(Tiny, {})


def test_numpy_columns() -> None:
    table = points.decode(Tiny, tiny(value=np.arange(3.0), level=np.arange(3, dtype=np.int32)))
    assert table["value"].to_pylist() == [0.0, 1.0, 2.0]
    assert table["level"].to_pylist() == [0, 1, 2]
    assert refused(value=np.array([1.0, NAN, 2.0])).message.startswith("value, row 1:")
    naive = np.array(["2026-01-01"] * 3, dtype="datetime64[us]")
    assert refused(time=naive).field == "time"


def arrow(**changed: pa.Array) -> pa.Table:
    return pa.table({**dict(zip(("time", "metric", "value"), plain(), strict=True)), **changed})


def plain() -> tuple[pa.Array, pa.Array, pa.Array]:
    table = points.decode(Tiny, tiny())
    return tuple(table[name].combine_chunks() for name in ("time", "metric", "value"))


@pytest.mark.parametrize(
    ("name", "array", "wanted"),
    [
        ("value", pa.array([1, 2, 3], pa.int16()), [1.0, 2.0, 3.0]),
        ("value", pa.array([1.5, 2.5, 0.1], pa.float32()), [1.5, 2.5, float(np.float32(0.1))]),
        ("level", pa.array([1, None, 3], pa.uint8()), [1, None, 3]),
        ("level", pa.nulls(3), [None] * 3),
        ("metric", pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        ("metric", pa.array(["a", "b", "a"], pa.large_string()), ["a", "b", "a"]),
        ("metric", pa.array(["a", "b", "a"], pa.string_view()), ["a", "b", "a"]),
        (
            "time",
            pa.array([1, 2, 3], pa.timestamp("ms", "Europe/Berlin")),
            [datetime(1970, 1, 1, 0, 0, 0, i * 1_000, tzinfo=UTC) for i in (1, 2, 3)],
        ),
        (
            "time",
            pa.array([1_000, 2_000, 3_000], pa.timestamp("ns", "UTC")),
            [datetime(1970, 1, 1, 0, 0, 0, i, tzinfo=UTC) for i in (1, 2, 3)],
        ),
        ("run", pa.array([UUID(int=5).bytes] * 3, pa.binary(16)), [UUID(int=5)] * 3),
        ("run", pa.array([str(UUID(int=5))] * 3), [UUID(int=5)] * 3),
        ("extra", pa.array(['{"b": 1, "a":null}', None, "{}"]), ['{"a":null,"b":1}', None, "{}"]),
    ],
    ids=_named,
)
def test_casts_that_lose_nothing(name: str, array: pa.Array, wanted: list[Any]) -> None:
    assert points.conform(Tiny, arrow(**{name: array}))[name].to_pylist() == wanted


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("value", pa.array([1.0, NAN, 2.0])),
        ("value", pa.array([1.0, None, 2.0])),
        ("value", pa.array([1, 2**53 + 1, 3])),
        ("value", pa.array([True, False, True])),
        ("level", pa.array([1.0, 2.0, 3.0])),
        ("level", pa.array([1, 2**63, 3], pa.uint64())),
        ("good", pa.array([1, 0, 1])),
        ("time", pa.array([1, 2, 3], pa.timestamp("us"))),
        ("time", pa.array([1, 2, 3], pa.timestamp("ns", "UTC"))),
        ("time", pa.array([1, 2, 3], pa.date32())),
        ("metric", pa.array([b"a", b"b", b"c"])),
        ("metric", pa.array(["x" * 300] * 3).dictionary_encode()),
        ("run", pa.array([b"x"] * 3)),
        ("extra", pa.array(["{}", "[]", "{}"])),
        ("extra", pa.array(["{}", "{", "{}"])),
        ("extra", pa.array([{"a": 1}] * 3)),
    ],
    ids=_named,
)
def test_casts_that_lose_something_are_refused(name: str, array: pa.Array) -> None:
    with pytest.raises(Refused) as caught:
        points.conform(Tiny, arrow(**{name: array}))
    assert caught.value.field == name


def ipc(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        out.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def test_bombs_are_refused() -> None:
    table = arrow(note=pa.array(["x" * 60_000] * 3))
    assert points.decode_ipc(Tiny, ipc(table)).num_rows == 3
    for codec in ("lz4", "zstd"):
        with pytest.raises(Refused, match="compressed"):
            points.decode_ipc(Tiny, ipc(table, compression=codec))
    encoded = arrow(note=pa.array(["x" * 60_000] * 3).dictionary_encode())
    with pytest.raises(Refused, match="compressed"):
        points.decode_ipc(Tiny, ipc(encoded, compression="zstd"))
    n = 50_000
    indices = pa.array(np.zeros(n, dtype=np.int32))
    bomb = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 60_000]))
    wide = points.decode(Tiny, tiny(n)).select(["time", "metric", "value"])
    with pytest.raises(Refused) as caught:
        points.decode_ipc(Tiny, ipc(wide.append_column("note", bomb)))
    assert caught.value.field == "note"
    with pytest.raises(TooLarge):
        points.decode_ipc(Tiny, ipc(wide), max_rows=n - 1)


def test_a_column_twice_is_refused() -> None:
    table = pa.Table.from_arrays([*plain(), plain()[2]], names=["time", "metric", "value", "value"])
    with pytest.raises(Refused) as caught:
        points.decode_ipc(Tiny, ipc(table))
    assert caught.value.field == "value"


IPC = points.encode_ipc(Reading, points.decode(Reading, readings(20)))
EDIT = st.tuples(st.integers(0, len(IPC) - 1), st.integers(0, 255))


@given(st.lists(EDIT, min_size=1, max_size=8), st.integers(0, len(IPC)) | st.just(len(IPC)))
def test_no_bytes_break_the_reader(edits: list[tuple[int, int]], length: int) -> None:
    spoilt = bytearray(IPC)
    for place, value in edits:
        spoilt[place] = value
    try:
        table = points.decode_ipc(Reading, bytes(spoilt[:length]))
    except Refused:
        return
    table.validate(full=True)
    assert table.schema == points.arrow_schema(Reading)
    assert points.conform(Reading, table) == table


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(Refused):
        points.decode_ipc(Tiny, noise)


@given(st.text(max_size=20), st.integers(0, 300))
def test_event_ids(batch: str, n: int) -> None:
    ids = points.event_ids(batch, n)
    assert ids.type == points.EVENT_ID_TYPE and len(ids) == n
    assert ids == points.event_ids(batch, n)
    assert ids.slice(0, n // 2) == points.event_ids(batch, n // 2)
    found = ids.to_pylist()
    assert found == sorted(set(found))
    assert not set(found) & set(points.event_ids(batch + "x", n).to_pylist())
