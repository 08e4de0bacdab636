"""Analysis complete -> learnings: from an experiment's telemetry to rows of truth.

It runs when all activities are over, on a durable stream of its own, and again whenever asked:
what it finds has an id made of experiment and rule, so that it is written once and corrected
afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any, Final
from uuid import UUID, uuid5

import orjson
import pyarrow as pa
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert

import polyplane as pp
from polyplane.domains.laboratory import compression, findings, lifecycle, wire
from polyplane.domains.laboratory.findings import Finding, Measured, Point
from polyplane.domains.laboratory.models import ActivityCorrelation, Experiment, Learning
from polyplane.domains.laboratory.rows import locked, row_of
from polyplane.domains.laboratory.streams import Metrics, Telemetry

ANALYSED: Final = "laboratory.experiment.analysed"
ACTOR: Final = "laboratory.analysis"
REQUESTS: Final = "analysis"
"""Name of the inbound stream that takes requests for an analysis."""

POINTS_MAX: Final = 100_000
"""Most points of one metric that are looked at."""
METRICS_MAX: Final = 100
OVERDUE: Final = timedelta(seconds=60)
"""How long after the last activity telemetry may still be on its way."""

log = structlog.get_logger(__name__)


def learning_id(experiment_id: UUID, rule: str) -> UUID:
    """The id of what `rule` finds in an experiment."""
    return uuid5(experiment_id, rule)


async def request_analysis(plane: pp.Plane, tenant: str, experiment_id: UUID) -> None:
    """Ask for an analysis, durably; `analyse_requested` does it."""
    body = orjson.dumps({"tenant": tenant, "experiment_id": str(experiment_id)})
    once = {"Nats-Msg-Id": f"{REQUESTS}:{experiment_id}"}
    acting = plane.acting(pp.Caller(ACTOR, tenant))
    await acting.publish(f"laboratory.{REQUESTS}.{experiment_id}", body, once)


async def analyse_requested(plane: pp.Plane, messages: Sequence[pp.Message]) -> None:
    """Do the analyses asked for. Raises NotSettled, to be asked again, when it is early."""
    for subject, body in dict.fromkeys((it.subject, it.body) for it in messages):
        try:
            request = orjson.loads(body)
            tenant, experiment_id = str(request["tenant"]), UUID(request["experiment_id"])
            if wire.tenant_of(subject, REQUESTS) != tenant:
                raise ValueError("its subject says another tenant")
        except (ValueError, KeyError, TypeError) as error:
            log.warning("not a request for an analysis", reason=repr(error))
            continue
        try:
            await analyse(plane, pp.Caller(ACTOR, tenant), experiment_id)
        except pp.Refused as error:  # deleted meanwhile
            log.warning("nothing to analyse", experiment=str(experiment_id), reason=error.message)


async def analyse(
    plane: pp.Plane, caller: pp.Caller, experiment_id: UUID
) -> tuple[list[Finding], pp.Token | None]:
    """Write what the telemetry of an experiment proves, for the caller's tenant; the findings and
    the write's token. The laboratory does it, whoever asks.

    Raises NotFound, Conflict when activities are not over, NotSettled.
    """
    caller = pp.Caller(ACTOR, caller.tenant, request_id=caller.request_id)
    activities = await _activities(plane, caller, experiment_id)
    points = await _points(plane, caller, experiment_id, activities)
    measured = findings.measured(
        {each.activity_id: (each.activity_name, each.parameters) for each in activities}, points
    )
    usable = [each for each in measured if each.samples]
    await _publish_figures(plane, caller, experiment_id, usable)
    found = compression.learned(usable) or findings.rankings(usable)
    async with plane.acting(caller).write() as tx:
        experiment = await locked(tx, Experiment, experiment_id)
        await _write(tx, experiment_id, found)
        if experiment.status == "analysing":
            completed = any(each.status == "completed" for each in activities)
            experiment.status = "completed" if completed else "failed"
            tx.emit(
                ANALYSED,
                {"experiment_id": str(experiment_id), "learnings": len(found)},
                subject=str(experiment_id),
            )
    return found, tx.token


async def _activities(
    plane: pp.Plane, caller: pp.Caller, experiment_id: UUID
) -> list[ActivityCorrelation]:
    async with plane.acting(caller).read() as session:
        await row_of(session, Experiment, experiment_id, tenant=caller.tenant)
        found = await session.scalars(
            sa.select(ActivityCorrelation)
            .where(ActivityCorrelation.experiment_id == experiment_id)
            .order_by(ActivityCorrelation.created_at, ActivityCorrelation.activity_id)
        )
        activities = list(found)
    if not activities or any(each.status not in lifecycle.TERMINAL for each in activities):
        raise pp.Conflict("Its activities are not over yet.", field="status")
    return activities


async def _points(
    plane: pp.Plane,
    caller: pp.Caller,
    experiment_id: UUID,
    activities: Sequence[ActivityCorrelation],
) -> list[Point]:
    """What was measured. Of an activity's points with the same tags the newest counts: a
    controller that died and measured again is not counted twice."""
    telemetry = plane.acting(caller)[Telemetry]
    where: dict[str, Any] = {"experiment_id": experiment_id}
    promised = sum(_promised(each.result) for each in activities)
    stored = await telemetry.count(where)
    last = max((each.completed_at for each in activities if each.completed_at), default=None)
    if stored < promised and last is not None and datetime.now(UTC) - last < OVERDUE:
        raise pp.NotSettled(f"{stored:,} of {promised:,} telemetry points are stored.")
    metrics = await telemetry.latest(by="metric_name", where=where, limit=METRICS_MAX)
    ids = [each.activity_id for each in activities]
    points: list[Point] = []
    for metric in metrics["metric_name"].to_pylist():
        table = await _newest(plane, caller, {**where, "metric_name": metric}, ids)
        names = ("activity_id", "value", "tags")
        rows = zip(*(table[name].to_pylist() for name in names), strict=True)
        points += [Point(name, metric, value, _unit(tags)) for name, value, tags in rows if name]
    return points


async def _newest(
    plane: pp.Plane, caller: pp.Caller, where: dict[str, Any], activity_ids: Sequence[str]
) -> pa.Table:
    """The newest point per activity and tags."""
    telemetry = plane.acting(caller)[Telemetry]
    table = await telemetry.latest(by="tags", where=where, limit=POINTS_MAX)
    if table.num_rows == await telemetry.count(where):
        return table
    # Tags that several activities share: one activity after the other.
    tables = [
        await telemetry.latest(by="tags", where={**where, "activity_id": each}, limit=POINTS_MAX)
        for each in activity_ids
    ]
    return pa.concat_tables(tables)


def _promised(result: Mapping[str, Any] | None) -> int:
    """How many points a controller says it has published."""
    points = (result or {}).get("points")
    return points if isinstance(points, int) and 0 < points < 10**9 else 0


def _unit(tags: str | None) -> int | None:
    """Which unit of the material a point is about."""
    block = orjson.loads(tags).get("block") if tags else None
    return block if isinstance(block, int) else None


async def _publish_figures(
    plane: pp.Plane, caller: pp.Caller, experiment_id: UUID, measured: Sequence[Measured]
) -> None:
    """The mean of each metric over all activities, as metrics of the whole experiment."""
    names = sorted({metric for each in measured for metric in each.samples})
    if not names:
        return
    means = [
        fmean(each.mean(metric) for each in measured if metric in each.samples) for metric in names
    ]
    await plane.acting(caller)[Metrics].publish(
        {
            "time": [datetime.now(UTC)] * len(names),
            "experiment_id": [experiment_id] * len(names),
            "metric_name": [f"mean_{metric}" for metric in names],
            "value": means,
        }
    )


async def _write(tx: pp.Write, experiment_id: UUID, found: Sequence[Finding]) -> None:
    if not found:
        return
    rows = [
        {
            "id": learning_id(experiment_id, each.rule),
            "tenant_id": tx.tenant,
            "experiment_id": experiment_id,
            "type": each.type,
            "insight": each.insight,
            "confidence": each.confidence,
        }
        for each in found
    ]
    statement = insert(Learning).values(rows)
    changed = {name: statement.excluded[name] for name in ("type", "insight", "confidence")}
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["id"],
            set_={**changed, "updated_at": sa.func.now()},
            # What is found again unchanged is no change for anyone.
            where=sa.or_(*(getattr(Learning, name) != value for name, value in changed.items())),
        )
    )
