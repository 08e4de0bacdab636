"""Inbound: what outside programs send reaches the application in order, at least once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nats
import pytest

import polyplane as pp
from polyplane.errors import FeedDown
from polyplane.flow import inbound as inbound_module
from polyplane.flow.inbound import Follower
from tests.conftest import PlaneOf
from tests.flow.things import Proxy, becomes, failing, running

Handed = list[tuple[int, bool]]
"""(number in the body, redelivered), in the order in which they were handed over."""


class Receiver:
    """An application that counts, and fails when it is told to."""

    def __init__(self) -> None:
        self.handed: Handed = []
        self.batches: list[int] = []
        self.errors: list[Exception] = []

    async def handle(self, plane: Any, messages: Sequence[pp.Message]) -> None:
        """What `Inbound` calls."""
        self.batches.append(len(messages))
        self.handed += [(int(message.body), message.redelivered) for message in messages]
        if self.errors:
            raise self.errors.pop()


@pytest.fixture
async def plane(plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch) -> pp.Plane:
    """An application with one inbound stream; nothing moves, and no pause is long."""
    monkeypatch.setattr(inbound_module, "_PAUSES_S", (0.02,))
    return await plane_of(applications=[pp.Application("desk", inbound=[_inbound()])], flows=False)


def _inbound(receiver: Receiver | None = None) -> pp.Inbound:
    return pp.Inbound("reports", (receiver or Receiver()).handle)


def follower_of(plane: pp.Plane, receiver: Receiver, feed: Any = None) -> Follower:
    """What hands the stream's messages to the receiver."""
    feed = feed or plane.opened.feed
    return Follower("desk", _inbound(receiver), plane, feed, plane.opened.feed.subjects)


async def send(plane: pp.Plane, first: int, count: int) -> None:
    """As an outside program does, which knows NATS and the subject."""
    client = await nats.connect(plane.settings.url("nats_url") or "")
    for n in range(first, first + count):
        subject = f"{plane.namespace}.inbound.desk.reports.{n % 3}"
        await client.publish(subject, str(n).encode())
    await client.flush()
    await client.close()


async def left(plane: pp.Plane) -> bool:
    """Whether a message is still in the stream."""
    feed = plane.opened.feed
    bounds = await feed.bounds(feed.subjects.inbound("desk", "reports")[0])
    return bounds.first <= bounds.last


async def test_messages_are_handed_over_in_order_and_let_go_of(plane: pp.Plane) -> None:
    """In batches that are bounded."""
    receiver = Receiver()
    await send(plane, 0, 450)
    async with running(follower_of(plane, receiver)):
        await becomes(lambda: left(plane), False, within_s=10)
    assert receiver.handed == [(n, False) for n in range(450)]
    assert max(receiver.batches) <= 200


async def test_what_the_application_refuses_it_is_given_again(plane: pp.Plane) -> None:
    """And told so; nothing is let go of before it was handled."""
    receiver = Receiver()
    receiver.errors = [ValueError("no"), pp.Conflict("no"), TimeoutError()]
    await send(plane, 0, 3)
    follower = follower_of(plane, receiver)
    async with running(follower):
        await becomes(lambda: left(plane), False, within_s=10)
        await send(plane, 3, 1)
        await becomes(lambda: left(plane), False, within_s=10)
    again = [(n, turn > 0) for turn in range(4) for n in range(3)]
    assert receiver.handed == [*again, (3, False)]
    assert follower.last_error == ""


async def test_what_could_not_be_let_go_of_is_handed_over_again(plane: pp.Plane) -> None:
    """At least once: the application finds out that it knows it."""
    for after in (False, True):
        receiver = Receiver()
        await send(plane, 0, 5)
        let_go = failing(plane.opened.feed.let_go, 0, after=after, error=FeedDown("down"))
        feed = Proxy(plane.opened.feed, let_go=let_go)
        async with running(follower_of(plane, receiver, feed)):
            await becomes(lambda: left(plane), False, within_s=10)
            await send(plane, 5, 1)
            await becomes(lambda: left(plane), False, within_s=10)
        again = [] if after else [(n, True) for n in range(5)]
        assert receiver.handed == [*((n, False) for n in range(5)), *again, (5, False)]


async def test_a_stream_made_anew_begins_anew(plane: pp.Plane) -> None:
    """Its messages are no repetitions, though their sequences are."""
    receiver, feed = Receiver(), plane.opened.feed
    stream, subject = feed.subjects.inbound("desk", "reports")
    async with running(follower_of(plane, receiver)):
        await send(plane, 0, 5)
        await becomes(lambda: left(plane), False, within_s=10)
        await feed.delete(stream)
        await feed.ensure(stream, [subject], keep=True)
        await send(plane, 5, 3)
        await becomes(lambda: left(plane), False, within_s=20)
    assert receiver.handed == [(n, False) for n in range(8)]
