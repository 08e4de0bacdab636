"""Follows what controllers report: one transaction per batch of messages, then the events log.

Order, repetition and delay are no matter (see `lifecycle`). What cannot be taken in is logged as
`rejected` and never holds up what comes behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import groupby
from typing import Final
from uuid import UUID

import sqlalchemy as sa
import structlog

import polyplane as pp
from polyplane.domains.laboratory import lifecycle, wire
from polyplane.domains.laboratory.analysis import request_analysis
from polyplane.domains.laboratory.models import ActivityCorrelation, Experiment
from polyplane.domains.laboratory.streams import EventsLog
from polyplane.domains.laboratory.wire import CloudEvent
from polyplane.domains.laboratory.work import issue

MEASURED: Final = "laboratory.experiment.measured"
ACTOR: Final = "laboratory.correlation"
LOGGED_CHARACTERS_MAX: Final = 8_000
LOG_CALLS_MAX: Final = 32

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Reported:
    """One message and what is known of it; `reason` says why it was rejected, if it was."""

    message: pp.Message
    event: CloudEvent | None = None
    experiment_id: UUID | None = None
    reason: str = ""

    @property
    def controller_id(self) -> str:
        """Who sent it: the last part of the subject, which is what NATS lets a sender use."""
        return self.message.subject.rpartition(".")[2][:255]

    @property
    def tenant(self) -> str:
        """For whom it was sent, by the subject too; empty when that does not say it."""
        try:
            return wire.tenant_of(self.message.subject, wire.REPORTS)
        except ValueError:
            return ""


async def follow(plane: pp.Plane, messages: Sequence[pp.Message]) -> None:
    """Take in a batch of reports. Safe to repeat; raises Unavailable when an engine is down."""
    reports = [_read(message) for message in messages]
    measured: list[tuple[str, UUID]] = []
    for tenant, batch in groupby(sorted(reports, key=_tenant), key=_tenant):
        if tenant:
            measured += [(tenant, each) for each in await _apply(plane, tenant, list(batch))]
    await _write_log(plane, reports)
    # Before the messages are let go of: who dies here is asked again, and asks again.
    for tenant, experiment_id in measured:
        await request_analysis(plane, tenant, experiment_id)


def _read(message: pp.Message) -> Reported:
    try:
        event = wire.parse_report(message.body)
        if event.tenant != wire.tenant_of(message.subject, wire.REPORTS):
            raise ValueError("tenant: its subject says another one")
        return Reported(message, event)
    except ValueError as error:
        return Reported(message, reason=str(error))


def _tenant(report: Reported) -> str:
    return report.event.tenant if report.event is not None else ""


async def _apply(plane: pp.Plane, tenant: str, reports: Sequence[Reported]) -> list[UUID]:
    """Take reports in; the experiments that are measured now. A report that PostgreSQL refuses
    is found by halving and rejected alone."""
    try:
        async with plane.acting(pp.Caller(ACTOR, tenant)).write() as tx:
            return await _take(tx, reports)
    except pp.Refused as error:
        if len(reports) == 1:
            reports[0].reason = error.message
            return []
    middle = len(reports) // 2
    first = await _apply(plane, tenant, reports[:middle])
    return [*first, *await _apply(plane, tenant, reports[middle:])]


async def _take(tx: pp.Write, reports: Sequence[Reported]) -> list[UUID]:
    """Join the reports to the histories of their activities, and do what follows from it."""
    ids = {r.event.data.activity_id for r in reports if r.event is not None}
    experiments, rows = await _locked(tx, ids)
    before = {name: lifecycle.from_json(row.history) for name, row in rows.items()}
    after = dict(before)
    for report in reports:
        if report.event is None:
            continue
        name = report.event.data.activity_id
        report.reason = _refusal(report, rows.get(name))
        if not report.reason:
            report.experiment_id = rows[name].experiment_id
            after[name] = lifecycle.advance(after[name], report.event.event)
    for name, row in rows.items():
        if after[name] != before[name]:
            _show(row, after[name])
            attempt = lifecycle.retry(before[name], after[name])
            if attempt is not None:
                issue(tx, [(row, attempt)])
    await tx.flush()
    return await _measured(tx, experiments)


def _refusal(report: Reported, row: ActivityCorrelation | None) -> str:
    """Why a well-formed report is not taken in; empty when it is."""
    if row is None:
        return "there is no such activity"
    if row.controller_id != report.controller_id:
        return "the activity belongs to another controller"
    return ""


async def _locked(
    tx: pp.Write, activity_ids: Collection[str]
) -> tuple[list[Experiment], dict[str, ActivityCorrelation]]:
    """The activities and their experiments, locked in the order of their keys, parents first."""
    activity = ActivityCorrelation
    mine = sa.and_(activity.tenant_id == tx.tenant, activity.activity_id.in_(activity_ids))
    experiments = await tx.scalars(
        sa.select(Experiment)
        .where(Experiment.id.in_(sa.select(activity.experiment_id).where(mine)))
        .order_by(Experiment.id)
        .with_for_update(key_share=True)
    )
    rows = await tx.scalars(
        sa.select(activity)
        .where(mine)
        .order_by(activity.activity_id)
        .with_for_update(key_share=True)
    )
    return list(experiments), {row.activity_id: row for row in rows}


def _show(row: ActivityCorrelation, history: lifecycle.History) -> None:
    """Write the history and what follows from it into the row."""
    shown = lifecycle.view(history)
    row.history = lifecycle.to_json(history)
    row.status = shown.status
    row.progress = shown.progress
    row.retry_count = shown.retry_count
    row.result = shown.result
    row.error = shown.error
    row.started_at = shown.started_at
    row.completed_at = shown.completed_at


async def _measured(tx: pp.Write, experiments: Sequence[Experiment]) -> list[UUID]:
    """Which of the locked experiments wait for their analysis, now that activities may be over."""
    activity = ActivityCorrelation
    over = await tx.execute(
        sa.select(activity.experiment_id)
        .where(activity.experiment_id.in_([each.id for each in experiments]))
        .group_by(activity.experiment_id)
        .having(sa.func.bool_and(activity.status.in_(lifecycle.TERMINAL)))
    )
    done = set(over.scalars())
    for experiment in experiments:
        if experiment.id in done and experiment.status == "running":
            experiment.status = "analysing"
            tx.emit(MEASURED, {"experiment_id": str(experiment.id)}, subject=str(experiment.id))
    return [each.id for each in experiments if each.status == "analysing"]


async def _write_log(plane: pp.Plane, reports: Sequence[Reported]) -> None:
    """One point for each message, under an identity that is the same each time it is sent.

    Of a message whose subject says no tenant there is only the line in the program's log.
    """
    gate = asyncio.Semaphore(LOG_CALLS_MAX)

    async def write(report: Reported) -> None:
        identity, entry = blake2b(report.message.body, digest_size=16).hexdigest(), _entry(report)
        if report.tenant:
            acting = plane.acting(pp.Caller(ACTOR, report.tenant))
            async with gate:
                await acting[EventsLog].publish(entry, batch_id=f"report:{identity}")

    await asyncio.gather(*map(write, reports))


def _entry(report: Reported) -> dict[str, list[object]]:
    event = report.event
    kind = event.kind if event is not None and not report.reason else "rejected"
    text = report.message.body[: 4 * LOGGED_CHARACTERS_MAX].decode(errors="replace")
    detail = {"body": text[:LOGGED_CHARACTERS_MAX]}
    if report.reason:
        detail["reason"] = report.reason[:LOGGED_CHARACTERS_MAX]
        log.warning("report rejected", controller=report.controller_id, reason=report.reason)
    return {
        "time": [event.time if event is not None else datetime.now(UTC)],
        "type": [kind],
        "experiment_id": [report.experiment_id],
        "activity_id": [event.data.activity_id if event is not None else None],
        "controller_id": [report.controller_id],
        "attempt": [event.data.attempt if event is not None else None],
        "detail": [detail],
    }
