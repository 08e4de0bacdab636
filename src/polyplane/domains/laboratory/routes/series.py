"""Telemetry, metrics and the events log: points in, windows and newest values out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
import pyarrow as pa
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

import polyplane as pp
from polyplane.domains.laboratory import queries
from polyplane.domains.laboratory.permissions import READ, WRITE
from polyplane.domains.laboratory.shapes import (
    Bucket,
    LatestMetrics,
    LatestPoint,
    LoggedEvent,
    Profile,
    Taken,
)
from polyplane.domains.laboratory.streams import EventsLog, Metrics, Telemetry
from polyplane.domains.laboratory.wire import Time
from polyplane.web import Caller, PlaneOf, json_body, problem_responses

EXPERIMENTS_MAX: Final = 100
"""Most experiments that one batch of points may be about."""

router = APIRouter()

_POINT: Final = {
    "time": "2026-01-01T12:00:00Z",
    "experiment_id": "019b76da-a800-7000-8000-000000000001",
    "activity_id": "sinter-1",
    "controller_id": "furnace-2",
    "metric_name": "temperature",
    "value": 1250.5,
    "unit": "°C",
    "tags": {"zone": 1},
}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "Columns, all of one length; or `points`, a list of objects. 8 MiB at most.",
        "content": {
            "application/json": {
                "schema": {"type": "object", "additionalProperties": {"type": "array"}},
                "examples": {
                    "columns": {"value": {name: [value] for name, value in _POINT.items()}},
                    "points": {"value": {"points": [_POINT]}},
                },
            }
        },
    }
}
_LISTS: Final = TypeAdapter(dict[str, list[Any]])


async def _lists(request: Request) -> dict[str, list[Any]]:
    try:
        return _LISTS.validate_python(await json_body(request))
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        ) from error


Points = Annotated[dict[str, list[Any]], Depends(_lists)]
BatchId = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,200}$",
        description="The batch's own id: sent again, it brings nothing twice.",
    ),
]


@router.post(
    "/telemetry",
    dependencies=[WRITE],
    status_code=202,
    responses=problem_responses(404),
    openapi_extra=_BODY,
)
async def take_telemetry(
    points: Points, plane: PlaneOf, caller: Caller, batch_id: BatchId = None
) -> Taken:
    """Take measurements, durably, for experiments of yours; all of a batch or nothing."""
    return await _take(plane, points, Telemetry, caller, batch_id)


@router.post(
    "/metrics",
    dependencies=[WRITE],
    status_code=202,
    responses=problem_responses(404),
    openapi_extra=_BODY,
)
async def take_metrics(
    points: Points, plane: PlaneOf, caller: Caller, batch_id: BatchId = None
) -> Taken:
    """Take figures about whole experiments, as telemetry is taken."""
    return await _take(plane, points, Metrics, caller, batch_id)


@router.get(
    "/activities/{activity_id}/profile", dependencies=[READ], responses=problem_responses(404)
)
async def read_profile(
    activity_id: str,
    plane: PlaneOf,
    caller: Caller,
    metric: Annotated[str, Query(max_length=255)] = "temperature",
    bucket_s: Annotated[int, Query(ge=1, le=86_400)] = queries.MINUTE_S,
    start: Annotated[Time | None, Query(description="From here on.")] = None,
    end: Annotated[Time | None, Query(description="Up to here.")] = None,
) -> Profile:
    """A metric of an activity per time bucket: average, smallest, greatest, number."""
    table = await queries.temperature_profile(
        plane,
        caller,
        activity_id,
        metric=metric,
        bucket_s=bucket_s,
        start=start,
        end=end,
    )
    buckets = [Bucket.model_validate(row) for row in table.to_pylist()]
    return Profile(activity_id=activity_id, metric_name=metric, bucket_s=bucket_s, buckets=buckets)


@router.get(
    "/experiments/{experiment_id}/telemetry/latest",
    dependencies=[READ],
    responses=problem_responses(404),
)
async def read_latest(experiment_id: UUID, plane: PlaneOf, caller: Caller) -> LatestMetrics:
    """The newest measurement of each metric of an experiment."""
    table = await queries.latest_metrics(plane, caller, experiment_id)
    return _latest(experiment_id, table)


@router.get(
    "/experiments/{experiment_id}/metrics/latest",
    dependencies=[READ],
    responses=problem_responses(404),
)
async def read_latest_figures(experiment_id: UUID, plane: PlaneOf, caller: Caller) -> LatestMetrics:
    """The newest of each figure about an experiment as a whole."""
    await queries.check_owned(plane, caller, [experiment_id])
    metrics = plane.acting(caller)[Metrics]
    table = await metrics.latest(by="metric_name", where={"experiment_id": experiment_id})
    return _latest(experiment_id, table)


@router.get(
    "/experiments/{experiment_id}/events/latest",
    dependencies=[READ],
    responses=problem_responses(404),
)
async def read_latest_events(
    experiment_id: UUID, plane: PlaneOf, caller: Caller
) -> list[LoggedEvent]:
    """The newest logged event of each activity of an experiment."""
    await queries.check_owned(plane, caller, [experiment_id])
    events = plane.acting(caller)[EventsLog]
    table = await events.latest(by="activity_id", where={"experiment_id": experiment_id})
    return [LoggedEvent.model_validate(_opened(row)) for row in table.to_pylist()]


async def _take(
    plane: pp.Plane,
    points: dict[str, list[Any]],
    stream: type[pp.Stream],
    caller: pp.Caller,
    batch_id: str | None,
) -> Taken:
    columns = _columns(points["points"]) if points.keys() == {"points"} else points
    await queries.check_owned(plane, caller, _experiments(columns))
    ack = await plane.acting(caller)[stream].publish(
        columns, batch_id=batch_id and f"{stream.name}:{batch_id}"
    )
    return Taken(points=len(columns["time"]), sequence=ack.sequence, duplicate=ack.duplicate)


def _columns(points: Sequence[Any]) -> dict[str, list[Any]]:
    """Objects as columns; what an object leaves out is null."""
    names: dict[str, None] = {}
    for number, point in enumerate(points):
        if not isinstance(point, dict):
            raise pp.Refused(f"Point {number} is not an object.", field=f"points.{number}")
        names.update(dict.fromkeys(point))
    return {name: [point.get(name) for point in points] for name in names}


def _experiments(columns: dict[str, list[Any]]) -> list[UUID]:
    """The experiments that points are about. What is no UUID is refused with the points."""
    distinct = {value for value in columns.get("experiment_id", []) if isinstance(value, str)}
    if len(distinct) > EXPERIMENTS_MAX:
        raise pp.Refused(
            f"A batch is about at most {EXPERIMENTS_MAX} experiments.", field="experiment_id"
        )
    found = []
    for text in distinct:
        try:
            found.append(UUID(text))
        except ValueError:
            continue
    return found


def _latest(experiment_id: UUID, table: pa.Table) -> LatestMetrics:
    points = [LatestPoint.model_validate(_opened(row)) for row in table.to_pylist()]
    return LatestMetrics(experiment_id=experiment_id, metrics=points)


def _opened(row: dict[str, Any]) -> dict[str, Any]:
    """A point with its JSON columns as objects."""
    return {
        name: orjson.loads(value) if name in ("tags", "detail") and value else value
        for name, value in row.items()
    }
