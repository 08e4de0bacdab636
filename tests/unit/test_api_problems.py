"""What the API answers to bad requests and to our own failures: always a problem document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from structlog.testing import capture_logs

from polyplane.access.identity import Identity, Rules
from polyplane.errors import (
    Conflict,
    EngineFailed,
    NotFound,
    NotSettled,
    PreconditionFailed,
    Refused,
    StoreDown,
    TooLarge,
    TruthDown,
)
from polyplane.model.application import Application
from polyplane.ops.health import EngineHealth, Health
from polyplane.serve.api import gate
from polyplane.serve.api.app import create_app
from polyplane.serve.token import ops_token
from polyplane.settings import Settings
from polyplane.web import Caller, permission, within

MIB = 2**20
DOWN = "connection to 10.0.0.7 as admin refused"
SECRET = "hunter2-hunter2"

ERRORS = {
    "not-found": (404, NotFound("There is no note 7.")),
    "conflict": (409, Conflict("There is already a row with this name.", field="name")),
    "precondition-failed": (412, PreconditionFailed("It changed.", fix="Read it again.")),
    "too-large": (413, TooLarge("More than 5,000 points.")),
    "refused": (422, Refused("It ends before it starts.", field="ended_at")),
    "truth-down": (503, TruthDown(DOWN)),
    "store-down": (503, StoreDown(DOWN)),
    "not-settled": (504, NotSettled("note_search has not applied it.")),
}


class Note(BaseModel):
    """A body with a bound of each kind."""

    name: str = Field(max_length=255)
    quantity: float = Field(gt=0)
    properties: dict[str, Any] = {}


PERMISSIONS = {"notes.use": "viewer"}


def identity_of(home: Path) -> Identity:
    """One that knows the operator, and has no truth to ask about others."""
    nothing: Any = None
    rules = Rules(session_idle_s=60, session_max_s=60, sign_up=False)
    declared = [("notes", PERMISSIONS)]
    return Identity(nothing, None, lambda: 1, declared, lambda: ops_token(home), rules)


class Plane:
    """As much of a plane as the API asks for when no route touches an engine."""

    namespace = "pp"

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.identity = identity_of(home)
        self.declared = SimpleNamespace(blobs=True, of_kind=lambda _: ())
        self.status = "healthy"

    async def health(self) -> Health:
        """One engine, in the state the test wants."""
        engine = EngineHealth("postgresql", "truth", self.status, 1.0, True)  # type: ignore[arg-type]
        return Health(self.status, (engine,))  # type: ignore[arg-type]


def routes() -> APIRouter:
    """One route for each way to fail."""
    router = APIRouter(dependencies=[permission("notes.use")])

    @router.post("/notes", status_code=201)
    async def create(note: Note) -> Note:
        return note

    @router.get("/notes/{number}")
    async def read(number: int, caller: Caller) -> dict[str, str]:
        return {"actor": caller.actor, "tenant": caller.tenant}

    @router.get("/errors/{kind}")
    async def fail(kind: str) -> None:
        raise ERRORS[kind][1]

    @router.get("/defect")
    async def defect() -> None:
        raise RuntimeError(SECRET)

    @router.get("/engine")
    async def engine() -> None:
        raise EngineFailed("postgres", DOWN)

    @router.get("/late")
    async def late() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(5)

    @router.get("/torn")
    async def torn() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError(SECRET)

        return StreamingResponse(parts())

    @router.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    @router.post("/large", max_body_size=12 * MIB)
    async def large(request: Request) -> int:
        return len(await request.body())

    @router.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(5)

    @router.get("/patient", dependencies=[within(5)])
    async def patient() -> str:
        await asyncio.sleep(0.2)
        return "done"

    return router


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    """A plane whose home is empty."""
    return Plane(tmp_path)


@pytest.fixture
def app(plane: Plane) -> FastAPI:
    """The API over it."""
    notes = Application("notes", routes=routes, permissions=PERMISSIONS)
    return create_app(plane, [notes])  # type: ignore[arg-type]


@pytest.fixture
async def api(app: FastAPI, plane: Plane) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it, as the operator."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://api/api/v1/notes",
        headers={"Authorization": f"Bearer {ops_token(plane.settings.home)}"},
    ) as client:
        yield client


def problem_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of `answer`, checked for what every one of them has."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:polyplane:problem:")
    assert problem["title"] and problem["detail"]
    assert problem["instance"] == answer.request.url.path
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


@pytest.mark.parametrize("kind", ERRORS)
async def test_each_error_of_ours_has_its_status_and_type(
    api: httpx.AsyncClient, kind: str
) -> None:
    status, error = ERRORS[kind]
    answer = await api.get(f"/errors/{kind}")
    problem = problem_of(answer, status)
    assert problem["type"] == f"urn:polyplane:problem:{kind}"
    assert problem.get("fix", "") == error.fix
    if isinstance(error, Refused):
        assert problem["detail"] == error.message
        assert problem.get("field", "") == error.field
    if status == 503:
        assert answer.headers["retry-after"] == "1"
        assert DOWN not in answer.text


BAD_NOTES: dict[str, tuple[str, str]] = {
    "300-character name": ('{"name": "%s", "quantity": 1}' % ("x" * 300), "name"),
    "negative quantity": ('{"name": "x", "quantity": -1}', "quantity"),
    "missing quantity": ('{"name": "x"}', "quantity"),
    "NaN": ('{"name": "x", "quantity": NaN}', "quantity"),
    "-Infinity": ('{"name": "x", "quantity": -Infinity}', "quantity"),
    "overflow": ('{"name": "x", "quantity": 1e999}', "quantity"),
    "long digits": ('{"name": "x", "quantity": %s.0}' % ("9" * 400), "quantity"),
    "deep NaN": (
        '{"name": "x", "quantity": 1, "properties": {"a": [0, {"b": NaN}]}}',
        "properties.a.1.b",
    ),
    "NUL": (r'{"name": "a\u0000", "quantity": 1}', "name"),
    "half a surrogate pair": (r'{"name": "\ud800", "quantity": 1}', "name"),
    "NaN under half a surrogate pair": (
        r'{"name": "x", "quantity": 1, "properties": {"\ud800": {"a": NaN}}}',
        "properties",
    ),
    "NUL in a key": (r'{"name": "x", "quantity": 1, "properties": {"\u0000": 1}}', "properties"),
}


@pytest.mark.parametrize("body, field", BAD_NOTES.values(), ids=BAD_NOTES)
async def test_a_bad_body_names_its_field(api: httpx.AsyncClient, body: str, field: str) -> None:
    answer = await api.post("/notes", content=body, headers={"content-type": "application/json"})
    problem = problem_of(answer, 422)
    assert problem["field"] == field
    assert problem["errors"][0]["pointer"] == "#/" + field.replace(".", "/")
    assert "x" * 20 not in answer.text


async def test_astral_text_and_large_numbers_pass(api: httpx.AsyncClient) -> None:
    body = r'{"name": "\ud83d\ude00", "quantity": 1e308, "properties": {"Infinity": "NaN"}}'
    answer = await api.post("/notes", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 201
    assert answer.json()["name"] == "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    "content", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"quantity": %s}' % (b"9" * 5_000)]
)
async def test_what_is_not_json_is_malformed(api: httpx.AsyncClient, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    problem = problem_of(await api.post("/notes", content=content, headers=headers), 400)
    assert problem["type"].endswith(":malformed")


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded"])
async def test_another_media_type_is_told_so(api: httpx.AsyncClient, media_type: str) -> None:
    headers = {"content-type": media_type} if media_type else {}
    answer = await api.post("/notes", content='{"name": "x", "quantity": 1}', headers=headers)
    assert "application/json" in problem_of(answer, 415)["fix"]


async def test_parameters_are_named_with_their_place(api: httpx.AsyncClient) -> None:
    problem = problem_of(await api.get("/notes/x"), 422)
    assert (problem["field"], problem["errors"][0]["location"]) == ("number", "path")
    problem = problem_of(await api.get("/notes/7?q=%00"), 422)
    assert (problem["field"], problem["errors"][0]["location"]) == ("q", "query")


@pytest.mark.parametrize("tenant", ["a.b", "*", ">", "a b", "x" * 65, ""])
async def test_a_tenant_that_no_subject_can_hold_is_refused(
    api: httpx.AsyncClient, tenant: str
) -> None:
    answer = await api.get("/notes/7", headers={"X-Tenant": tenant})
    assert problem_of(answer, 422)["field"] == "X-Tenant"


async def test_the_caller_is_who_the_credential_says(api: httpx.AsyncClient) -> None:
    assert (await api.get("/notes/7")).json() == {"actor": "operator", "tenant": "default"}
    answer = await api.get("/notes/7", headers={"X-Actor": "ada", "X-Tenant": "lab_1"})
    assert answer.json() == {"actor": "operator", "tenant": "lab_1"}
    for stranger in ("", "Bearer x", "Basic eDp4", f"Bearer ps_{'x' * 42}"):
        answer = await api.get("/notes/7", headers={"Authorization": stranger})
        assert problem_of(answer, 401)["type"].endswith(":unauthenticated")


async def test_unknown_addresses_and_methods(api: httpx.AsyncClient) -> None:
    problem_of(await api.get("/nothing"), 404)
    answer = await api.delete("/notes")
    problem_of(answer, 405)
    assert answer.headers["allow"] == "POST"


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(0, size, 65_536):
        yield bytes(65_536)


@pytest.mark.parametrize("body", [lambda: bytes(10 * MIB), lambda: _chunks(10 * MIB)])
async def test_a_body_over_the_limit_is_refused(
    api: httpx.AsyncClient, body: Callable[[], Any]
) -> None:
    assert problem_of(await api.post("/raw", content=body()), 413)["fix"]
    assert (await api.post("/large", content=body())).json() == 10 * MIB
    assert (await api.post("/raw", content=bytes(8 * MIB))).json() == 8 * MIB


async def test_a_defect_is_logged_and_not_shown(api: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        answer = await api.get("/defect", headers={"X-Request-ID": "one-two-three"})
    problem = problem_of(answer, 500)
    assert SECRET not in answer.text
    assert problem["request_id"] == "one-two-three"
    assert [(log["event"], log["path"]) for log in logs] == [
        ("request_failed", "/api/v1/notes/defect")
    ]
    with capture_logs() as logs:
        answer = await api.get("/engine")
    problem_of(answer, 500)
    assert DOWN not in answer.text
    assert DOWN in logs[0]["error"]


async def test_a_request_has_a_deadline(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "REQUEST_TIMEOUT_S", 0.1)
    assert problem_of(await api.get("/slow"), 503)["type"].endswith(":deadline")
    assert (await api.get("/patient")).json() == "done"


async def test_a_call_that_is_late_is_an_engine_that_does_not_answer(
    api: httpx.AsyncClient,
) -> None:
    answer = await api.get("/late")
    assert problem_of(answer, 503)["type"].endswith(":unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_a_response_that_breaks_off_is_not_made_to_look_whole(
    api: httpx.AsyncClient,
) -> None:
    with capture_logs() as logs, pytest.raises(RuntimeError):  # which closes the connection
        await api.get("/torn")
    assert logs[0]["event"] == "request_failed"


async def test_a_request_id_that_could_harm_a_log_is_replaced(api: httpx.AsyncClient) -> None:
    for given in ("short", "x" * 65, "with space in", 'quo"te-quote'):
        answer = await api.get("/notes/7", headers={"X-Request-ID": given})
        assert answer.headers["x-request-id"] != given


async def test_every_response_is_safe_to_show(api: httpx.AsyncClient) -> None:
    for path in ("/notes/7", "/nothing", "/defect", "/errors/truth-down"):
        headers = (await api.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-frame-options"] == "DENY"


async def test_only_the_named_hosts_are_answered(plane: Plane) -> None:
    app = create_app(plane, [], hosts=["127.0.0.1", "::1"])  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport) as client:
        problem_of(await client.get("http://rebound.example/healthz"), 421)
        assert (await client.get("http://127.0.0.1:8765/healthz")).status_code == 200
        assert (await client.get("http://[::1]:8765/healthz")).status_code == 200


async def test_health_has_the_shape_of_the_seed(api: httpx.AsyncClient, plane: Plane) -> None:
    answer = await api.get("http://api/healthz")
    assert answer.json() == {"status": "healthy", "database": {"postgresql": "healthy"}}
    assert (await api.get("http://api/readyz")).status_code == 200
    plane.status = "failed"
    answer = await api.get("http://api/healthz")
    assert answer.status_code == 200
    assert answer.json()["database"] == {"postgresql": "failed"}
    assert (await api.get("http://api/readyz")).status_code == 503


async def test_metrics_count_requests_by_template(api: httpx.AsyncClient, app: FastAPI) -> None:
    for path in ("/notes/7", "/notes/8", "/nothing", "/nowhere"):
        await api.get(path)
    lines = app.state.metrics.render(()).decode().splitlines()
    name = "polyplane_http_requests_total"
    route = "/api/v1/notes/notes/{number}"
    assert f'{name}{{method="GET",route="{route}",status="200"}} 2.0' in lines
    assert f'{name}{{method="GET",route="unmatched",status="404"}} 2.0' in lines


async def test_the_operator_needs_the_token_of_the_home(
    api: httpx.AsyncClient, plane: Plane
) -> None:
    url = "http://api/api/v1/ops/status"
    api.headers.pop("Authorization")
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp4"}):
        answer = await api.get(url, headers=headers)
        problem_of(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    path = plane.settings.home / "ops.token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text()) >= 32
