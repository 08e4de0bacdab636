"""The table of contents of the assistant."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

import polyplane as pp
from polyplane.domains.assistant.matters import contents as matters
from polyplane.domains.assistant.models import MODELS, SCHEMA, Document
from polyplane.domains.assistant.permissions import PERMISSIONS
from polyplane.domains.assistant.processing import ReadDocuments
from polyplane.domains.assistant.projections import PROJECTIONS
from polyplane.domains.assistant.routes import documents, search
from polyplane.live import Events, Rows, Topic

SAGAS: Final = (ReadDocuments,)


def routes() -> APIRouter:
    """All routes of the assistant."""
    router = APIRouter()
    for part in (documents, search, *matters.ROUTES):
        router.include_router(part.router)
    return router


def assistant() -> pp.Application:
    """The application."""
    return pp.Application(
        name="assistant",
        schema=SCHEMA,
        models=(*MODELS, *matters.MODELS),
        projections=(*PROJECTIONS, *matters.PROJECTIONS),
        sagas=SAGAS,
        migrations="polyplane.domains.assistant.migrations",
        routes=routes,
        permissions=PERMISSIONS,
        topics=(
            Topic("documents", Rows(Document), "assistant.read"),
            Topic("events", Events("assistant"), "assistant.read"),
        ),
    )


application = assistant()
