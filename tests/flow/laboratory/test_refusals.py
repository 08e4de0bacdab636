"""Bad input gets a problem document that names the field, and nothing of it is stored."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from httpx import AsyncClient

import polyplane as pp
from polyplane.domains.laboratory.streams import Metrics, Telemetry

DRAFT = {"name": "Sintering", "hypothesis": "Higher temperature improves density"}
NOBODY = "019b76da-a800-7000-8000-000000000001"


@pytest.fixture
async def experiment(client: AsyncClient) -> str:
    """The id of a draft."""
    return str((await client.post("experiments", json=DRAFT)).json()["id"])


def refusal(answer: Any, status: int, field: str) -> None:
    """Assert that `answer` is a problem document of `status` about `field`."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem.get("field", "") == field, problem


EXPERIMENTS: list[tuple[dict[str, Any], str]] = [
    ({"name": "x" * 300}, "name"),
    ({"name": "   "}, "name"),
    ({"name": None}, "name"),
    ({"name": "nul \0"}, "name"),
    ({"hypothesis": ""}, "hypothesis"),
    ({"hypothesis": "x" * 20_001}, "hypothesis"),
    ({"status": "exploded"}, "status"),
    ({"status": "completed"}, "status"),
    ({"risk_level": "R9"}, "risk_level"),
    ({"created_by": "nobody"}, "created_by"),
    ({"created_by": NOBODY}, "created_by"),
    ({"colour": "red"}, "colour"),
]


@pytest.mark.parametrize(("fields", "field"), EXPERIMENTS)
async def test_experiments(client: AsyncClient, fields: dict[str, Any], field: str) -> None:
    refusal(await client.post("experiments", json=DRAFT | fields), 422, field)
    assert (await client.get("experiments")).json()["items"] == []


async def test_changes_of_an_experiment(client: AsyncClient, experiment: str) -> None:
    path = f"experiments/{experiment}"
    before = (await client.get(path)).json()
    refusal(await client.patch(path, json={"status": "exploded"}), 422, "status")
    refusal(await client.patch(path, json={"status": "completed"}), 409, "status")
    refusal(await client.patch(path, json={"name": None}), 422, "name")
    refusal(await client.patch(path, json={"name": "x", "created_by": NOBODY}), 422, "created_by")
    refusal(await client.patch(path, json={"id": NOBODY}), 422, "id")
    refusal(await client.patch(f"experiments/{NOBODY}", json={}), 404, "experiment_id")
    refusal(await client.get("experiments/17"), 422, "experiment_id")
    refusal(await client.get("experiments", params={"status": "exploded"}), 422, "status")
    refusal(await client.get("experiments", params={"after": "b29wcw"}), 422, "after")
    refusal(await client.get("experiments", params={"limit": 0}), 422, "limit")
    assert (await client.get(path)).json() == before


@pytest.mark.parametrize("quantity", ["-1", -0.5, "NaN", "Infinity", "much", "1e40"])
async def test_quantities(client: AsyncClient, experiment: str, quantity: Any) -> None:
    material = (await client.post("materials", json={"name": "Ag", "type": "metal"})).json()
    path = f"experiments/{experiment}/materials"
    refusal(
        await client.put(f"{path}/{material['id']}", json={"quantity": quantity}), 422, "quantity"
    )
    assert (await client.get(path)).json()["items"] == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "x" * 256}, "name"),
        ({"type": "x" * 101}, "type"),
        ({"properties": {"n": 10**30}}, "properties"),
        ({"properties": [1]}, "properties"),
        ({"safety_data": {"text": "x" * 70_000}}, "safety_data"),
    ],
)
async def test_materials(client: AsyncClient, fields: dict[str, Any], field: str) -> None:
    silver = {"name": "Ag", "type": "metal"}
    refusal(await client.post("materials", json=silver | fields), 422, field)
    assert (await client.get("materials")).json()["items"] == []


