"""Clients that are slow on purpose, and proxies that say for whom they ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from polyplane.errors import Misconfigured
from polyplane.serve.api import connection
from polyplane.serve.api.server import Server, bind

WITHIN_S = 30.0
PIECE = bytes(1 << 20)


@asynccontextmanager
async def serving(app: ASGIApp, **given: Any) -> AsyncIterator[int]:
    """The port that `app` is served on."""
    with closing(bind("127.0.0.1", 0, or_any=False)) as socket:
        server = Server(app, **given)
        task = asyncio.create_task(server.serve(sockets=[socket]))
        yield socket.getsockname()[1]
        server.should_exit = True
        await asyncio.wait_for(task, WITHIN_S)


async def who(scope: Scope, receive: Receive, send: Send) -> None:
    """Says for whom it takes the client."""
    request = Request(scope)
    assert request.client is not None
    told = {"client": request.client.host, "scheme": request.url.scheme}
    await JSONResponse(told)(scope, receive, send)


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_head_that_does_not_end_is_cut(
    begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.3)
    async with serving(who) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)
        with suppress(ConnectionResetError):  # which is how it is cut
            assert await asyncio.wait_for(reader.read(), WITHIN_S) == b""
        writer.close()
        monkeypatch.undo()
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/")).status_code == 200


async def test_a_request_that_is_at_work_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    cut, done = 1.0, asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        asyncio.get_running_loop().call_later(1.5 * cut, done.set)
        await done.wait()
        await who(scope, receive, send)

    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", cut)
    async with serving(slow) as port, httpx.AsyncClient(trust_env=False, timeout=WITHIN_S) as http:
        assert (await http.get(f"http://127.0.0.1:{port}/")).status_code == 200
        assert (await http.get(f"http://127.0.0.1:{port}/")).status_code == 200


async def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNREAD_TIMEOUT_S", 0.3)
    ended = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield PIECE
                await asyncio.sleep(0)  # nobody waits in `send` once the client is gone

        try:
            await StreamingResponse(pieces())(scope, receive, send)
        finally:
            ended.set()

    async with serving(endless) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 10)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readline()
        await asyncio.wait_for(ended.wait(), WITHIN_S)
        writer.close()


SPOOFED = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7", "X-Forwarded-Proto": "https"}


async def test_only_proxies_that_are_named_are_believed() -> None:
    async with httpx.AsyncClient(trust_env=False, headers=SPOOFED) as http:
        async with serving(who) as port:
            answer = await http.get(f"http://127.0.0.1:{port}/")
            assert answer.json() == {"client": "127.0.0.1", "scheme": "http"}
        async with serving(who, proxies="10.0.0.1") as port:
            answer = await http.get(f"http://127.0.0.1:{port}/")
            assert answer.json() == {"client": "127.0.0.1", "scheme": "http"}
        async with serving(who, proxies="127.0.0.1") as port:
            answer = await http.get(f"http://127.0.0.1:{port}/")
            assert answer.json() == {"client": "198.51.100.7", "scheme": "https"}, "its word only"


async def test_a_head_that_is_too_large_is_not_read() -> None:
    async with serving(who) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + bytes(200_000).replace(b"\0", b"x"))
        answer = await asyncio.wait_for(reader.readline(), WITHIN_S)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
        writer.close()


def test_two_that_come_for_one_port_have_two() -> None:
    with closing(bind("127.0.0.1", 0, or_any=False)) as first:
        port = first.getsockname()[1]
        with closing(bind("127.0.0.1", port, or_any=True)) as second:
            assert second.getsockname()[1] != port
        with pytest.raises(Misconfigured, match="--port"):
            bind("127.0.0.1", port, or_any=False)
