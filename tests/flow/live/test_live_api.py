"""Live updates over sockets: Server-Sent Events and WebSocket, as `polyplane up` serves them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin as Page, Subprotocol

import polyplane as pp
from polyplane.access.attempts import Origin
from polyplane.live import OPERATION, Update
from polyplane.live.follower import Follower
from polyplane.serve.api import events, gate
from polyplane.serve.api.server import Server
from polyplane.serve.token import ops_token
from tests.flow.deeds import Deed
from tests.flow.live_things import WITHIN_S, do, listening, served

At = tuple[str, Server]
ENDS_S = 10.0
"""Ten times what a revocation may take."""


@pytest.fixture
async def key(plane: pp.Plane, acme: pp.Caller) -> str:
    """A program's key that may read the tenant's deeds."""
    return await key_of(plane, acme.tenant)


async def key_of(plane: pp.Plane, tenant: str) -> str:
    """A key of a program in a tenant, which is made."""
    everything = plane.identity.permissions.everything
    operator = pp.Caller("operator", tenant, None, everything)
    with suppress(pp.Conflict):
        await plane.identity.members.add_organization(operator, tenant, tenant)
    made = await plane.identity.keys.make(
        operator, f"k{uuid4().hex[:8]}", role="service_reader", expires_s=3600
    )
    return made.text


async def socket_of(at: str, **options: Any) -> ClientConnection:
    """A WebSocket."""
    return await connect(f"ws://{at}/api/v1/events/ws", open_timeout=WITHIN_S, **options)


async def told(by: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of that kind."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            found: dict[str, Any] = json.loads(await by.recv())
            if found["type"] == kind:
                return found


async def test_rows_events_and_states_come_as_server_sent_events(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller, at: At, key: str
) -> None:
    topics = ("deeds.deeds", "deeds.happened", "deeds.operations/42")
    async with listening(at[0], key, *topics) as stream:
        await do(plane, other, Deed(id=1, whose=other.tenant, body="x"), event="theirs")
        await plane.acting(other).state.set(OPERATION, "42", status="theirs")
        await do(plane, acme, Deed(id=2, whose=acme.tenant, body="x"), event="mine")
        await plane.acting(acme).state.set(OPERATION, "42", status="mine")
        found: list[dict[str, Any]] = []
        while len(found) < 3:
            found += (await stream.until("updates"))["updates"]
    by_topic = {it["topic"]: it for it in found}
    assert len(found) == 3
    assert by_topic["deeds.deeds"] == {"topic": "deeds.deeds", "key": "2"}
    assert by_topic["deeds.happened"]["event"]["data"] == {"what": "mine"}
    assert by_topic["deeds.operations"]["state"]["status"] == "mine"


async def test_a_client_that_was_cut_off_goes_on_by_its_last_id(
    plane: pp.Plane, acme: pp.Caller, at: At, key: str
) -> None:
    """Events are told once each over any number of connections, in order; a server in between."""
    seen: list[str] = []
    position = ""
    every = [f"e{n}" for n in range(30)]

    async def emit() -> None:
        for what in every:
            await do(plane, acme, event=what)

    async with served(plane, ends=False) as (second, _):
        emitting: asyncio.Task[None] | None = None
        for turn in range(60):
            where = (at[0], second)[turn % 2]
            async with listening(where, key, "deeds.happened", after=position) as stream:
                emitting = emitting or asyncio.create_task(emit())
                while True:
                    try:
                        async with asyncio.timeout(0.3):
                            content = await stream.until("updates")
                    except TimeoutError:
                        break
                    finally:
                        position = stream.position
                    seen += [it["key"] for it in content["updates"]]
                    if turn < 8:
                        break  # in the middle of what comes
            if len(seen) >= len(every) and emitting.done():
                break
        assert emitting is not None
        await emitting
    assert seen == every


async def test_what_may_not_be_followed_is_refused_before_anything_is_said(
    plane: pp.Plane, acme: pp.Caller, at: At, key: str
) -> None:
    async with httpx.AsyncClient(base_url=f"http://{at[0]}") as client:
        mine = {"Authorization": f"Bearer {key}"}
        for query, headers, status in (
            ("?topic=deeds.deeds", {}, 401),
            ("?topic=deeds.deeds", {"Authorization": "Bearer x"}, 401),
            ("?topic=deeds.deeds", mine | {"X-Tenant": "somebody"}, 403),
            ("?topic=deeds.secret", mine, 403),
            ("?topic=deeds.unknown", mine, 404),
            ("?topic=x", mine, 404),
            ("", mine, 422),
            ("?topic=deeds.operations/a:b", mine, 422),
            ("?topic=deeds.deeds&after=x", mine, 422),
            ("?topic=deeds.deeds&for_s=-1", mine, 422),
        ):
            answer = await client.get(f"/api/v1/events{query}", headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (
                status,
                "application/problem+json",
            ), query
        answer = await client.get("/api/v1/events?topic=deeds.deeds&for_s=0", headers=mine)
        assert '"reason":"ended"' in answer.text


async def test_the_deadline_of_requests_does_not_end_it_and_it_is_heard_of(
    plane: pp.Plane, acme: pp.Caller, at: At, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "REQUEST_TIMEOUT_S", 0.3)
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)
    async with listening(at[0], key, "deeds.deeds") as stream:
        before = stream.position
        await asyncio.sleep(1.0)  # longer than the deadline: heartbeats are all that comes
        await do(plane, acme, Deed(id=1, whose=acme.tenant, body="x"))
        assert (await stream.next())[0] == "updates"
        assert stream.position != before


@pytest.mark.parametrize("kind", ["session", "role", "key"])
async def test_what_is_revoked_ends_it(
    plane: pp.Plane, acme: pp.Caller, at: At, key: str, kind: str
) -> None:
    """On both transports, at once; what happens afterwards is not told."""
    revoke, credential = await revocable(plane, acme.tenant, kind, key)
    ws = await socket_of(at[0], additional_headers={"Authorization": f"Bearer {credential}"})
    async with ws, listening(at[0], credential, "deeds.deeds") as stream:
        await ws.send(json.dumps({"topics": ["deeds.deeds"]}))
        await told(ws, "ready")
        await revoke()
        async with asyncio.timeout(ENDS_S):
            assert (await stream.until("closed"))["reason"] == "revoked"
            assert (await told(ws, "closed"))["reason"] == "revoked"
            with pytest.raises(ConnectionClosed):
                await ws.recv()


async def revocable(
    plane: pp.Plane, tenant: str, kind: str, key: str
) -> tuple[Callable[[], Awaitable[Any]], str]:
    """A credential, and what takes it away."""
    operator = pp.Caller("operator", tenant, None, plane.identity.permissions.everything)
    if kind == "key":
        return lambda: plane.identity.keys.revoke(operator, key.split("_")[1]), key
    email, password = f"{uuid4().hex}@example.org", "correct horse battery"
    made = await plane.identity.people.add(operator, email, password)
    members = plane.identity.members
    await members.set(operator, made.id, "viewer")
    signed_in = await plane.identity.accounts.sign_in(email, password, Origin("10.9.0.1"))
    if kind == "role":
        return lambda: members.remove(operator, made.id), signed_in.token
    return lambda: plane.identity.people.set_status(operator, made.id, "disabled"), signed_in.token


@pytest.mark.parametrize("by", ["header", "subprotocol", "message", "resumed"])
async def test_a_websocket_is_let_in_by_header_subprotocol_or_first_message(
    plane: pp.Plane, acme: pp.Caller, at: At, key: str, by: str
) -> None:
    options: dict[str, Any] = {}
    first: dict[str, Any] = {"topics": ["deeds.deeds/5"]}
    match by:
        case "header":
            options = {"additional_headers": {"Authorization": f"Bearer {key}"}}
        case "subprotocol":
            offered = [Subprotocol("polyplane.live"), Subprotocol(f"bearer.{key}")]
            options = {"subprotocols": offered, "origin": Page(f"http://{at[0]}")}
        case _:
            first["credential"] = key
    ws = await socket_of(at[0], **options)
    async with ws:
        assert ws.subprotocol == ("polyplane.live" if by == "subprotocol" else None)
        await ws.send(json.dumps(first))
        ready = await told(ws, "ready")
        assert ready["topics"] == ["deeds.deeds"]
        await do(plane, acme, Deed(id=5, whose=acme.tenant, body="x"))
        found = await told(ws, "updates")
        assert found["updates"] == [{"topic": "deeds.deeds", "key": "5"}]
    if by == "resumed":
        async with await socket_of(at[0]) as again:
            await again.send(json.dumps(first | {"after": ready["id"]}))
            assert (await told(again, "updates"))["updates"] == found["updates"]


async def test_a_page_of_another_origin_gets_no_websocket(at: At, key: str) -> None:
    for origin in ("http://evil.example", "null", f"http://{at[0]}.evil.example"):
        with pytest.raises(InvalidStatus) as refused:
            await socket_of(at[0], origin=Page(origin))
        assert refused.value.response.status_code == 403


async def test_a_first_message_that_is_none_is_refused(at: At, key: str) -> None:
    for first, code in (
        ("", 4422),
        ("{}", 4422),
        ('{"topics": ["deeds.deeds"]}', 4401),
        (json.dumps({"topics": ["deeds.secret"], "credential": key}), 4403),
        (json.dumps({"topics": ["deeds.nothing"], "credential": key}), 4404),
        (json.dumps({"topics": ["deeds.deeds"], "credential": key, "after": "x"}), 4422),
        (json.dumps({"topics": [], "credential": key}), 4422),
        ("x" * 20_000, 1009),
    ):
        async with await socket_of(at[0]) as ws:
            await ws.send(first)
            with pytest.raises(ConnectionClosed) as closed:
                async with asyncio.timeout(WITHIN_S):
                    while True:
                        await ws.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code, first[:100]


async def test_whoever_never_reads_is_bounded_and_given_up(
    plane: pp.Plane, acme: pp.Caller, at: At, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SLOW_S", 1.0)
    host, _, port = at[0].partition(":")
    hub = plane.opened.live.hub
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, (host, int(port)))
        path = "/api/v1/events?topic=deeds.happened"
        head = f"GET {path} HTTP/1.1\r\nHost: {at[0]}\r\nAuthorization: Bearer {key}\r\n\r\n"
        await loop.sock_sendall(raw, head.encode())

        def mine() -> list[Follower]:
            return [it for it in hub.followers if it.caller.tenant == acme.tenant]

        async with asyncio.timeout(WITHIN_S):
            while not mine():
                await asyncio.sleep(0.01)
        [follower] = mine()
        async with asyncio.timeout(60):  # more than all buffers on the way take
            for n in count():
                if not mine():
                    break
                event = {"id": str(n), "data": "x" * 200_000}
                follower.put([(Update("deeds.happened", event=event), 200_000)])
                assert follower.pending._bytes <= 1 << 20
                await asyncio.sleep(0.005)


async def test_a_server_that_stops_says_so(plane: pp.Plane, acme: pp.Caller, key: str) -> None:
    own = pp.Plane(applications=plane.declared.applications, settings=plane.settings, flows=False)
    async with own, served(own) as (at, server), listening(at, key, "deeds.deeds") as stream:
        ws = await socket_of(at)
        await ws.send(json.dumps({"topics": ["deeds.deeds"], "credential": key}))
        await told(ws, "ready")
        server.should_exit = True
        assert (await stream.until("closed"))["reason"] == "stopping"
        assert (await told(ws, "closed"))["reason"] == "stopping"
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012


async def test_the_operator_follows_for_the_tenant_it_names(
    plane: pp.Plane, acme: pp.Caller, at: At
) -> None:
    headers = {"Authorization": f"Bearer {ops_token(plane.settings.home)}"}
    ws = await socket_of(at[0], additional_headers=headers)
    async with ws:
        await ws.send(json.dumps({"topics": ["deeds.secret"], "tenant": acme.tenant}))
        await told(ws, "ready")
        await do(plane, acme, Deed(id=1, whose=acme.tenant, holder=UUID(int=9), body="x"))
        assert [it["key"] for it in (await told(ws, "updates"))["updates"]] == ["1"]
