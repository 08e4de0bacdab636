"""The ClickHouse table that a declaration becomes, as the engine itself describes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from polyplane.errors import Misconfigured
from polyplane.model.stream import Stream
from polyplane.stores.series import clickhouse
from polyplane.stores.series.clickhouse import ClickHouseSeries
from polyplane.testing.readings import Reading, batch, readings, rows, table
from polyplane.testing.samples import ALL
from tests.contract.test_series_chdb import raw


class Telemetry(Stream):
    """The seed's telemetry."""

    order_by = ("experiment_id", "metric_name")
    indexes = ("activity_id", "controller_id")
    retention_days = 365
    compress_after_days = 7

    experiment_id: UUID
    activity_id: str | None
    controller_id: str
    metric_name: str
    value: float
    unit: str | None
    tags: dict[str, Any] | None


@pytest.fixture
async def store(running_chdb_url: str) -> AsyncIterator[ClickHouseSeries]:
    """A store with a database of its own."""
    store = await clickhouse.connect(running_chdb_url, database=f"d{uuid4().hex}")
    yield store
    await store.close()


def described(url: str, store: ClickHouseSeries, stream: type[Stream]) -> dict[str, Any]:
    """What the engine says of the stream's table."""
    where = f"database = '{store.database}' AND name = '{stream.name}'"
    (found,) = raw(url, f"SELECT * FROM system.tables WHERE {where}").to_pylist()
    return dict(found)


async def test_the_declaration_becomes_the_table(
    store: ClickHouseSeries, running_chdb_url: str
) -> None:
    await store.prepare(Telemetry)
    found = described(running_chdb_url, store, Telemetry)
    assert found["engine"] == "ReplacingMergeTree"
    assert found["partition_key"] == "toYYYYMM(time)"
    assert found["primary_key"] == "experiment_id, metric_name, time"
    assert found["sorting_key"] == "experiment_id, metric_name, time, event_id"
    assert "time + toIntervalDay(7) RECOMPRESS CODEC(ZSTD(9))" in found["engine_full"]
    assert "time + toIntervalDay(365)" in found["engine_full"]
    assert "max_suspicious_broken_parts = 1000000" in found["engine_full"]
    assert "fsync_after_insert" not in found["engine_full"]
    where = f"database = '{store.database}' AND table = 'telemetry'"
    columns = raw(running_chdb_url, f"SELECT name, type FROM system.columns WHERE {where}")
    assert dict(zip(*columns.to_pydict().values(), strict=True)) == {
        "time": "DateTime64(6, 'UTC')",
        "experiment_id": "UUID",
        "activity_id": "LowCardinality(Nullable(String))",
        "controller_id": "LowCardinality(String)",
        "metric_name": "LowCardinality(String)",
        "value": "Float64",
        "unit": "Nullable(String)",
        "tags": "Nullable(String)",
        "event_id": "FixedString(16)",
    }
    indexes = raw(
        running_chdb_url, f"SELECT name, type FROM system.data_skipping_indices WHERE {where}"
    )
    assert dict(zip(*indexes.to_pydict().values(), strict=True)) == {
        "by_batch": "bloom_filter",
        "by_time": "minmax",
        "by_activity_id": "bloom_filter",
        "by_controller_id": "bloom_filter",
    }


@pytest.mark.parametrize(
    "text",
    [
        "toStartOfInterval(time, INTERVAL 1 minute) AS bucket, avg(value) AS avg_temp",
        "toStartOfMinute(time) AS bucket, avg(value) AS avg_temp",
    ],
)
async def test_the_seeds_profile_can_be_asked_in_sql(store: ClickHouseSeries, text: str) -> None:
    await store.prepare(Telemetry)
    columns = {
        "time": [f"2026-01-01T00:00:{i:02}Z" for i in range(60)],
        "experiment_id": [str(UUID(int=1))] * 60,
        "activity_id": ["a"] * 60,
        "controller_id": ["c"] * 60,
        "metric_name": ["temperature"] * 60,
        "value": [float(i) for i in range(60)],
    }
    await store.append(Telemetry, table("b", columns, Telemetry), token="b")
    sql = (
        f"SELECT {text} FROM telemetry WHERE activity_id = {{activity:String}}"
        " AND metric_name = 'temperature' GROUP BY bucket ORDER BY bucket"
    )
    answer = await store.query(ALL, sql, {"activity": "a"})
    assert answer["avg_temp"].to_pylist() == [29.5]


async def test_retention_follows_its_declaration(
    store: ClickHouseSeries, running_chdb_url: str
) -> None:
    class Shorter(Reading):
        name = "reading"
        retention_days = 30

    class Longer(Reading):
        name = "reading"
        retention_days = 36_500
        compress_after_days = 7

    for stream, wanted in (
        (Reading, ""),
        (Shorter, "TTL time + toIntervalDay(30)"),
        (
            Longer,
            "TTL time + toIntervalDay(7) RECOMPRESS CODEC(ZSTD(9)), time + toIntervalDay(36500)",
        ),
        (Reading, ""),
    ):
        await store.prepare(stream)
        engine = described(running_chdb_url, store, stream)["engine_full"]
        assert wanted in engine
        assert wanted or "TTL" not in engine


async def test_what_retention_ends_does_not_come_back_twice(
    store: ClickHouseSeries, running_chdb_url: str
) -> None:
    class Short(Reading):
        name = "short"
        retention_days = 30

    await store.prepare(Short)
    old = table("old", readings(10, first=datetime.now(UTC) - timedelta(days=90)), Short)
    new = table("new", readings(10, first=datetime.now(UTC)), Short)
    for _ in range(2):
        await store.append(Short, old, token="old")
        await store.append(Short, new, token="new")
    raw(running_chdb_url, f"OPTIMIZE TABLE {store.database}.short FINAL")
    assert (await store.count(Short, ALL)).points == 10
    found = raw(running_chdb_url, f"SELECT * FROM {store.database}.short").to_pylist()
    assert sorted(found, key=lambda row: bytes(row["event_id"])) == rows(new)


async def test_merges_keep_one_of_many_copies(
    store: ClickHouseSeries, running_chdb_url: str
) -> None:
    await store.prepare(Reading)
    points = batch("b", 50)
    for _ in range(4):
        await store.bulk(Reading, points)
    target = f"{store.database}.reading"
    assert raw(running_chdb_url, f"SELECT count() AS n FROM {target}")["n"][0].as_py() == 200
    raw(running_chdb_url, f"OPTIMIZE TABLE {target} FINAL")
    found = raw(running_chdb_url, f"SELECT * FROM {target}").to_pylist()
    assert sorted(found, key=lambda row: bytes(row["event_id"])) == rows(points)


@pytest.mark.parametrize(
    "declared",
    [
        {"retention_days": 0},
        {"retention_days": 40_000},
        {"compress_after_days": -1},
        {"order_by": ("extra",)},
        {"order_by": ("color",)},
        {"order_by": ("time",)},
        {"order_by": ("level",)},
        {"indexes": ("extra",)},
        {"name": "no`name"},
        {"name": ""},
        {"__annotations__": {"event_id": str}},
    ],
    ids=repr,
)
async def test_declarations_that_cannot_be_stored(
    store: ClickHouseSeries, declared: dict[str, Any]
) -> None:
    if declared.get("name") == "":
        stream = type("", (Reading,), {})
    else:
        stream = type("Broken", (Reading,), declared)
    with pytest.raises(Misconfigured):
        await store.prepare(stream)
