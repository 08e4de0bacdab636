"""Work orders go out over NATS, reports come back: late, twice, out of order, wrong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import nats
import orjson
import psycopg
import pytest
from httpx import AsyncClient
from nats.js import JetStreamContext

import polyplane as pp
from polyplane.domains.laboratory import wire
from polyplane.domains.laboratory.lifecycle import ATTEMPTS_MAX, RETRIES_MAX, Kind
from polyplane.domains.laboratory.streams import EventsLog
from polyplane.domains.laboratory.wire import Report, WorkOrder

START = datetime(2026, 1, 1, tzinfo=UTC)
DRAFT = {"name": "Sintering", "hypothesis": "Higher temperature improves density"}


@dataclass(slots=True)
class Bench:
    """A controller that says what the test tells it to."""

    feed: JetStreamContext
    namespace: str
    tenant: str
    controller_id: str

    async def say(
        self, kind: Kind, activity_id: str, attempt: int = 1, *, at_s: int = 0, **said: Any
    ) -> None:
        """Report over NATS, as any controller does."""
        report = Report(activity_id=activity_id, attempt=attempt, **said)
        event = wire.cloud_event(
            kind,
            report,
            controller_id=self.controller_id,
            tenant=self.tenant,
            time=START + timedelta(seconds=at_s),
        )
        await self.send(event.model_dump_json().encode())

    async def send(self, body: bytes, controller_id: str = "") -> None:
        """Send any bytes."""
        sender = controller_id or self.controller_id
        await self.feed.publish(wire.reports_subject(self.namespace, self.tenant, sender), body)

    async def order(self, number: int, *, within_s: float = 10) -> WorkOrder:
        """The `number`-th work order of this tenant, counted from 0; waits for it."""
        subject = wire.orders_subject(self.namespace, self.tenant, self.controller_id)
        subscription = await self.feed.subscribe(subject, ordered_consumer=True)
        try:
            messages = [await subscription.next_msg(timeout=within_s) for _ in range(number + 1)]
        finally:
            await subscription.unsubscribe()
        return wire.parse_order(messages[number].data)


@pytest.fixture
async def bench(plane: pp.Plane, tenant: str) -> AsyncIterator[Bench]:
    """A controller on NATS."""
    url = plane.settings.url("nats_url")
    assert url is not None
    connection = await nats.connect(url)
    yield Bench(connection.jetstream(), plane.namespace, tenant, f"bench-{tenant}")
    await connection.close()


async def started(client: AsyncClient, bench: Bench, *activities: str) -> str:
    """The id of an experiment that runs these activities on the bench."""
    experiment = (await client.post("experiments", json=DRAFT)).json()["id"]
    order = {
        "controller_id": bench.controller_id,
        "activities": [{"activity_id": a, "name": f"do {a}"} for a in activities],
    }
    answer = await client.post(f"experiments/{experiment}/start", json={"work_orders": [order]})
    assert answer.status_code == 202, answer.text
    return str(experiment)


async def becomes(look: Callable[[], Awaitable[Any]], wanted: object) -> None:
    """Wait until `look()` is `wanted`; fail with what it was last."""
    last: object = None
    try:
        async with asyncio.timeout(15):
            while (last := await look()) != wanted:
                await asyncio.sleep(0.02)
    except TimeoutError:
        assert last == wanted


def showing(client: AsyncClient, activity_id: str, *fields: str) -> Callable[[], Awaitable[Any]]:
    """A look at some fields of an activity."""

    async def look() -> Any:
        activity = (await client.get(f"activities/{activity_id}")).json()
        return tuple(activity[field] for field in fields)

    return look


def status_of(client: AsyncClient, experiment: str) -> Callable[[], Awaitable[Any]]:
    """A look at the status of an experiment."""

    async def look() -> Any:
        return (await client.get(f"experiments/{experiment}")).json()["status"]

    return look


async def test_a_work_order_goes_out_and_its_reports_are_followed(
    plane: pp.Plane, client: AsyncClient, bench: Bench
) -> None:
    experiment = await started(client, bench, "heat")
    order = await bench.order(0)
    assert (str(order.experiment_id), order.controller_id) == (experiment, bench.controller_id)
    assert [(a.activity_id, a.attempt) for a in order.activities] == [("heat", 1)]
    await bench.say("started", "heat", at_s=1)
    await bench.say("progress", "heat", at_s=2, sequence=1, progress=0.25)
    await becomes(showing(client, "heat", "status", "progress"), ("running", 0.25))
    await bench.say("completed", "heat", at_s=9, result={"density": 3.9})
    await becomes(showing(client, "heat", "status", "result"), ("completed", {"density": 3.9}))
    shown = (await client.get("activities/heat")).json()
    assert shown["started_at"] == "2026-01-01T00:00:01Z"
    assert shown["completed_at"] == "2026-01-01T00:00:09Z"
    await becomes(status_of(client, experiment), "completed")

    async def logged() -> int:
        return await plane.acting(pp.Caller("ada", bench.tenant))[EventsLog].count(
            {"experiment_id": experiment}
        )

    await becomes(logged, 3)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
async def test_any_order_of_reports_ends_in_the_same_state(
    client: AsyncClient, bench: Bench, order: tuple[int, ...]
) -> None:
    await started(client, bench, "heat", "cool")
    reports: list[tuple[Kind, int, dict[str, Any]]] = [
        ("failed", 1, {"error": "no power", "at_s": 3}),
        ("started", 2, {"at_s": 4}),
        ("progress", 2, {"sequence": 1, "progress": 0.5, "at_s": 5}),
        ("completed", 2, {"result": {"ok": True}, "at_s": 6}),
    ]
    for index in (*order, *order[:2]):
        kind, attempt, said = reports[index]
        await bench.say(kind, "heat", attempt, **said)
    await becomes(
        showing(client, "heat", "status", "retry_count", "progress", "result", "error"),
        ("completed", 1, 1.0, {"ok": True}, None),
    )
    shown = (await client.get("activities/heat")).json()
    assert shown["started_at"] == "2026-01-01T00:00:04Z"
    assert shown["completed_at"] == "2026-01-01T00:00:06Z"


async def test_a_failed_activity_is_ordered_again_up_to_the_limit(
    client: AsyncClient, bench: Bench
) -> None:
    experiment = await started(client, bench, "heat")
    for attempt in range(1, ATTEMPTS_MAX + 1):
        order = await bench.order(attempt - 1)
        assert [(a.activity_id, a.attempt) for a in order.activities] == [("heat", attempt)]
        for _ in range(2):
            await bench.say("failed", "heat", attempt, at_s=attempt, error=f"attempt {attempt}")
    await becomes(
        showing(client, "heat", "status", "retry_count", "error"),
        ("failed", RETRIES_MAX, f"attempt {ATTEMPTS_MAX}"),
    )
    await becomes(status_of(client, experiment), "failed")
    with pytest.raises(nats.errors.TimeoutError):
        await bench.order(ATTEMPTS_MAX, within_s=1)


async def test_what_cannot_be_taken_in_is_logged_and_holds_nothing_up(
    plane: pp.Plane, client: AsyncClient, bench: Bench
) -> None:
    await started(client, bench, "heat")
    event = {
        "specversion": "1.0",
        "id": "x",
        "source": "/controllers/bench",
        "type": "laboratory.activity.started",
        "time": "2026-01-01T00:00:00Z",
        "tenant": bench.tenant,
        "data": {"activity_id": "heat", "attempt": 1},
    }
    garbage: list[Any] = [
        b"",
        b"\xff\xfe not text",
        b"[1, 2, 3]",
        b"[" * 100_000,
        b"x" * (wire.REPORT_BYTES_MAX + 1),
        event | {"type": "laboratory.activity.exploded"},
        event | {"time": "2026-01-01T00:00:00"},
        event | {"time": "9999-12-31T23:59:59Z"},
        event | {"data": {"activity_id": "heat", "attempt": ATTEMPTS_MAX + 1}},
        event | {"data": {"activity_id": "heat", "attempt": 1, "progress": 7}},
        event | {"data": {"activity_id": "heat", "attempt": 1, "error": "nul \0"}},
        event | {"data": {"activity_id": "unknown", "attempt": 1}},
        event | {"tenant": "nobody"},
    ]
    for each in garbage:
        await bench.send(each if isinstance(each, bytes) else orjson.dumps(each))
    await bench.send(orjson.dumps(event), f"not-{bench.controller_id}")
    await becomes(showing(client, "heat", "status"), ("scheduled",))
    await bench.say("completed", "heat", result={})
    await becomes(showing(client, "heat", "status"), ("completed",))

    async def rejected() -> int:
        return await plane.acting(pp.Caller("ada", bench.tenant))[EventsLog].count(
            {"type": "rejected", "controller_id": bench.controller_id}
        )

    await becomes(rejected, len(garbage))


async def test_a_report_that_postgresql_refuses_is_rejected_alone(
    plane: pp.Plane, client: AsyncClient, bench: Bench
) -> None:
    await started(client, bench, "heat", "cursed", "rest")
    url = plane.settings.url("database_url")
    assert url is not None
    table = "ALTER TABLE laboratory.activity_correlations"
    cursed = "activity_id <> 'cursed' OR status = 'scheduled'"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"{table} ADD CONSTRAINT curse CHECK ({cursed}) NOT VALID")
        try:
            for activity_id in ("heat", "cursed", "rest"):
                await bench.say("completed", activity_id)
            await becomes(showing(client, "rest", "status"), ("completed",))
        finally:
            await connection.execute(f"{table} DROP CONSTRAINT curse")
    assert (await client.get("activities/heat")).json()["status"] == "completed"
    assert (await client.get("activities/cursed")).json()["status"] == "scheduled"


async def test_the_same_activity_id_lives_in_two_tenants(client: AsyncClient, bench: Bench) -> None:
    await started(client, bench, "heat")
    other = f"t{uuid4().hex[:12]}"
    client.headers["X-Tenant"] = other
    await started(client, bench, "heat")
    bench.tenant = other
    await bench.say("started", "heat")
    await becomes(showing(client, "heat", "status"), ("running",))
    client.headers["X-Tenant"] = "default"
    assert (await client.get("activities/heat")).status_code == 404
