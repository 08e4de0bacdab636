"""The questions people ask of the laboratory; callers see what is theirs.

Every answer comes through `plane.acting(caller)`. Beyond that, whoever asks about an activity or an
experiment must have it: of what is not there nothing is told, not even that it has no points.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import pyarrow as pa
import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.laboratory.models import ActivityCorrelation
from polyplane.domains.laboratory.projections import ExperimentCache, ExperimentLearnings
from polyplane.domains.laboratory.streams import Telemetry

MINUTE_S: Final = 60


async def temperature_profile(
    plane: pp.Plane,
    caller: pp.Caller,
    activity_id: str,
    *,
    metric: str = "temperature",
    bucket_s: int = MINUTE_S,
    start: datetime | None = None,
    end: datetime | None = None,
) -> pa.Table:
    """The seed's profile of an activity, for any metric: per time bucket `bucket` (UTC), `avg`,
    `min`, `max`, `count`.

    Raises NotFound when the tenant has no such activity, Refused when `end` is before `start`.
    """
    if start is not None and end is not None and end < start:
        raise pp.Refused("The end is before the start.", field="end")
    activity = await activity_of(plane, caller, activity_id)
    return await plane.acting(caller)[Telemetry].window(
        value="value",
        bucket_s=bucket_s,
        where={
            "experiment_id": activity.experiment_id,
            "activity_id": activity_id,
            "metric_name": metric,
        },
        start=start,
        end=end,
    )


async def latest_metrics(plane: pp.Plane, caller: pp.Caller, experiment_id: UUID) -> pa.Table:
    """The newest telemetry point of each metric of an experiment, in the stream's columns.

    Raises NotFound when the tenant has no such experiment.
    """
    await check_owned(plane, caller, [experiment_id])
    telemetry = plane.acting(caller)[Telemetry]
    return await telemetry.latest(by="metric_name", where={"experiment_id": experiment_id})


async def search_learnings(
    plane: pp.Plane,
    caller: pp.Caller,
    question: str,
    *,
    min_confidence: float = 0.0,
    type: str | None = None,
    experiment_id: UUID | None = None,
    limit: int = 10,
) -> Sequence[pp.Hit]:
    """The learnings nearest in meaning to `question`, of at least `min_confidence`."""
    tags: dict[str, object] = {"confidence": pp.Range(ge=min_confidence)}
    if type is not None:
        tags["type"] = type
    if experiment_id is not None:
        tags["experimentId"] = str(experiment_id)
    return await plane.acting(caller)[ExperimentLearnings].search(question, limit=limit, tags=tags)


async def activity_of(plane: pp.Plane, caller: pp.Caller, activity_id: str) -> ActivityCorrelation:
    """The tenant's activity; NotFound when it has none of this id."""
    async with plane.acting(caller).read() as session:
        found = await session.scalar(
            sa.select(ActivityCorrelation).where(
                ActivityCorrelation.tenant_id == caller.tenant,
                ActivityCorrelation.activity_id == activity_id,
            )
        )
    if found is None:
        raise pp.NotFound(f"There is no activity {activity_id}.", field="activity_id")
    return found


async def check_owned(plane: pp.Plane, caller: pp.Caller, experiments: Sequence[UUID]) -> None:
    """NotFound naming `experiment_id` unless the caller has them all. Answered by the cache."""
    cached = plane.acting(caller)[ExperimentCache]
    for experiment_id in experiments:
        if await cached.get(experiment_id) is None:
            raise pp.NotFound(f"There is no experiment {experiment_id}.", field="experiment_id")
