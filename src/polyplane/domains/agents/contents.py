"""The table of contents of agents."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

import polyplane as pp
from polyplane.domains.agents.capabilities import CAPABILITIES, Capability
from polyplane.domains.agents.execution import sagas_of
from polyplane.domains.agents.learning.models import LearnedFileRow
from polyplane.domains.agents.models import MODELS, SCHEMA, Concept, Discussion, Operation
from polyplane.domains.agents.permissions import PERMISSIONS
from polyplane.domains.agents.projections import PROJECTIONS
from polyplane.domains.agents.routes import (
    concepts,
    discussions,
    knowledge,
    operations,
    people,
    tools,
)
from polyplane.live import OPERATION, Events, Rows, States, Topic


def routes() -> APIRouter:
    """All routes of agents."""
    router = APIRouter()
    for part in (people, tools, discussions, knowledge, concepts, operations):
        router.include_router(part.router)
    return router


def agents(capabilities: Sequence[Capability] = CAPABILITIES) -> pp.Application:
    """The application, whose tools do what `capabilities` can."""
    return pp.Application(
        name="agents",
        schema=SCHEMA,
        models=(*MODELS, LearnedFileRow),
        projections=PROJECTIONS,
        sagas=sagas_of(capabilities),
        follows=(Operation,),
        migrations="polyplane.domains.agents.migrations",
        routes=routes,
        permissions=PERMISSIONS,
        topics=(
            Topic("operations", States(OPERATION), "agents.read"),
            Topic("concepts", Rows(Concept), "agents.read"),
            Topic("discussions", Rows(Discussion), "agents.read"),
            Topic("events", Events("agents"), "agents.read"),
        ),
    )


application = agents()
