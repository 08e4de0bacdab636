"""What stands before every route: too large heads, pages of other sites, WebSockets, TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.types import Message

from polyplane.model.application import Application
from polyplane.serve.api import gate
from polyplane.serve.api.app import create_app
from polyplane.serve.api.front import HEAD_MAX_BYTES, HEADERS_MAX, URL_MAX_BYTES
from polyplane.serve.token import ops_token
from polyplane.web import permission
from tests.unit.test_api_problems import Plane, problem_of

OURS, FRIEND, STRANGER = "http://api.example:8765", "https://lab.example", "https://evil.example"
HOST = "api.example:8765"


def routes() -> APIRouter:
    """One to read, one to change."""
    router = APIRouter(dependencies=[permission("notes.use")])

    @router.get("/note")
    async def read() -> str:
        return "read"

    @router.post("/note")
    async def write() -> str:
        return "written"

    return router


async def echo(socket: WebSocket) -> None:
    """Says what it hears, and fails when it is told to."""
    await socket.accept(subprotocol="v1")
    while (heard := await socket.receive_text()) != "fail":
        await socket.send_text(heard)
    raise RuntimeError("told to")


async def slow(socket: WebSocket) -> None:
    """Does not make up its mind."""
    await asyncio.sleep(30)


def app_of(home: Path, **given: Any) -> FastAPI:
    """An API that pages of FRIEND may call, with two WebSockets."""
    notes = Application("notes", routes=routes, permissions={"notes.use": "viewer"})
    app = create_app(Plane(home), [notes], origins=[FRIEND], **given)  # type: ignore[arg-type]
    app.add_api_websocket_route("/echo", echo)
    app.add_api_websocket_route("/slow", slow)
    return app


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for all of them: none changes anything."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def app(home: Path) -> FastAPI:
    """The API over it."""
    return app_of(home)


@pytest.fixture
def api(app: FastAPI, home: Path) -> httpx.AsyncClient:
    """A client of it, as the operator."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url=f"{OURS}/api/v1/notes",
        headers={"Authorization": f"Bearer {ops_token(home)}"},
    )


async def test_a_head_has_bounds(api: httpx.AsyncClient) -> None:
    assert (await api.get("/note", params={"q": "x" * 5_000})).status_code == 200
    answer = await api.get("/note", params={"q": "x" * URL_MAX_BYTES})
    assert problem_of(answer, 414)["type"].endswith(":url-too-long")
    many = {f"X-{n}": "x" for n in range(HEADERS_MAX)}
    assert problem_of(await api.get("/note", headers=many), 431)["type"].endswith(":head-too-large")
    long = {"X-Long": "x" * HEAD_MAX_BYTES}
    problem_of(await api.get("/note", headers=long), 431)


@pytest.mark.parametrize("name", ["Authorization", "Content-Length", "Host", "Content-Type"])
async def test_what_there_is_one_of_is_not_there_twice(api: httpx.AsyncClient, name: str) -> None:
    twice = [("Host", HOST), (name, "1"), (name, "1")]
    request = httpx.Request("GET", f"{OURS}/healthz", headers=twice)
    assert name.lower() in problem_of(await api.send(request), 400)["detail"]


PAGES: list[tuple[dict[str, str], bool]] = [
    ({}, True),
    ({"Origin": OURS}, True),
    ({"Origin": OURS.upper()}, True),
    ({"Origin": FRIEND}, True),
    ({"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"}, True),
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Sec-Fetch-Site": "none"}, True),
    ({"Origin": STRANGER}, False),
    ({"Origin": "null"}, False),
    ({"Origin": ""}, False),
    ({"Origin": "http://api.example"}, False),
    ({"Origin": "http://api.example:87650"}, False),
    ({"Origin": f"{OURS}.evil.example"}, False),
    ({"Origin": "http://[api.example:8765"}, False),
    ({"Origin": f"{FRIEND}.evil.example"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "same-site"}, False),
]


@pytest.mark.parametrize("headers, may", PAGES)
async def test_only_pages_of_known_origins_change_anything(
    api: httpx.AsyncClient, headers: dict[str, str], may: bool
) -> None:
    answer = await api.post("/note", headers=headers)
    assert answer.status_code == (200 if may else 403), answer.text
    assert (await api.get("/note", headers=headers)).status_code == 200  # which nobody can read


