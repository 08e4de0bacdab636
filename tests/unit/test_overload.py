"""More requests than can be done: refused at once, as they should be; a monitor always gets in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from starlette.types import Receive, Scope, Send

from bench.flood import Client, Task
from polyplane.edge.places import leave_place
from polyplane.ops.metrics import Metrics
from polyplane.serve.api.overload import Overload, places_of
from polyplane.serve.api.server import Server, bind
from polyplane.serve.api.wire import is_whole
from polyplane.settings import Settings


@dataclass
class Work:
    """An app that answers when it is let to."""

    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    at_work: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.at_work += 1
        try:
            if scope["path"] == "/long":
                leave_place(scope)
            if scope["path"] == "/stream":
                await self._start(send)
            if scope["path"] != "/healthz":
                await self.may_end.wait()
            if scope["path"] != "/stream":
                await self._start(send)
            await send({"type": "http.response.body", "body": b"done"})
        finally:
            self.at_work -= 1

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.fixture
async def work() -> Work:
    """What is to be done."""
    return Work()


@pytest.fixture
async def metrics() -> Metrics:
    """What is counted."""
    return Metrics()


@pytest.fixture
async def api(work: Work, metrics: Metrics) -> AsyncIterator[AsyncClient]:
    """Two at work, and nobody who waits."""
    app = Overload(work, metrics, places_of(Settings(api_at_work=2, api_waiting=0)))
    async with AsyncClient(transport=ASGITransport(app=app), base_url="http://here") as client:
        yield client


@dataclass
class Bounded:
    """An app with what the server looks for."""

    app: Overload
    state: SimpleNamespace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


async def begun(api: AsyncClient, work: Work, path: str) -> asyncio.Task[Any]:
    """A request that is at work."""
    wanted = work.at_work + 1
    asking = asyncio.create_task(api.get(path))
    async with asyncio.timeout(30):
        while work.at_work < wanted:
            await asyncio.sleep(0.001)
    return asking


async def test_the_rest_is_refused_at_once(api: AsyncClient, work: Work, metrics: Metrics) -> None:
    first = [await begun(api, work, "/work") for _ in range(2)]
    refused = await api.get("/work")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert (problem["type"], problem["status"]) == ("urn:polyplane:problem:overloaded", 503)
    assert problem["instance"] == "/work" and problem["fix"]
    assert (await api.get("/healthz")).status_code == 200
    work.may_end.set()
    assert [(await it).status_code for it in first] == [200, 200]
    assert (await api.get("/work")).status_code == 200
    assert b"polyplane_http_refused_total 1.0" in metrics.render([])


async def test_what_takes_long_or_has_begun_to_answer_holds_up_nobody(
    api: AsyncClient, work: Work
) -> None:
    long = [await begun(api, work, path) for path in ("/long", "/stream") for _ in range(5)]
    first = [await begun(api, work, "/work") for _ in range(2)]
    assert (await api.get("/long")).status_code == 503  # until it is in, it is like any other
    work.may_end.set()
    assert {(await it).status_code for it in (*long, *first)} == {200}


async def test_a_flood_is_done_in_part_and_the_rest_is_told(metrics: Metrics) -> None:
    """A sample; the numbers are those of `python -m bench overload`."""

    async def busy(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(5):
            await asyncio.sleep(0.002)
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    places = places_of(Settings(api_at_work=2, api_waiting=2))
    app = Bounded(Overload(busy, metrics, places), SimpleNamespace(places=places, metrics=metrics))
    with bind("127.0.0.1", 0, or_any=False) as at:
        server = Server(app)
        serving = asyncio.create_task(server.serve(sockets=[at]))
        try:
            url = f"http://127.0.0.1:{at.getsockname()[1]}/work"
            async with asyncio.timeout(30):
                while not server.started:
                    await asyncio.sleep(0.01)
            client = Client(Task(url, "", "{}", 40, 0, 0, 0, 0))
            await client.connect(40)
            told = await client.open(0.5, 600)
            assert set(told.statuses) == {200, 503} and not told.without_retry_after
            assert sum(told.statuses.values()) == told.sent
            after = await client.closed(0.2, 1)
            assert set(after.statuses) == {200}
        finally:
            server.should_exit = True
            await serving


HEAD = "Host: here\r\nConnection: keep-alive\r\n"
WHOLE = [
    f"GET /a?b=c HTTP/1.1\r\n{HEAD}\r\n",
    f"POST /a HTTP/1.1\r\n{HEAD}Content-Length: 2\r\n\r\n{{}}",
    "DELETE /a HTTP/1.1\r\nhost: here\r\ncontent-length:0\r\n\r\n",
]
DOUBTFUL = [
    "",
    "GET /a HTTP/1.1\r\nHost: here\r\n",
    "HEAD /a HTTP/1.1\r\nHost: here\r\n\r\n",
    "GET /a HTTP/1.0\r\nHost: here\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n",
    "GET /metrics?x=1 HTTP/1.1\r\nHost: here\r\n\r\n",
    "GET /a HTTP/1.1\nHost: here\n\n",
    f"GET /a HTTP/1.1\r\n{HEAD}\r\nGET /b HTTP/1.1\r\n\r\n",
    f"POST /a HTTP/1.1\r\n{HEAD}Content-Length: 2\r\n\r\n{{",
    f"POST /a HTTP/1.1\r\n{HEAD}Content-Length: 2\r\n\r\n{{}}G",
    f"POST /a HTTP/1.1\r\n{HEAD}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}",
    f"POST /a HTTP/1.1\r\n{HEAD}Content-Length : 2\r\n\r\n{{}}",
    f"POST /a HTTP/1.1\r\n{HEAD}Content-Length: +2\r\n\r\n{{}}",
    f"POST /a HTTP/1.1\r\n{HEAD}Content-Length: 2, 2\r\n\r\n{{}}",
    f"POST /a HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    f"POST /a HTTP/1.1\r\n{HEAD}Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: here\r\nX: y\r\n folded\r\n\r\n",
]


@pytest.mark.parametrize("received", WHOLE)
def test_a_whole_request_may_be_refused_unread(received: str) -> None:
    assert is_whole(received.encode())


@pytest.mark.parametrize("received", DOUBTFUL)
def test_what_is_in_doubt_takes_the_usual_way(received: str) -> None:
    assert not is_whole(received.encode())