async def test_duplicate_ids(client: AsyncClient, experiment: str) -> None:
    refusal(await client.post("experiments", json={**DRAFT, "id": experiment}), 409, "id")
    ada = {"name": "Ada", "email": "ada@example.org"}
    assert (await client.post("users", json=ada)).status_code == 201
    refusal(await client.post("users", json=ada), 409, "email")
    order = {
        "controller_id": "c1",
        "activities": [{"activity_id": "same", "name": "a"}, {"activity_id": "same", "name": "b"}],
    }
    started = await client.post(f"experiments/{experiment}/start", json={"work_orders": [order]})
    refusal(started, 409, "activity_id")
    assert (await client.get(f"experiments/{experiment}")).json()["status"] == "draft"
    assert (await client.get(f"experiments/{experiment}/activities")).json()["items"] == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"experiment_id": NOBODY}, "experiment_id"),
        ({"type": "gossip"}, "type"),
        ({"insight": ""}, "insight"),
        ({"confidence": 1.01}, "confidence"),
        ({"confidence": -0.01}, "confidence"),
        ({"confidence": "high"}, "confidence"),
    ],
)
async def test_learnings(
    client: AsyncClient, experiment: str, fields: dict[str, Any], field: str
) -> None:
    learning = {
        "experiment_id": experiment,
        "type": "process",
        "insight": "Heat helps",
        "confidence": 0.5,
    }
    refusal(await client.post("learnings", json=learning | fields), 422, field)
    assert (await client.get("learnings")).json()["items"] == []


async def test_confidence_that_is_no_number(client: AsyncClient, experiment: str) -> None:
    body = (
        f'{{"experiment_id": "{experiment}", "type": "process", "insight": "x", "confidence": NaN}}'
    )
    answer = await client.post(
        "learnings", content=body, headers={"Content-Type": "application/json"}
    )
    refusal(answer, 422, "confidence")


@pytest.mark.parametrize(
    ("controller_id", "activity", "field"),
    [
        ("has.dots", {"name": "a"}, "work_orders.0.controller_id"),
        ("*", {"name": "a"}, "work_orders.0.controller_id"),
        ("c1", {"name": ""}, "work_orders.0.activities.0.name"),
        ("c1", {"name": "a", "activity_id": "x" * 256}, "work_orders.0.activities.0.activity_id"),
        ("c1", {"name": "a", "activity_id": "a/b"}, "work_orders.0.activities.0.activity_id"),
        ("c1", {"name": "a", "activity_id": "a\r\nX: y"}, "work_orders.0.activities.0.activity_id"),
        (
            "c1",
            {"name": "a", "parameters": {"n": 10**30}},
            "work_orders.0.activities.0.parameters",
        ),
        (
            "c1",
            {"name": "a", "parameters": {"text": "x" * 2_100}},
            "work_orders.0.activities.0.parameters",
        ),
    ],
)
async def test_work_orders(
    client: AsyncClient, experiment: str, controller_id: str, activity: dict[str, Any], field: str
) -> None:
    orders = [{"controller_id": controller_id, "activities": [activity]}]
    path = f"experiments/{experiment}"
    refusal(await client.post(f"{path}/start", json={"work_orders": orders}), 422, field)
    refusal(await client.post(f"{path}/start", json={"work_orders": []}), 422, "work_orders")
    assert (await client.get(path)).json()["status"] == "draft"


def columns(experiment: str, **other: Any) -> dict[str, list[Any]]:
    """Three points."""
    point = {
        "time": "2026-01-01T12:00:00Z",
        "experiment_id": experiment,
        "controller_id": "c1",
        "metric_name": "temperature",
        "value": 20.5,
    }
    return {name: [value] * 3 for name, value in point.items()} | other


