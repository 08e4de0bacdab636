"""(f) Telemetry in columnar batches: durably acknowledged, then durably stored, once each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Final
from uuid import UUID, uuid4

import clickhouse_connect
import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from bench.figures import Figure, rates, ratio
from bench.ground import Ground, Size
from polyplane import Caller, Plane
from polyplane.domains.laboratory.streams import Telemetry
from polyplane.model.points import EVENT_ID, conform, event_ids
from polyplane.stores.disk import sync

BATCHES: Final = 200
BATCH_POINTS: Final = 5_000
PUBLISHERS: Final = 4
REQUIRED: Final = 100_000
REQUIRED_RATIO: Final = 0.3
STORED_TIMEOUT_S: Final = 120.0


def batch(number: int, points: int = BATCH_POINTS) -> pa.Table:
    """Points of one experiment: 20 activities and 5 metrics in turn, ten points a millisecond."""
    rows = np.arange(points)
    start_us = 1_767_225_600_000_000 + number * points * 100
    names = np.array(["throughput", "ratio", "cpu", "memory", "temperature"])
    values = np.random.default_rng(number).normal(100, 15, points)
    columns = {
        "time": pa.array(start_us + rows * 100, pa.timestamp("us", "UTC")),
        "experiment_id": pa.array([str(UUID(int=7))] * points),
        "activity_id": pa.array(np.char.add("activity-", (rows % 20).astype(str))),
        "controller_id": pa.array(["controller-1"] * points),
        "metric_name": pa.array(names[rows % 5]),
        "value": pa.array(values),
        "unit": pa.array(["MB/s"] * points),
        "tags": pa.array(np.where(rows % 2, '{"level":1}', '{"level":9}')),
    }
    return conform(Telemetry, pa.table(columns))


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Publishers to the feed, ingest to chdb; and the same batches inserted by hand, in turn."""
    batches = [batch(number) for number in range(size.scaled(BATCHES))]
    points = sum(table.num_rows for table in batches)
    acknowledged, stored, raw = [], [], []
    for _ in range(size.runs):
        url = await ground.database()
        await ground.calm()
        async with ground.plane(url, streams=[Telemetry]) as plane:
            ack_s, stored_s = await _published(plane, batches)
            acknowledged.append(ack_s)
            stored.append(stored_s)
            await prove(ground, plane, points)
            await ground.calm()
            raw.append(await by_hand(ground, plane, batches))
    by = rates("points by hand: insert, sync, next", "points/s", points, raw)
    durable = rates("points acknowledged and stored", "points/s", points, stored, required=REQUIRED)
    return [
        rates("points acknowledged", "points/s", points, acknowledged),
        durable,
        by,
        ratio("stored / by hand", durable, by, required=REQUIRED_RATIO),
    ]


async def _published(plane: Plane, batches: Sequence[pa.Table]) -> tuple[float, float]:
    """Seconds until the last batch is acknowledged, and until all is durable in the store."""
    waiting = iter(batches)

    async def publish() -> None:
        for table in waiting:
            await plane.acting(Caller("bench"))[Telemetry].publish(table)

    started = perf_counter()
    await asyncio.gather(*(publish() for _ in range(PUBLISHERS)))
    acknowledged_s = perf_counter() - started
    await drained(plane)
    return acknowledged_s, perf_counter() - started


async def drained(plane: Plane) -> None:
    """Return when the feed has let go of every point: then they are durable in the store."""
    name, _ = plane.opened.feed.subjects.stream(Telemetry.name)
    async with asyncio.timeout(STORED_TIMEOUT_S):
        while (bounds := await plane.opened.feed.bounds(name)).first <= bounds.last:
            await asyncio.sleep(0.01)


async def prove(ground: Ground, plane: Plane, points: int) -> None:
    """Every point is there, once, also as the engine counts without our settings."""
    assert await plane.acting(Caller("bench"))[Telemetry].count() == points
    async with _chdb(ground) as client:
        table = f"{plane.namespace}.telemetry"
        found = client.query(f"SELECT count(), uniqExact({EVENT_ID}) FROM {table}").result_rows[0]
    assert tuple(found) == (points, points), (found, points)


async def by_hand(ground: Ground, plane: Plane, batches: Sequence[pa.Table]) -> float:
    """Seconds to insert the same batches, one by one, each synced to disk before the next."""
    async with _chdb(ground) as client:
        like = f"{plane.namespace}.telemetry"
        client.command(f"CREATE TABLE {plane.namespace}.byhand AS {like}")
        rows = [
            table.append_column(EVENT_ID, event_ids(str(uuid4()), table.num_rows))
            for table in batches
        ]

        def insert_all() -> None:
            for table in rows:
                client.insert_arrow(f"{plane.namespace}.byhand", table)
                sync(ground.folder)

        started = perf_counter()
        await asyncio.to_thread(insert_all)
        took = perf_counter() - started
        count = client.query(f"SELECT count() FROM {plane.namespace}.byhand").result_rows[0][0]
        assert count == sum(table.num_rows for table in rows)
        client.command(f"DROP TABLE {plane.namespace}.byhand SYNC")
    return took


@asynccontextmanager
async def _chdb(ground: Ground) -> AsyncIterator[Client]:
    """The engine that the plane uses, past the plane."""
    path = str(ground.folder / "clickhouse")
    client = await asyncio.to_thread(clickhouse_connect.get_client, interface="chdb", path=path)
    try:
        yield client
    finally:
        await asyncio.to_thread(client.close)
