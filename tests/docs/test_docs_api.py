"""docs/api.md and the schema know every route; every operation says how it may fail."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from polyplane import Plane, errors
from polyplane.__main__ import PROGRAM
from polyplane.serve.api import figures, problems
from polyplane.serve.api.app import create_app
from tests.flow.towns import DECLARED

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The schema of the API with every shipped application; no engine is needed for it."""
    applications = PROGRAM.load_applications()
    plane = Plane(applications=applications, **DECLARED)  # some routes are there with a graph
    return create_app(plane, applications).openapi()


def _operations(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    }


def test_every_common_route_is_on_the_page(schema: dict[str, Any]) -> None:
    rooms = re.compile("/api/v1/(?!ops/|blobs|auth/|events|graph|organizations)")
    ours = {name for name in _operations(schema) if not rooms.search(name)}
    rows = r"^\| `((?:GET|POST|PUT|PATCH|DELETE) [^`]*)` \|"
    assert ours == set(re.findall(rows, PAGE, re.MULTILINE))


def test_every_operation_says_what_it_does_and_how_it_may_fail(schema: dict[str, Any]) -> None:
    for name, operation in _operations(schema).items():
        assert operation.get("summary"), name
        assert operation.get("description"), name
        failures = {status for status in operation["responses"] if status >= "400"}
        assert {"422", "500", "503"} <= failures, name
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= failures, name
        for status in failures - {"503"}:
            content = operation["responses"][status]["content"]
            assert list(content) == ["application/problem+json"], f"{name} {status}"


def test_every_reference_of_the_schema_leads_somewhere(schema: dict[str, Any]) -> None:
    known = schema["components"]["schemas"]
    named = set(re.findall(r"'#/components/schemas/([^']+)'", str(schema)))
    assert sorted(named - known.keys()) == []
    assert "HTTPValidationError" not in named


def test_every_kind_of_problem_is_on_the_page() -> None:
    rows = re.findall(r"^\| (\d{3}) \| (.*?) \|", PAGE, re.MULTILINE)
    told = {(int(status), kind) for status, kinds in rows for kind in re.findall("`(.*?)`", kinds)}
    ours = {
        (cls.status, problems.kind_of(cls))
        for cls in vars(errors).values()
        if isinstance(cls, type)
        and issubclass(
            cls,
            errors.Refused | errors.Unavailable | errors.ObjectLost | errors.SecretDestroyed,
        )
    }
    assert told == ours | {(status, kind) for status, (kind, _) in problems.KINDS.items()}


def test_every_metric_is_on_the_page() -> None:
    source = (
        Path(figures.__file__).read_text()
        + Path(figures.__file__).parents[2].joinpath("ops", "metrics.py").read_text()
    )
    named = {name.removesuffix("_total") for name in re.findall(r"`(polyplane_\w+)`", PAGE)}
    assert set(re.findall(r'"(polyplane_\w+)"', source)) == named