async def test_other_sites_are_told_what_they_may(api: httpx.AsyncClient) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-tenant"}
    answer = await api.options("/note", headers={"Origin": FRIEND, **asks})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert "access-control-allow-credentials" not in answer.headers, "cookies are not shared"
    problem_of(await api.options("/note", headers={"Origin": STRANGER, **asks}), 403)
    answer = await api.get("/note", headers={"Origin": STRANGER})
    assert "access-control-allow-origin" not in answer.headers
    answer = await api.get("/note", headers={"Origin": FRIEND})
    assert answer.headers["access-control-allow-origin"] == FRIEND


async def test_without_origins_nobody_else_may(tmp_path: Path) -> None:
    notes = Application("notes", routes=routes, permissions={"notes.use": "viewer"})
    app = create_app(Plane(tmp_path), [notes])  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=OURS) as api:
        asks = {"Origin": FRIEND, "Access-Control-Request-Method": "GET"}
        problem_of(await api.options("/healthz", headers=asks), 403)
        answer = await api.get("/healthz", headers={"Origin": FRIEND})
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/docs"])
async def test_every_answer_says_what_a_browser_must_not_do(
    api: httpx.AsyncClient, path: str
) -> None:
    answer = await api.get(f"{OURS}{path}")
    told = answer.headers
    assert told["x-content-type-options"] == "nosniff"
    assert told["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in told["content-security-policy"]
    assert told["cross-origin-opener-policy"] == told["cross-origin-resource-policy"]
    assert "strict-transport-security" not in told, "not over plain HTTP"
    secure = await api.get(f"{OURS.replace('http', 'https')}{path}")
    assert secure.headers["strict-transport-security"].startswith("max-age=31536000")


class Spoken:
    """A WebSocket without a server: what was sent, and what the client says next."""

    def __init__(self, *said: str, may_deny: bool = True) -> None:
        self._said = [{"type": "websocket.connect"}]
        self._said += [{"type": "websocket.receive", "text": text} for text in said]
        self._extensions: dict[str, Any] = {"websocket.http.response": {}} if may_deny else {}
        self.sent: list[Message] = []

    async def with_(self, app: FastAPI, path: str, **headers: str) -> list[str]:
        """The types of what was sent."""
        given = {"host": HOST, **{name.replace("_", "-"): it for name, it in headers.items()}}
        scope = {
            "type": "websocket",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), it.encode()) for name, it in given.items()],
            "client": ("127.0.0.1", 1),
            "subprotocols": [],
            "extensions": self._extensions,
        }
        await app(scope, self._receive, self._send)
        return [message["type"] for message in self.sent]

    async def _receive(self) -> Message:
        return self._said.pop(0) if self._said else {"type": "websocket.disconnect", "code": 1000}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


async def test_a_websocket_has_an_id_and_an_origin(app: FastAPI) -> None:
    spoken = Spoken("hello")
    types = await spoken.with_(app, "/echo", origin=OURS, x_request_id="one-two-three")
    assert types == ["websocket.accept", "websocket.send"]
    assert (b"x-request-id", b"one-two-three") in spoken.sent[0]["headers"]
    refused = Spoken()
    types = await refused.with_(app, "/echo", origin=STRANGER)
    assert types == ["websocket.http.response.start", "websocket.http.response.body"]
    assert refused.sent[0]["status"] == 403
    assert b"x-request-id" in dict(refused.sent[0]["headers"])
    assert await Spoken(may_deny=False).with_(app, "/echo", origin=STRANGER) == ["websocket.close"]
    page = app.state.metrics.render([]).decode()
    assert 'route="/echo",status="101"' in page and 'status="403"' in page


async def test_a_websocket_that_fails_is_closed(app: FastAPI) -> None:
    spoken = Spoken("fail")
    assert await spoken.with_(app, "/echo") == ["websocket.accept", "websocket.close"]
    assert spoken.sent[1]["code"] == 1011


async def test_a_websocket_has_a_deadline_until_it_is_accepted(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "REQUEST_TIMEOUT_S", 0.1)
    spoken = Spoken()
    await spoken.with_(app, "/slow")
    assert spoken.sent[0]["status"] == 503


async def test_on_our_own_hosts_a_websocket_names_one(tmp_path: Path) -> None:
    app = app_of(tmp_path, hosts=["127.0.0.1"])
    spoken = Spoken()
    await spoken.with_(app, "/echo")
    assert spoken.sent[0]["status"] == 421
