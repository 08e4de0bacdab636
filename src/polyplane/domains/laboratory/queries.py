"""The questions people ask of the laboratory; tenants see what is theirs.

Streams have no tenant of their own: whoever asks about an activity or an experiment must own it.
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
    activity_id: str,
    *,
    tenant: str = "default",
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
    activity = await activity_of(plane, activity_id, tenant=tenant)
    return await plane[Telemetry].window(
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


async def latest_metrics(
    plane: pp.Plane, experiment_id: UUID, *, tenant: str = "default"
) -> pa.Table:
    """The newest telemetry point of each metric of an experiment, in the stream's columns.

    Raises NotFound when the tenant has no such experiment.
    """
    await check_owned(plane, [experiment_id], tenant=tenant)
    return await plane[Telemetry].latest(by="metric_name", where={"experiment_id": experiment_id})


async def search_learnings(
    plane: pp.Plane,
    question: str,
    *,
    tenant: str = "default",
    min_confidence: float = 0.0,
    type: str | None = None,
    experiment_id: UUID | None = None,
    limit: int = 10,
) -> Sequence[pp.Hit]:
    """The learnings nearest in meaning to `question`, of at least `min_confidence`."""
    tags: dict[str, object] = {"tenant": tenant, "confidence": pp.Range(ge=min_confidence)}
    if type is not None:
        tags["type"] = type
    if experiment_id is not None:
        tags["experimentId"] = str(experiment_id)
    return await plane[ExperimentLearnings].search(question, limit=limit, tags=tags)


async def activity_of(
    plane: pp.Plane, activity_id: str, *, tenant: str = "default"
) -> ActivityCorrelation:
    """The tenant's activity; NotFound when it has none of this id."""
    async with plane.read(tenant=tenant) as session:
        found = await session.scalar(
            sa.select(ActivityCorrelation).where(
                ActivityCorrelation.tenant_id == tenant,
                ActivityCorrelation.activity_id == activity_id,
            )
        )
    if found is None:
        raise pp.NotFound(f"There is no activity {activity_id}.", field="activity_id")
    return found


async def check_owned(plane: pp.Plane, experiments: Sequence[UUID], *, tenant: str) -> None:
    """NotFound naming `experiment_id` unless all are the tenant's. Answered by the cache."""
    for experiment_id in experiments:
        known = await plane[ExperimentCache].get(experiment_id)
        if known is None or known["tenant_id"] != tenant:
            raise pp.NotFound(f"There is no experiment {experiment_id}.", field="experiment_id")
