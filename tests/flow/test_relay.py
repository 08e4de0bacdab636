"""The relay under fire: killed at every step, doubled, and robbed of its stream or its engines."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

import nats
import orjson
import psycopg
import pytest

import polyplane as pp
from polyplane.embedded import Engines
from polyplane.errors import FeedDown, Fenced
from polyplane.feed.protocol import Feed, Outgoing, Subjects
from polyplane.flow import packing, relay
from polyplane.model import key as model_key
from polyplane.truth import outbox
from polyplane.truth.journal import Relayed
from tests.conftest import PlaneOf
from tests.flow.things import (
    Killed,
    Proxy,
    Thing,
    ThingSearch,
    all_relayed,
    by_hand,
    connect,
    failing,
    is_killed,
    messages,
    relay_of,
    running,
)


class FaultyFeed:
    """A feed that fails at its n-th message: before it is published, or after, unacknowledged."""

    def __init__(self, feed: Feed, at: int, *, after: bool, error: BaseException) -> None:
        self._feed = feed
        self._left = at
        self._after = after
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    async def publish_fenced(self, stream: str, found: Sequence[Outgoing], after: int) -> int:
        """One by one, until the fault; none after it."""
        for message in found:
            self._left -= 1
            if self._left == -1 and not self._after:
                raise self._error
            after = await self._feed.publish_fenced(stream, [message], after)
            if self._left == -1:
                raise self._error
        return after


class Witness:
    """Reads the streams past the adapter and compares them with the outbox."""

    def __init__(self, plane: pp.Plane) -> None:
        self._plane = plane
        self._changes: list[tuple[str, bytes]] = []
        self._events: list[tuple[str, bytes]] = []

    async def look(self) -> None:
        """Read what is new."""
        subjects = self._plane.opened.feed.subjects
        for stream, known in ((subjects.changes, self._changes), (subjects.events, self._events)):
            known += await messages(self._plane, stream, len(known) + 1)

    async def check(self) -> None:
        """The streams hold the outbox: all of it, once, in order; the journal knows their ends.

        Each key is changed once in these tests, and by one writer, so that order is exact.
        """
        await self.look()
        rows = await by_hand(
            self._plane, "SELECT op::text, keys, body FROM polyplane.outbox ORDER BY seq"
        )
        written = [key for op, keys, _ in rows if op != "E" for key in keys]
        published: dict[int, list[str]] = {}
        tails: dict[tuple[str, int], int] = {}
        for sequence, (subject, body) in enumerate(self._changes, start=1):
            content, bucket = orjson.loads(body), int(subject.rpartition(".")[2])
            if content["keys"]:
                published.setdefault(bucket, []).extend(content["keys"])
                tails[content["table"], bucket] = sequence
        expected: dict[int, list[str]] = {}
        for key in written:
            expected.setdefault(model_key.bucket_of(key), []).append(key)
        assert published == expected
        events = [orjson.loads(body)["id"] for _, body in self._events]
        assert events == [body["id"] for op, _, body in rows if op == "E"]
        assert await self._plane.opened.journal.tails() == tails


async def write_some(plane: pp.Plane, first: int) -> int:
    """Four transactions, 12 rows and 6 events: with few rows a page it is many pages."""
    for turn in range(4):
        async with plane.write(actor="ada") as tx:
            for n in range(first, first + 3):
                tx.add(Thing(id=n, body=f"thing {n}"))
                await tx.flush()
                if turn % 2:
                    tx.emit("things.thing.made", {"n": n})
            first += 3
    return first


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows make many pages, a few keys many messages."""
    monkeypatch.setattr(outbox, "PAGE_ROWS", 4)
    monkeypatch.setattr(packing, "MESSAGE_KEYS", 1)
    monkeypatch.setattr(packing, "BUCKETS", 2)
    monkeypatch.setattr(model_key, "BUCKETS", 2)


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """A captured table, and nothing that moves its changes."""
    return await plane_of(models=[Thing], projections=[ThingSearch], flows=False)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_relay_killed_at_any_message_is_resumed(plane: pp.Plane, after: bool) -> None:
    """No message is lost, none is there twice, whichever was the last."""
    witness, first, kills = Witness(plane), 1, 0
    while True:
        first = await write_some(plane, first)
        feed = FaultyFeed(plane.opened.feed, kills, after=after, error=Killed())
        if not await is_killed(relay_of(plane, feed=feed)):
            break
        kills += 1
        async with running(relay_of(plane)):
            await all_relayed(plane)
        await witness.check()
    assert kills > 15


