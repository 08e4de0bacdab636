"""docs/assistant.md knows every route, state and bound of documents."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import FastAPI

from polyplane.domains.assistant import course, processing, room
from polyplane.domains.assistant.arrivals import ARRIVAL_BYTES_MAX
from polyplane.domains.assistant.contents import application
from polyplane.domains.assistant.models import STATES
from polyplane.domains.assistant.permissions import PERMISSIONS
from polyplane.domains.assistant.projections import PROJECTIONS
from polyplane.domains.assistant.routes import documents

PAGE = (Path(__file__).parents[2] / "docs" / "assistant.md").read_text(encoding="utf-8")


def test_every_route_is_on_the_page() -> None:
    told: set[tuple[str, str]] = set()
    for row in re.findall(r"^\| (`[A-Z].*?) \|", PAGE, re.MULTILINE):
        last = ""
        for method, path in re.findall(r"`([A-Z]+)\b ?(/[^`?]*)?[^`]*`", row):
            last = path or last
            told.add((method, last))
    api = FastAPI()
    api.include_router(documents.router)
    ours = {
        (method.upper(), path)
        for path, methods in api.openapi()["paths"].items()
        for method in methods
    }
    assert ours == told


def test_every_state_permission_projection_and_topic_is_on_the_page() -> None:
    names = [*STATES, *(it.name for it in PROJECTIONS), *list(PERMISSIONS)[:2]]
    topics = [
        f"assistant.{it.name}" for it in application.topics if it.name in ("documents", "events")
    ]
    assert [it for it in (*names, *topics) if f"`{it}`" not in PAGE] == []


def test_bounds_are_the_real_ones() -> None:
    assert f"up to {course.BATCH} files, or {ARRIVAL_BYTES_MAX >> 20} MiB" in PAGE
    group = f"up to {processing.GROUP_DOCUMENTS} files, or {processing.GROUP_BYTES >> 20} MiB"
    assert group in PAGE
    assert f"above {room.LIMITS.file_bytes >> 20} MiB" in PAGE
    assert f"up to {documents.FETCHED_BYTES_MAX >> 20} MiB" in PAGE
    assert f"`{processing.ReadDocuments.name}`" in PAGE
