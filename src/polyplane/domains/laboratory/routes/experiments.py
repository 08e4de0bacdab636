"""Experiments: from the draft to what was learned."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response

import polyplane as pp
from polyplane.domains.laboratory import analysis, queries, work
from polyplane.domains.laboratory.models import (
    ActivityCorrelation,
    Experiment,
    ExperimentMaterial,
    Learning,
    User,
)
from polyplane.domains.laboratory.permissions import READ, WRITE
from polyplane.domains.laboratory.projections import ExperimentCache
from polyplane.domains.laboratory.rows import check_refers, locked, row_of
from polyplane.domains.laboratory.shapes import (
    ActivityShown,
    ActivityStatus,
    Analysed,
    ExperimentChange,
    ExperimentGiven,
    ExperimentShown,
    ExperimentStatus,
    StartGiven,
    Summary,
)
from polyplane.domains.laboratory.streams import EventsLog, Metrics, Telemetry
from polyplane.domains.laboratory.wire import Activity
from polyplane.web import (
    After,
    Caller,
    Limit,
    Page,
    PlaneOf,
    TokenHeader,
    check_if_match,
    etag_of,
    paginate,
    problem_responses,
    repeatable,
)

router = APIRouter()


@router.post(
    "/experiments",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses=problem_responses(409),
)
async def create_experiment(
    given: ExperimentGiven, plane: PlaneOf, caller: Caller, token: TokenHeader, response: Response
) -> ExperimentShown:
    """Begin a draft. Conflict when the id is taken."""
    async with plane.acting(caller).write() as tx:
        await check_refers(tx, User, given.created_by, field="created_by")
        row = Experiment(tenant_id=caller.tenant, **given.model_dump(exclude_none=True))
        tx.add(row)
    return _written(row, tx, token, response)


@router.get("/experiments", dependencies=[READ], responses=problem_responses(504))
async def list_experiments(
    plane: PlaneOf,
    caller: Caller,
    token: TokenHeader,
    status: Annotated[ExperimentStatus | None, Query(description="Only these.")] = None,
    cached: Annotated[
        bool, Query(description="The first page from the cache: a moment old, without a token.")
    ] = False,
    after: After = None,
    limit: Limit = 50,
) -> Page[ExperimentShown]:
    """Experiments, newest first."""
    query = sa.select(Experiment).where(Experiment.tenant_id == caller.tenant)
    if status is not None:
        query = query.where(Experiment.status == status)

    async def page() -> Page[ExperimentShown]:
        async with plane.acting(caller).read() as session:
            rows, cursor = await paginate(session, query, Experiment, after, limit)
        return Page(items=[ExperimentShown.model_validate(row) for row in rows], next=cursor)

    async def load() -> dict[str, Any]:
        return (await page()).model_dump(mode="json")

    if not cached or after is not None:
        return await page()
    await token.wait_loaded()
    # The same for everybody of the tenant: experiments have no owner.
    answer = await plane.acting(caller).request_cache.get_or_load(
        f"experiments:{status or ''}:{limit}", load, ttl_s=60, depends=[Experiment], shared=True
    )
    return Page[ExperimentShown].model_validate(answer.value)


@router.get(
    "/experiments/{experiment_id}", dependencies=[READ], responses=problem_responses(404, 504)
)
async def read_experiment(
    experiment_id: UUID,
    plane: PlaneOf,
    caller: Caller,
    token: TokenHeader,
    response: Response,
    cached: Annotated[
        bool, Query(description="From the cache: a moment old, unless you bring a token.")
    ] = False,
) -> ExperimentShown:
    """One experiment, from truth or from the cache."""
    if cached:
        await token.wait(ExperimentCache)
        value = await plane.acting(caller)[ExperimentCache].get(experiment_id)
        if value is None:
            raise pp.NotFound(f"There is no experiment {experiment_id}.", field="experiment_id")
        return ExperimentShown.model_validate(value)
    async with plane.acting(caller).read() as session:
        row = await row_of(session, Experiment, experiment_id, tenant=caller.tenant)
    response.headers["ETag"] = etag_of(row)
    return ExperimentShown.model_validate(row)


@router.patch(
    "/experiments/{experiment_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def change_experiment(
    experiment_id: UUID,
    change: ExperimentChange,
    plane: PlaneOf,
    caller: Caller,
    token: TokenHeader,
    request: Request,
    response: Response,
) -> ExperimentShown:
    """Change what is named. With If-Match, only if nobody changed it meanwhile."""
    async with plane.acting(caller).write() as tx:
        row = await locked(tx, Experiment, experiment_id)
        check_if_match(request, row)
        changes = change.changes()
        if "status" in changes:
            work.check_move(row, changes["status"])
        await check_refers(tx, User, changes.get("created_by"), field="created_by")
        for name, value in changes.items():
            setattr(row, name, value)
    return _written(row, tx, token, response)


@router.delete(
    "/experiments/{experiment_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_experiment(
    experiment_id: UUID, plane: PlaneOf, caller: Caller, token: TokenHeader, request: Request
) -> None:
    """Delete an experiment with its activities and learnings, unless it is under way.

    Its telemetry stays until it is a year old.
    """
    async with plane.acting(caller).write() as tx:
        row = await locked(tx, Experiment, experiment_id)
        check_if_match(request, row)
        if row.status in ("running", "analysing"):
            raise pp.Conflict("It is under way.", field="status", fix="Wait until it is over.")
        await tx.delete(row)
    token.give(tx.token)


@router.post(
    "/experiments/{experiment_id}/start",
    dependencies=[WRITE, repeatable],
    status_code=202,
    responses=problem_responses(404, 409),
)
async def start_experiment(
    experiment_id: UUID, given: StartGiven, plane: PlaneOf, caller: Caller, token: TokenHeader
) -> list[ActivityShown]:
    """Schedule the activities and send the work orders to their controllers."""
    orders = [
        work.Order(
            order.controller_id,
            [Activity.model_validate(each.model_dump()) for each in order.activities],
        )
        for order in given.work_orders
    ]
    async with plane.acting(caller).write() as tx:
        rows = await work.start_experiment(tx, experiment_id, orders)
    token.give(tx.token)
    return [ActivityShown.model_validate(row) for row in rows]


@router.post(
    "/experiments/{experiment_id}/analyse",
    dependencies=[WRITE],
    responses=problem_responses(404, 409, 504),
)
async def analyse_experiment(
    experiment_id: UUID, plane: PlaneOf, caller: Caller, token: TokenHeader
) -> Analysed:
    """Look at the telemetry (again) and write what it proves as learnings."""
    found, written = await analysis.analyse(plane, caller, experiment_id)
    token.give(written)
    return Analysed(experiment_id=experiment_id, findings=[each.insight for each in found])


@router.get(
    "/experiments/{experiment_id}/summary", dependencies=[READ], responses=problem_responses(404)
)
async def summarise_experiment(experiment_id: UUID, plane: PlaneOf, caller: Caller) -> Summary:
    """What is where of an experiment: rows in truth, points in the series store."""
    where = {"experiment_id": experiment_id}
    async with plane.acting(caller).read() as session:
        row = await row_of(session, Experiment, experiment_id, tenant=caller.tenant)
        activity, counted = ActivityCorrelation, sa.func.count().label("n")
        by_status = await session.execute(
            sa.select(activity.status, counted)
            .where(activity.experiment_id == experiment_id)
            .group_by(activity.status)
        )
        activities = {each.status: each.n for each in by_status}
        materials, learnings = [
            await session.scalar(
                sa.select(counted).select_from(model).where(model.experiment_id == experiment_id)
            )
            for model in (ExperimentMaterial, Learning)
        ]
    return Summary(
        experiment_id=experiment_id,
        status=row.status,
        activities=activities,
        materials=materials or 0,
        learnings=learnings or 0,
        telemetry_points=await plane.acting(caller)[Telemetry].count(where),
        metric_points=await plane.acting(caller)[Metrics].count(where),
        events_logged=await plane.acting(caller)[EventsLog].count(where),
    )


@router.get(
    "/experiments/{experiment_id}/activities", dependencies=[READ], responses=problem_responses(404)
)
async def list_activities(
    experiment_id: UUID,
    plane: PlaneOf,
    caller: Caller,
    status: Annotated[ActivityStatus | None, Query(description="Only these.")] = None,
    after: After = None,
    limit: Limit = 50,
) -> Page[ActivityShown]:
    """The activities of an experiment, newest first."""
    activity = ActivityCorrelation
    query = sa.select(activity).where(
        activity.tenant_id == caller.tenant, activity.experiment_id == experiment_id
    )
    if status is not None:
        query = query.where(activity.status == status)
    async with plane.acting(caller).read() as session:
        await row_of(session, Experiment, experiment_id, tenant=caller.tenant)
        rows, cursor = await paginate(session, query, activity, after, limit)
    return Page(items=[ActivityShown.model_validate(row) for row in rows], next=cursor)


@router.get("/activities/{activity_id}", dependencies=[READ], responses=problem_responses(404))
async def read_activity(activity_id: str, plane: PlaneOf, caller: Caller) -> ActivityShown:
    """One activity and what was reported of it."""
    row = await queries.activity_of(plane, caller, activity_id)
    return ActivityShown.model_validate(row)


def _written(
    row: Experiment, tx: pp.Write, token: TokenHeader, response: Response
) -> ExperimentShown:
    token.give(tx.token)
    response.headers["ETag"] = etag_of(row)
    return ExperimentShown.model_validate(row)