@pytest.mark.usefixtures("small_pages")
async def test_a_relay_killed_before_it_notes_what_it_did_is_resumed(plane: pp.Plane) -> None:
    """The tail of the stream knows better than the journal; and the journal learns from it."""
    witness, first = Witness(plane), 1
    for turns in range(4):
        first = await write_some(plane, first)
        relayed = failing(plane.opened.journal.relayed, turns, after=False, error=Killed())
        journal = Proxy(plane.opened.journal, relayed=relayed)
        assert await is_killed(relay_of(plane, journal=journal))
        async with running(relay_of(plane)):
            await all_relayed(plane)  # though nothing more is written
        await witness.check()


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("noted", [True, False], ids=["noted", "not-noted"])
async def test_a_window_whose_streams_are_purged_is_gone_on_with(
    plane: pp.Plane, noted: bool
) -> None:
    """No page goes out twice in an epoch: where the journal knows it, the relay goes on after it;
    where it might not, the epoch is over.
    """
    witness, first, subjects = Witness(plane), 1, Subjects(plane.namespace)
    for turns in range(1, 4):
        first = await write_some(plane, first)
        relayed = failing(plane.opened.journal.relayed, turns, after=noted, error=Killed())
        journal = Proxy(plane.opened.journal, relayed=relayed)
        assert await is_killed(relay_of(plane, journal=journal))
        await witness.look()
        await vanish(plane, "purged", subjects.changes, subjects.events)
        resumed = relay_of(plane)
        if not noted:
            async with asyncio.timeout(10):
                await resumed.run()
            assert resumed.over is not None and "is gone from the changes" in resumed.over.why
            return
        async with running(resumed):
            await all_relayed(plane)
        await witness.check()


