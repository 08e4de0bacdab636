"""docs/agents.md knows every route, status and capability of the agents."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import FastAPI

from polyplane.domains.agents import execution, states
from polyplane.domains.agents.capabilities import CAPABILITIES
from polyplane.domains.agents.contents import application, routes
from polyplane.domains.agents.models import STEPS_MAX
from polyplane.domains.agents.projections import PROJECTIONS

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")


def test_every_route_is_on_the_page() -> None:
    told: set[tuple[str, str]] = set()
    for row in re.findall(r"^\| (`[A-Z].*?) \|", PAGE, re.MULTILINE):
        methods: list[str] = []
        for method, path in re.findall(r"`(?:([A-Z]+)\b ?)?(/[^`?]*)?[^`]*`", row):
            methods.append(method)
            if path:
                told |= {(each, path) for each in methods if each}
                methods = []
    api = FastAPI()
    api.include_router(routes())
    ours = {
        (method.upper(), path)
        for path, methods in api.openapi()["paths"].items()
        for method in methods
    }
    assert ours == told


def test_every_status_capability_label_and_topic_is_on_the_page() -> None:
    for moves in (states.OPERATION_MOVES, states.STEP_MOVES, states.DISCUSSION_MOVES):
        assert [it for it in moves if f"`{it}`" not in PAGE] == []
    for capability in CAPABILITIES:
        [row] = re.findall(rf"^\| `{re.escape(capability.name)}` \|.*$", PAGE, re.MULTILINE)
        assert [it for it in capability.arguments.model_fields if f"`{it}`" not in row] == []
    labels = [it.label for it in PROJECTIONS if hasattr(it, "label")]
    assert [it for it in labels if f"`{it}`" not in PAGE] == []
    assert [it.name for it in application.topics if f"agents.{it.name}" not in PAGE] == []


def test_bounds_are_the_real_ones() -> None:
    assert f"1 to {STEPS_MAX} steps" in PAGE
    retries = execution.RETRIES
    assert f"{retries.attempts_max} attempts of up to\n  {execution.STEP_TIMEOUT_S:g} s" in PAGE