TELEMETRY: list[tuple[str, Any, str]] = [
    ("value", [1.0, float("nan"), 2.0], "value.1"),
    ("value", [1.0, 2.0, float("inf")], "value.2"),
    ("value", [1.0, "warm", 2.0], "value"),
    ("value", [1.0, None, 2.0], "value"),
    ("value", [1.0, 2.0], "value"),
    ("time", ["2026-01-01T12:00:00"] * 3, "time"),
    ("time", ["yesterday"] * 3, "time"),
    ("time", ["2199-01-01T12:00:00Z"] * 3, "time"),
    ("metric_name", ["m" * 256] * 3, "metric_name"),
    ("experiment_id", ["17"] * 3, "experiment_id"),
    ("colour", ["red"] * 3, "colour"),
    ("tags", ["hot"] * 3, "tags"),
]


@pytest.mark.parametrize(("column", "values", "field"), TELEMETRY)
async def test_telemetry(
    plane: pp.Plane,
    client: AsyncClient,
    tenant: str,
    experiment: str,
    column: str,
    values: Any,
    field: str,
) -> None:
    body = json.dumps(columns(experiment, **{column: values}))
    answer = await client.post(
        "telemetry", content=body, headers={"Content-Type": "application/json"}
    )
    refusal(answer, 422, field)
    good = await client.post("metrics", json=_figures(experiment))
    assert good.status_code == 202
    acting = plane.acting(pp.Caller("ada", tenant))
    async with asyncio.timeout(10):  # until the points that came after a refused batch are stored
        while await acting[Metrics].count({"experiment_id": experiment}) < 3:
            await asyncio.sleep(0.02)
    assert await acting[Telemetry].count({"experiment_id": experiment}) == 0


async def test_telemetry_of_an_experiment_nobody_knows(client: AsyncClient) -> None:
    refusal(await client.post("telemetry", json=columns(NOBODY)), 404, "experiment_id")
    other = {"X-Tenant": "other"}
    mine = (await client.post("experiments", json=DRAFT)).json()["id"]
    answer = await client.post("telemetry", json=columns(mine), headers=other)
    refusal(answer, 404, "experiment_id")


async def test_points_one_by_one_and_what_is_missing(client: AsyncClient, experiment: str) -> None:
    point = {name: values[0] for name, values in columns(experiment).items()}
    assert (await client.post("telemetry", json={"points": [point, point]})).status_code == 202
    refusal(await client.post("telemetry", json={"points": [point, 17]}), 422, "points.1")
    refusal(await client.post("telemetry", json={"points": []}), 422, "time")
    del point["value"]
    refusal(await client.post("telemetry", json={"points": [point]}), 422, "value")


async def test_bodies_that_are_too_large_or_no_json(client: AsyncClient, experiment: str) -> None:
    large = columns(experiment, unit=["x" * 3_500_000] * 3)
    refusal(await client.post("telemetry", json=large), 413, "")
    headers = {"Content-Type": "application/json"}
    refusal(await client.post("telemetry", content="{", headers=headers), 400, "")
    refusal(
        await client.post("telemetry", content="x", headers={"Content-Type": "text/csv"}), 415, ""
    )
    refusal(await client.post("telemetry", content="[1]", headers=headers), 422, "body")


async def test_a_profile_whose_end_is_before_its_start(
    client: AsyncClient, experiment: str
) -> None:
    order = {"controller_id": "c1", "activities": [{"activity_id": "a1", "name": "a"}]}
    await client.post(f"experiments/{experiment}/start", json={"work_orders": [order]})
    span = {"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}
    refusal(await client.get("activities/a1/profile", params=span), 422, "end")
    naive = {"start": "2026-01-02T00:00:00"}
    refusal(await client.get("activities/a1/profile", params=naive), 422, "start")
    refusal(await client.get("activities/a1/profile", params={"bucket_s": 0}), 422, "bucket_s")
    refusal(await client.get("activities/a2/profile"), 404, "activity_id")
    refusal(await client.delete(f"experiments/{experiment}"), 409, "status")
    again = await client.post(f"experiments/{experiment}/start", json={"work_orders": [order]})
    refusal(again, 409, "status")


def _figures(experiment: str) -> dict[str, Any]:
    kept = columns(experiment)
    del kept["controller_id"]
    return kept
