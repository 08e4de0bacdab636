"""A real experiment: work orders, a controller that measures, telemetry, analysis, search."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from httpx import AsyncClient

import polyplane as pp
from polyplane.domains.laboratory import measurement
from polyplane.domains.laboratory.analysis import learning_id
from polyplane.domains.laboratory.controller import run_controller
from polyplane.domains.laboratory.lifecycle import RETRIES_MAX
from polyplane.domains.laboratory.projections import ExperimentLearnings

METRICS = measurement.UNITS.keys() - {"temperature"}
POINTS = measurement.PASSES * measurement.BLOCKS * len(METRICS)
DRAFT = {"name": "What does compression cost?", "hypothesis": "The last levels do not pay."}

Start = Callable[..., Awaitable[str]]


@pytest.fixture
async def controller(plane: pp.Plane, tenant: str) -> AsyncIterator[str]:
    """The id of a controller that works for this test's tenant."""
    stop, name = asyncio.Event(), f"bench-{tenant}"
    url = plane.settings.url("nats_url")
    assert url is not None
    async with asyncio.TaskGroup() as work:
        work.create_task(
            run_controller(url, name, namespace=plane.namespace, tenant=tenant, stop=stop)
        )
        try:
            yield name
        finally:
            stop.set()


@pytest.fixture
def start(client: AsyncClient, controller: str) -> Start:
    """Starts an experiment of these (codec, level)s and gives its id when it is over."""

    async def run(*settings: tuple[str, int]) -> str:
        experiment = (await client.post("experiments", json=DRAFT)).json()["id"]
        activities = [
            {
                "activity_id": f"{codec}-{level}",
                "name": f"{codec} level {level}",
                "parameters": {"codec": codec, "level": level},
            }
            for codec, level in settings
        ]
        order = {"controller_id": controller, "activities": activities}
        answer = await client.post(f"experiments/{experiment}/start", json={"work_orders": [order]})
        assert answer.status_code == 202, answer.text
        async with asyncio.timeout(60):
            while True:
                state = (await client.get(f"experiments/{experiment}")).json()["status"]
                if state in ("completed", "failed"):
                    return str(experiment)
                await asyncio.sleep(0.05)

    return run


async def test_an_experiment_runs_from_its_work_order_to_what_it_teaches(
    client: AsyncClient, start: Start
) -> None:
    experiment = await start(("zlib", 1), ("zlib", 9), ("bz2", 1), ("bz2", 9), ("rar", 5))
    summary = (await client.get(f"experiments/{experiment}/summary")).json()
    assert summary["activities"] == {"completed": 4, "failed": 1}
    assert summary["telemetry_points"] == 4 * POINTS
    assert summary["learnings"] >= 10

    hopeless = (await client.get("activities/rar-5")).json()
    assert hopeless["retry_count"] == RETRIES_MAX
    assert "no codec 'rar'" in hopeless["error"]
    done = (await client.get("activities/zlib-9")).json()
    assert done["result"]["points"] == POINTS
    assert done["result"]["sample_sha256"] == measurement.sample_digest()

    latest = (await client.get(f"experiments/{experiment}/telemetry/latest")).json()["metrics"]
    assert {each["metric_name"] for each in latest} >= METRICS
    profile = await client.get("activities/bz2-9/profile", params={"metric": "ratio"})
    buckets = profile.json()["buckets"]
    assert sum(each["count"] for each in buckets) == POINTS // len(METRICS)
    assert all(each["min"] <= each["avg"] <= each["max"] for each in buckets)
    events = (await client.get(f"experiments/{experiment}/events/latest")).json()
    assert {each["activity_id"]: each["type"] for each in events}["zlib-1"] == "completed"

    again = await client.post(f"experiments/{experiment}/analyse")
    assert len(again.json()["findings"]) == summary["learnings"]
    question = {"question": "Is unpacking an archive quick?", "experiment_id": experiment}
    token = (
        {"settled": again.headers["Polyplane-Token"]} if "Polyplane-Token" in again.headers else {}
    )
    hits = (await client.post("learnings/search", json=question, params=token)).json()["hits"]
    assert hits[0]["id"] == str(learning_id(UUID(experiment), "fastest_back"))
    assert hits[0]["confidence"] > 0.9


