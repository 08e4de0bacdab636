"""The laboratory's table of contents."""

from __future__ import annotations

from fastapi import APIRouter

import polyplane as pp
from polyplane.domains.laboratory import analysis, correlation, wire
from polyplane.domains.laboratory.models import MODELS, SCHEMA
from polyplane.domains.laboratory.permissions import PERMISSIONS
from polyplane.domains.laboratory.projections import ExperimentCache, ExperimentLearnings
from polyplane.domains.laboratory.routes import experiments, learnings, materials, people, series
from polyplane.domains.laboratory.streams import STREAMS


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
        pp.Inbound(analysis.REQUESTS, analysis.analyse_requested),
    ),
    migrations="polyplane.domains.laboratory.migrations",
    routes=routes,
    permissions=PERMISSIONS,
)