@pytest.mark.usefixtures("small_pages")
async def test_lost_acknowledgements_are_waited_out(
    plane: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FeedDown though the message is there, and though it is not, without a new relay."""
    monkeypatch.setattr(relay, "_STANDBY_S", 0.01)
    await write_some(plane, 1)
    feed: Any = plane.opened.feed
    for at in range(0, 20, 2):
        feed = FaultyFeed(feed, at, after=at % 4 == 0, error=FeedDown("lost"))
    async with running(relay_of(plane, feed=feed)):
        await all_relayed(plane)
    await Witness(plane).check()


@pytest.mark.usefixtures("small_pages")
async def test_two_relays_at_once_never_interleave(
    plane: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when both believe that they lead: the fence holds, and was needed."""
    monkeypatch.setattr(relay, "_FENCED_S", 0.0)
    fenced = 0

    async def publish_fenced(*args: Any) -> int:
        nonlocal fenced
        try:
            return await plane.opened.feed.publish_fenced(*args)
        except Fenced:
            fenced += 1
            raise

    async def lease(*_: Any) -> int:
        return 1

    feed = Proxy(plane.opened.feed, publish_fenced=publish_fenced)
    journal = Proxy(plane.opened.journal, lease=lease)
    one, other = (relay_of(plane, journal=journal, feed=feed) for _ in range(2))
    first = 1
    async with running(one, other):
        for _ in range(8):
            first = await write_some(plane, first)
        await all_relayed(plane)
    await Witness(plane).check()
    assert fenced > 0


async def test_a_relay_takes_over_when_the_lease_of_a_dead_one_ends(plane: pp.Plane) -> None:
    """And not before; nor does one of an epoch that is over."""
    journal, epoch = plane.opened.journal, plane.opened.epoch
    dead, mine = uuid4(), uuid4()
    assert await journal.lease(relay.LEASE, dead, 0.3, epoch) == 1
    assert await journal.lease(relay.LEASE, mine, 3, epoch) is None
    await asyncio.sleep(0.3)
    assert await journal.lease(relay.LEASE, mine, 3, epoch) == 2
    assert await journal.lease(relay.LEASE, mine, 3, epoch) == 2
    assert await journal.lease(relay.LEASE, dead, 3, epoch) is None
    await journal.release(relay.LEASE, mine)
    assert await journal.lease(relay.LEASE, dead, 3, epoch + 1) is None


async def test_what_is_noted_as_published_never_goes_back(plane: pp.Plane) -> None:
    """A relay that was paused before it noted its window comes late."""
    journal, epoch = plane.opened.journal, plane.opened.epoch
    for newer, older in (("20:30:", "20:25:"), ("21:31:25", "21:31:22,25"), ("22:32:", "21:32:21")):
        await journal.relayed(epoch, Relayed(newer, 9, 9), {})
        await journal.relayed(epoch, Relayed(older, 10, 9), {})
        assert await journal.last_relayed(epoch) == Relayed(newer, 9, 9)
    within = Relayed("22:32:", 11, 9, "23:40:", 7)
    await journal.relayed(epoch, within, {})
    await journal.relayed(epoch, Relayed("22:32:", 10, 9, "23:40:", 6), {})
    assert await journal.last_relayed(epoch) == within


async def vanish(plane: pp.Plane, how: str, *streams: str) -> None:
    """What an operator, or a lost disk, does to the transport."""
    client = await nats.connect(plane.settings.url("nats_url") or "")
    try:
        for stream in streams:
            if how == "deleted":
                await client.jetstream().delete_stream(stream)
            else:
                await client.jetstream().purge_stream(stream)
    finally:
        await client.close()


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not-applied"])
@pytest.mark.parametrize("how", ["deleted", "purged"])
async def test_a_stream_that_is_gone_is_published_again_where_it_must(
    plane_of: PlaneOf, how: str, applied: bool
) -> None:
    """With and without changes in it that no projection had applied yet."""
    declared: dict[str, Any] = {"models": [Thing], "projections": [ThingSearch]}
    first = await plane_of(**declared)
    await write_some(first, 1)
    await first.caught_up()
    await first.close()
    second = await plane_of(**declared, flows=False)
    await by_hand(second, "DELETE FROM thing WHERE id < 5")
    await by_hand(second, "UPDATE thing SET body = 'other' WHERE id = 7")
    async with running(relay_of(second)):
        await all_relayed(second)
    await second.close()
    if applied:
        third = await plane_of(**declared)
        await third.caught_up()
        await third.close()
    await vanish(second, how, Subjects(second.namespace).changes)
    last = await plane_of(**declared)
    assert last.opened.epoch == (1 if how == "purged" and applied else 2)
    assert (await last.verify()).clean
    await write_some(last, 100)
    assert (await last.verify()).clean


async def test_a_plane_that_opens_beside_a_busy_one_ends_no_epoch(plane_of: PlaneOf) -> None:
    """What is published while it looks was not lost; and of two that look, one may end it."""
    declared: dict[str, Any] = {"models": [Thing], "projections": [ThingSearch]}
    busy = await plane_of(**declared)
    first = 1

    async def write() -> None:
        nonlocal first
        while True:
            first = await write_some(busy, first)

    writing = asyncio.create_task(write())
    for _ in range(8):
        other = await plane_of(**declared, flows=False)
        assert other.opened.epoch == 1
        await other.close()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert (await busy.verify()).clean
    journal = busy.opened.journal
    assert [await journal.bump_epoch(1, 0, 0) for _ in range(2)] == [2, 2]


async def kill(engines: Engines, name: str) -> None:
    """kill -9 of an engine, and back to when it serves again."""
    health = engines.health()[name]
    assert health.pid is not None
    os.kill(health.pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        while engines.health()[name].restarts == health.restarts:
            await asyncio.sleep(0.02)


# PostgreSQL takes half a minute, and the crash ring kills it, too.
@pytest.mark.parametrize("name", ["nats", pytest.param("postgres", marks=pytest.mark.long)])
async def test_an_engine_killed_in_the_middle_loses_nothing(
    plane_of: PlaneOf, engines: Engines, name: str
) -> None:
    """What was acknowledged is in truth, and what is in truth is in the stores."""
    plane = await plane_of(models=[Thing], projections=[ThingSearch])
    stored: list[int] = []
    going = True

    async def write(start: int) -> None:
        n = start
        while going:
            n += 1
            try:
                async with plane.write(actor="ada") as tx:
                    tx.add(Thing(id=n, body=f"thing {n}"))
                stored.append(n)
            except pp.Unavailable:
                await asyncio.sleep(0.05)

    async def write_lazily(n: int) -> None:
        """As somebody does who does not mind to lose something; stores must not tell of it."""
        while going:
            with suppress(psycopg.OperationalError):
                async with await connect(plane) as connection:
                    await connection.execute("SET synchronous_commit = off")
                    while going:
                        n += 1
                        await connection.execute("INSERT INTO thing VALUES (%s, 'lazy')", [n])
            await asyncio.sleep(0.05)

    writers = [asyncio.create_task(write(k * 1_000_000)) for k in range(4)]
    writers += [asyncio.create_task(write_lazily(k * 1_000_000)) for k in range(4, 6)]
    await asyncio.sleep(0.5)
    await kill(engines, name)  # once: it is started again ever more slowly
    await asyncio.sleep(0.5)
    going = False
    await asyncio.gather(*writers)
    began = asyncio.get_running_loop().time()
    drift = await plane.verify()
    assert drift.clean, drift
    assert asyncio.get_running_loop().time() - began < 20
    assert {n for (n,) in await by_hand(plane, "SELECT id FROM thing")} >= set(stored)
    assert len(stored) > 50
