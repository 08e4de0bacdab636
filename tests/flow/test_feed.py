"""The feed on a real NATS: fences, faults, and readers that neither miss nor make up a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter
from uuid import uuid4

import pytest

from polyplane.embedded import Engines
from polyplane.errors import FeedDown, Fenced, TooLarge
from polyplane.feed import jetstream
from polyplane.feed.jetstream import JetStream, connect
from polyplane.feed.protocol import Outgoing
from tests.flow.things import becomes

STREAM = "s"


@pytest.fixture
async def feed(engines: Engines) -> AsyncIterator[JetStream]:
    """A feed with one stream, which goes with the test."""
    feed = await connect(engines.urls["nats"], f"t{uuid4().hex[:12]}")
    stream = f"{feed.subjects.namespace}-{STREAM}"
    await feed.ensure(stream, [f"{feed.subjects.namespace}.>"], keep=False)
    yield feed
    await feed.delete(stream)
    await feed.close()


def name_of(feed: JetStream) -> str:
    """The stream."""
    return f"{feed.subjects.namespace}-{STREAM}"


def outgoing(feed: JetStream, *numbers: int, of: str = "a") -> list[Outgoing]:
    """Messages whose body, and id, is a number."""
    subject = f"{feed.subjects.namespace}.{of}"
    return [Outgoing(subject, str(n).encode(), f"{of}{n}") for n in numbers]


async def test_a_fenced_publish_is_told_at_once(feed: JetStream) -> None:
    """All, some or none are there; never one more."""
    stream = name_of(feed)
    assert await feed.publish_fenced(stream, outgoing(feed, *range(2_000)), 0) == 2_000
    assert (await feed.bounds(stream)).last == 2_000
    bodies = [await feed.get(stream, n) for n in (1, 777, 2_000)]
    assert [int(message.body) for message in bodies if message] == [0, 776, 1_999]
    for after in (1_999, 1_998, 2_001, 0):  # also when a later one of ours would fit
        began = perf_counter()
        with pytest.raises(Fenced):
            await feed.publish_fenced(stream, outgoing(feed, 9_000, 9_001, 9_002), after)
        assert perf_counter() - began < 3
    assert (await feed.bounds(stream)).last == 2_000


async def test_what_was_purged_can_be_published_again_at_once(feed: JetStream) -> None:
    """The server still knows the names of what it has no more, for two minutes."""
    stream, messages = name_of(feed), outgoing(feed, 1, 2, 3)
    assert await feed.publish_fenced(stream, messages, 0) == 3
    await feed.let_go(stream, 3)
    assert (await feed.bounds(stream))[:2] == (4, 3)
    assert await feed.publish_fenced(stream, messages, 3) == 6
    assert (await feed.bounds(stream))[:2] == (4, 6)


async def test_what_is_too_large_for_the_server_is_said_so(feed: JetStream) -> None:
    """It is no fault of the server's, and will never pass."""
    huge = Outgoing(f"{feed.subjects.namespace}.a", b"x" * (9 << 20), "huge")
    with pytest.raises(TooLarge):
        await feed.publish(huge)
    with pytest.raises(TooLarge):
        await feed.publish_fenced(name_of(feed), [huge], 0)


async def test_no_nats_is_feed_down_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for ever tried."""
    monkeypatch.setattr(jetstream, "_CONNECT_TIMEOUT_S", 0.5)
    began = perf_counter()
    with pytest.raises(FeedDown):
        await connect("nats://127.0.0.1:1", "nobody")
    assert perf_counter() - began < 5


async def test_a_reader_gives_all_of_its_subjects_once_and_in_order(feed: JetStream) -> None:
    """From anywhere, in batches of any size; nothing when there is nothing."""
    stream, namespace = name_of(feed), feed.subjects.namespace
    mixed = [m for n in range(300) for m in outgoing(feed, n, of="ab"[n % 2])]
    await feed.publish_fenced(stream, mixed, 0)
    for start, limit in ((1, 7), (150, 64), (299, 1), (301, 5)):
        reader = feed.reader(stream, [f"{namespace}.a"], start)
        found: list[int] = []
        while batch := await reader.batch(limit, wait_s=0.3):
            assert len(batch) <= limit
            found += [int(message.body) for message in batch]
        await reader.close()
        assert found == [n for n in range(start - 1, 300) if n % 2 == 0]


async def test_a_reader_goes_on_after_its_consumer_is_gone(feed: JetStream) -> None:
    """As when the server has restarted, or dropped an idle one."""
    stream, namespace = name_of(feed), feed.subjects.namespace
    reader = feed.reader(stream, [f"{namespace}.>"], 1)
    last = 0
    for turn in range(3):
        last = await feed.publish_fenced(stream, outgoing(feed, turn * 2, turn * 2 + 1), last)
        found: list[int] = []
        while len(found) < 2:
            found += [int(message.body) for message in await reader.batch(10, wait_s=10)]
        assert found == [turn * 2, turn * 2 + 1]
        assert reader._consumer is not None
        await feed._js.delete_consumer(stream, reader._consumer)
    await reader.close()


async def test_a_reader_says_when_its_stream_is_another_one(feed: JetStream) -> None:
    """Made anew, or restored from an older copy: it would wait for ever."""
    stream, namespace = name_of(feed), feed.subjects.namespace
    await feed.publish_fenced(stream, outgoing(feed, 1, 2, 3), 0)
    reader = feed.reader(stream, [f"{namespace}.>"], 1)
    assert len(await reader.batch(10, wait_s=5)) == 3
    await feed.delete(stream)
    await feed.ensure(stream, [f"{namespace}.>"], keep=False)
    await feed.publish_fenced(stream, outgoing(feed, 4, 5, 6, 7), 0)
    with pytest.raises(FeedDown, match="made anew"):
        while not await reader.batch(10, wait_s=10):
            pass
    await reader.close()
    beyond = feed.reader(stream, [f"{namespace}.>"], 9)
    with pytest.raises(FeedDown, match="ends at 4"):
        await beyond.batch(10, wait_s=5)
    await beyond.close()


async def test_headers_of_a_publisher_pass_for_no_word_of_the_server(feed: JetStream) -> None:
    """An empty message with a status is a message."""
    stream, namespace = name_of(feed), feed.subjects.namespace
    for status in ("100", "404", "408", "409", "503", "x"):
        await feed.publish(Outgoing(f"{namespace}.a", b"", f"id{status}", {"Status": status}))
    reader = feed.reader(stream, [f"{namespace}.>"], 1)
    found = 0
    async with asyncio.timeout(10):
        while found < 6:
            found += len(await reader.batch(10, wait_s=2))
    await reader.close()


async def test_hints_arrive_and_fail_nobody(feed: JetStream) -> None:
    """With and without a connection."""
    heard = asyncio.Event()
    async with feed.hints(heard.set):
        await feed.hint()
        await becomes(lambda: asyncio.sleep(0, heard.is_set()), True, within_s=5)
    lonely = await connect(feed._client.connected_url.geturl(), "lonely")  # type: ignore[union-attr]
    await lonely.close()
    await lonely.hint()
