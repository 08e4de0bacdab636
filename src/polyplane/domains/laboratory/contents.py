"""The laboratory's table of contents."""

from __future__ import annotations

from fastapi import APIRouter

import polyplane as pp
from polyplane.domains.laboratory import analysis, correlation, wire
from polyplane.domains.laboratory.models import MODELS, SCHEMA, Experiment, Learning
from polyplane.domains.laboratory.permissions import PERMISSIONS
from polyplane.domains.laboratory.projections import ExperimentCache, ExperimentLearnings
from polyplane.domains.laboratory.routes import experiments, learnings, materials, people, series
from polyplane.domains.laboratory.streams import STREAMS
from polyplane.live import OPERATION, Events, Rows, States, Topic


def routes() -> APIRouter:
    """All routes of the laboratory."""
    router = APIRouter()
    for part in (people, experiments, materials, learnings, series):
        router.include_router(part.router)
    return router


application = pp.Application(
    name="laboratory",
    schema=SCHEMA,
    models=MODELS,
    projections=(ExperimentLearnings, ExperimentCache),
    streams=STREAMS,
    inbound=(
        pp.Inbound(wire.REPORTS, correlation.follow),
        pp.Inbound(analysis.REQUESTS, analysis.analyse_requested, outside=False),
    ),
    migrations="polyplane.domains.laboratory.migrations",
    routes=routes,
    permissions=PERMISSIONS,
    topics=(
        Topic("experiments", Rows(Experiment), "laboratory.read"),
        Topic("learnings", Rows(Learning), "laboratory.read"),
        Topic("events", Events("laboratory"), "laboratory.read"),
        Topic("operations", States(OPERATION), "laboratory.read"),
    ),
    orders={wire.ISSUED: wire.TAKER},
)
