"""Pub/sub: the same promises over NATS and over Valkey."""

from __future__ import annotations

import asyncio
from typing import Any

import nats
import pytest
from redis.asyncio import Redis

import polyplane as pp
from polyplane.runtime.live import Messages, Said
from tests.flow.live_things import WITHIN_S

TRANSPORTS = ("nats", "valkey")


async def said(messages: Messages) -> Said:
    """The next message."""
    found = await messages.next(wait_s=WITHIN_S)
    assert found is not None
    return found


@pytest.mark.parametrize("by", TRANSPORTS)
async def test_all_who_listen_hear_it_within_their_tenant(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller, by: str
) -> None:
    mine, theirs = plane.acting(acme).pubsub, plane.acting(other).pubsub
    async with (
        mine.subscribe("a.b", transport=by) as one,
        mine.subscribe("a.b", transport=by) as two,
        mine.subscribe("a", transport=by) as elsewhere,
        theirs.subscribe("a.b", transport=by) as stranger,
    ):
        for n in range(50):
            await mine.publish("a.b", b"%d" % n, transport=by)
        for messages in (one, two):
            heard = [int((await said(messages)).body) for _ in range(50)]
            assert heard == list(range(50))
        await mine.publish("a", b"end", transport=by)
        await theirs.publish("a.b", b"end", transport=by)
        assert await said(elsewhere) == Said(b"end", 0, False)
        assert await said(stranger) == Said(b"end", 0, False)
    async with mine.subscribe("a.b", transport=by) as late:
        await mine.publish("a.b", b"\x00\xff", transport=by)
        assert (await said(late)).body == b"\x00\xff"


@pytest.mark.parametrize("by", TRANSPORTS)
async def test_whoever_is_slow_has_the_latest_and_is_told_what_they_missed(
    plane: pp.Plane, acme: pp.Caller, by: str
) -> None:
    pubsub = plane.acting(acme).pubsub
    async with (
        pubsub.subscribe("busy", transport=by, queue_max=3) as slow,
        pubsub.subscribe("busy", transport=by) as quick,
    ):
        for n in range(10):
            await pubsub.publish("busy", b"%d" % n, transport=by)
        assert [(await said(quick)).body for _ in range(10)][-1] == b"9"
        async with asyncio.timeout(WITHIN_S):
            while slow._missed < 7:  # two subscriptions hear independently
                await asyncio.sleep(0.01)
        assert [tuple(await said(slow)) for _ in range(3)] == [
            (b"7", 7, False),
            (b"8", 0, False),
            (b"9", 0, False),
        ]


@pytest.mark.parametrize("by", TRANSPORTS)
async def test_a_lost_connection_is_made_anew_and_told(
    plane: pp.Plane, acme: pp.Caller, by: str
) -> None:
    pubsub = plane.acting(acme).pubsub
    async with pubsub.subscribe("lost", transport=by) as messages:
        await _cut(plane, by)

        async def until_heard() -> Said:
            while True:
                try:
                    await pubsub.publish("lost", b"x", transport=by)
                except pp.Unavailable:
                    continue
                finally:
                    await asyncio.sleep(0.02)
                if (found := await messages.next(wait_s=0.05)) is not None and found.interrupted:
                    return found

        async with asyncio.timeout(60):
            assert (await until_heard()).body == b"x"


async def _cut(plane: pp.Plane, by: str) -> None:
    """Have the server, or our client, lose the connection that listens."""
    if by == "valkey":
        async with Redis.from_url(plane.opened.urls["valkey"]) as client:
            await client.client_kill_filter(_type="pubsub")
        return
    transport: Any = plane.opened.live.transports["nats"]
    transport._client._transport.close()


@pytest.mark.parametrize("by", TRANSPORTS)
@pytest.mark.parametrize("name", ["", "*", ">", "a.*", "a b", "a..b", "a" * 129, "a:b", "é"])
async def test_names_that_are_none_are_refused(
    plane: pp.Plane, acme: pp.Caller, by: str, name: str
) -> None:
    pubsub = plane.acting(acme).pubsub
    with pytest.raises(pp.Refused):
        await pubsub.publish(name, b"", transport=by)
    with pytest.raises(pp.Refused):
        async with pubsub.subscribe(name, transport=by):
            raise AssertionError


async def test_bounds_and_the_transport_of_the_settings(plane: pp.Plane, acme: pp.Caller) -> None:
    pubsub = plane.acting(acme).pubsub
    with pytest.raises(pp.Refused):
        await pubsub.publish("a", b"x" * 65_537)
    with pytest.raises(pp.Misconfigured):
        await pubsub.publish("a", b"", transport="pigeons")
    with pytest.raises(pp.Refused):
        await plane.acting(pp.Caller("x", "")).pubsub.publish("a", b"")
    client = await nats.connect(plane.opened.urls["nats"])
    try:
        heard = await client.subscribe(f"{plane.namespace}.pubsub.{acme.tenant}.plain")
        await client.flush()
        await pubsub.publish("plain", b"by nats, unless the settings say otherwise")
        assert (await heard.next_msg(timeout=WITHIN_S)).data.startswith(b"by nats")
    finally:
        await client.close()
