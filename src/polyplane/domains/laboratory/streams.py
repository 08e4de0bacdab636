"""The laboratory's time series. Points are kept for a year and compressed after a week.

Each point has its tenant. It may be null: points that are older than the column are nobody's.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import polyplane as pp

RETENTION_DAYS: Final = 365
COMPRESS_AFTER_DAYS: Final = 7


class Telemetry(pp.Stream):
    """Measurements of controllers. Access: by experiment, by activity, by metric, newest first."""

    name = "telemetry"
    order_by = ("experiment_id", "metric_name")
    tenant_column = "tenant_id"
    indexes = ("tenant_id", "activity_id", "controller_id", "metric_name")
    retention_days = RETENTION_DAYS
    compress_after_days = COMPRESS_AFTER_DAYS

    experiment_id: UUID
    activity_id: str | None
    controller_id: str
    metric_name: str
    value: float
    unit: str | None
    tags: dict[str, Any] | None
    tenant_id: str | None


class Metrics(pp.Stream):
    """Figures about a whole experiment, computed from its telemetry or sent by anyone."""

    name = "metrics"
    order_by = ("experiment_id", "metric_name")
    tenant_column = "tenant_id"
    indexes = ("tenant_id", "metric_name")
    retention_days = RETENTION_DAYS
    compress_after_days = COMPRESS_AFTER_DAYS

    experiment_id: UUID
    metric_name: str
    value: float
    unit: str | None
    tags: dict[str, Any] | None
    tenant_id: str | None


class EventsLog(pp.Stream):
    """Every report that came in, also those that were rejected, as it came."""

    name = "events_log"
    order_by = ("type",)
    tenant_column = "tenant_id"
    indexes = ("tenant_id", "experiment_id", "activity_id", "controller_id")
    retention_days = RETENTION_DAYS
    compress_after_days = COMPRESS_AFTER_DAYS

    type: str
    experiment_id: UUID | None
    activity_id: str | None
    controller_id: str
    attempt: int | None
    detail: dict[str, Any] | None
    tenant_id: str | None


STREAMS: Final = (Telemetry, Metrics, EventsLog)