async def test_figures_about_the_experiment_come_in_over_http(
    client: AsyncClient, plane: pp.Plane
) -> None:
    experiment = (await client.post("experiments", json=DRAFT)).json()["id"]
    body = {
        "time": ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01+02:00"],
        "experiment_id": [experiment] * 2,
        "metric_name": ["density"] * 2,
        "value": [3.5, 3],
        "tags": [{"probe": "é"}, None],
    }
    headers = {"Idempotency-Key": "one"}
    first = await client.post("metrics", json=body, headers=headers)
    again = await client.post("metrics", json=body, headers=headers)
    assert (first.status_code, first.json()["points"]) == (202, 2)
    assert (first.json()["duplicate"], again.json()["duplicate"]) == (False, True)
    path = f"experiments/{experiment}/metrics/latest"
    async with asyncio.timeout(10):
        while not (metrics := (await client.get(path)).json()["metrics"]):
            await asyncio.sleep(0.02)
    assert [(each["value"], each["tags"]) for each in metrics] == [(3.5, {"probe": "é"})]
    assert (await client.get(f"experiments/{experiment}/summary")).json()["metric_points"] == 2


async def by_hand(plane: pp.Plane, statement: str, **values: Any) -> Any:
    """What somebody does with psql, behind the application's back; the first value it gives."""
    url = plane.settings.url("database_url")
    assert url is not None
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(statement, values)
        return (await cursor.fetchone() or [None])[0] if cursor.description else None


async def test_a_learning_written_by_hand_is_searchable_within_a_second(
    plane: pp.Plane, client: AsyncClient
) -> None:
    experiment = (await client.post("experiments", json=DRAFT)).json()["id"]
    tenant = client.headers["X-Tenant"]

    async def held(key: object, text: str | None) -> None:
        async with asyncio.timeout(1):
            while True:
                hits = await plane.acting(pp.Caller("ada", tenant))[ExperimentLearnings].get([key])
                if (hits[0].text if hits else None) == text:
                    return
                await asyncio.sleep(0.01)

    key = await by_hand(
        plane,
        "INSERT INTO laboratory.learnings (tenant_id, experiment_id, type, insight, confidence)"
        " VALUES (%(tenant)s, %(experiment)s, 'process', 'by hand', 0.5) RETURNING id",
        tenant=tenant,
        experiment=experiment,
    )
    await held(key, "by hand")
    await by_hand(
        plane, "UPDATE laboratory.learnings SET insight = 'again' WHERE id = %(id)s", id=key
    )
    await held(key, "again")
    await by_hand(plane, "DELETE FROM laboratory.learnings WHERE id = %(id)s", id=key)
    await held(key, None)
    for wrong in ("confidence = 1.5", "type = 'gossip'", "confidence = 'NaN'"):
        other = await client.post(
            "learnings",
            json={"experiment_id": experiment, "type": "safety", "insight": "x", "confidence": 1},
        )
        with contextlib.suppress(psycopg.errors.CheckViolation):
            await by_hand(plane, f"UPDATE laboratory.learnings SET {wrong}")
            pytest.fail(f"{wrong} was stored")
        assert other.status_code == 201


async def test_everything_agrees_with_truth(plane: pp.Plane, client: AsyncClient) -> None:
    experiment = (await client.post("experiments", json=DRAFT)).json()["id"]
    for number in range(20):
        learning = {"type": "process", "insight": f"number {number}", "confidence": number / 20}
        await client.post("learnings", json={"experiment_id": experiment, **learning})
    await client.delete(f"experiments/{experiment}")
    drift = await plane.verify()
    assert drift.clean, drift
