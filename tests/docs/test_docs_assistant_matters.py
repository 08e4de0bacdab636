"""docs/assistant-matters.md knows every route, state, kind and bound of the other truth."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import APIRouter, FastAPI

from polyplane.domains.assistant.matters import calendar, integrations, states, tokens
from polyplane.domains.assistant.matters.contents import MODELS, PROJECTIONS, ROUTES
from polyplane.domains.assistant.permissions import PERMISSIONS
from polyplane.settings import USUAL_TABLES

PAGE = (Path(__file__).parents[2] / "docs" / "assistant-matters.md").read_text(encoding="utf-8")


def test_every_route_is_on_the_page() -> None:
    told: set[tuple[str, str]] = set()
    for row in re.findall(r"^\| (`[A-Z].*?) \|", PAGE, re.MULTILINE):
        if found := re.fullmatch(r"((?:`[A-Z]+` )+)`(/\S*)`", row):
            told |= {(method, found[2]) for method in re.findall("[A-Z]+", found[1])}
    router = APIRouter()
    for part in ROUTES:
        router.include_router(part.router)
    api = FastAPI()
    api.include_router(router)
    ours = {
        (method.upper(), path)
        for path, methods in api.openapi()["paths"].items()
        for method in methods
    }
    assert ours == told


def test_every_state_kind_permission_and_variable_is_on_the_page() -> None:
    named = [*states.TASK_MOVES, *states.TOKEN_MOVES, *states.CHANNELS, *states.VALUE_KINDS]
    named += [*integrations.KINDS, *PERMISSIONS, *USUAL_TABLES, tokens.CONSENT_NEEDED]
    named += [it.name for it in PROJECTIONS]
    assert [it for it in named if f"`{it}`" not in PAGE] == []
    assert len(MODELS) == 15


def test_bounds_are_the_real_ones() -> None:
    assert f"a deadline of {tokens.LEASE_S:g} s" in PAGE
    bounds = f"{calendar.EXPAND_S_MAX:g} s of computing,\n{calendar.SPAN_DAYS_MAX} days"
    assert f"{bounds} and {calendar.OCCURRENCES_MAX:,} occurrences" in PAGE
