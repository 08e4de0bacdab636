"""Ingest under fire: each point that was acknowledged is stored, and once, whatever dies when."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import nats
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

import polyplane as pp
from polyplane.errors import FeedDown, StoreDown
from polyplane.flow import ingest as ingest_module
from polyplane.flow.ingest import Ingest
from polyplane.model.message import Message
from polyplane.runtime.access import ARROW, decode_message
from tests.conftest import PlaneOf
from tests.flow.things import Killed, Proxy, becomes, by_hand, failing, is_killed, running

START = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = ["ingest_begin", "append", "barrier", "ingest_stored", "let_go"]


class Heat(pp.Stream):
    """The points of these tests."""

    order_by = ("sensor",)
    sensor: str
    degrees: float


@pytest.fixture
async def plane(plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch) -> pp.Plane:
    """A stream, and nothing that moves it."""
    monkeypatch.setattr(ingest_module, "_PAUSES_S", (0.02,))
    return await plane_of(streams=[Heat], flows=False)


def ingest_of(
    plane: pp.Plane, step: str = "", *, after: bool = False, error: BaseException | None = None
) -> Ingest:
    """The ingest of the stream; `step` fails once with `error`, before or after it is done."""
    opened = plane.opened
    parts: list[Any] = [opened.stores.series, opened.journal, opened.feed]
    for index, part in enumerate(parts):
        if step and hasattr(part, step) and error is not None:
            fault = failing(getattr(part, step), 0, after=after, error=error)
            parts[index] = Proxy(part, **{step: fault})
    store, journal, feed = parts
    subjects = opened.feed.subjects
    return Ingest(Heat, store, journal, feed, subjects, decode_message, epoch=opened.epoch)


def points(first: int, count: int) -> dict[str, list[Any]]:
    """`count` points, all different, some of other months."""
    numbers = range(first, first + count)
    return {
        "time": [START + timedelta(days=n % 70, seconds=n) for n in numbers],
        "sensor": [f"s{n % 3}" for n in numbers],
        "degrees": [float(n) for n in numbers],
    }


async def publish(plane: pp.Plane, first: int, messages: int = 4) -> int:
    """Some messages of three points; the number of the next point."""
    for _ in range(messages):
        await plane[Heat].publish(points(first, 3))
        first += 3
    return first


async def drained(plane: pp.Plane) -> None:
    """Wait until no message is left."""
    feed = plane.opened.feed
    name, _ = feed.subjects.stream(Heat.name)

    async def left() -> bool:
        bounds = await feed.bounds(name)
        return bounds.first <= bounds.last

    await becomes(left, False, within_s=20)


async def stored(plane: pp.Plane) -> tuple[int, int]:
    """(points as queries count them, rows in the table whatever they are)."""
    store: Any = plane.opened.stores.series
    count = f"SELECT count() FROM {store._table(Heat)}"
    raw = await store._writer.run(lambda client: client.query(count).result_rows[0][0])
    return await plane[Heat].count(), int(raw)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_an_ingest_killed_at_any_step_stores_each_point_once(
    plane: pp.Plane, after: bool
) -> None:
    """Though more points have come meanwhile, and batches are cut otherwise."""
    first = 0
    for step in STEPS * 2:
        first = await publish(plane, first)
        assert await is_killed(ingest_of(plane, step, after=after, error=Killed())), step
        first = await publish(plane, first)
        async with running(ingest_of(plane)):
            await drained(plane)
        assert await stored(plane) == (first, first), step


async def test_an_ingest_waits_faults_out(plane: pp.Plane) -> None:
    """Without a new one, whether the step was done or not."""
    first = 0
    for step in STEPS:
        for after in (False, True):
            error = FeedDown("down") if step == "let_go" else StoreDown("down")
            ingest = ingest_of(plane, step, after=after, error=error)
            first = await publish(plane, first)
            async with running(ingest):
                await becomes(lambda: stored(plane), (first, first), within_s=20)
                first = await publish(plane, first)
                await drained(plane)
            assert await stored(plane) == (first, first), step
            assert ingest.last_error == ""


async def test_two_ingests_at_once_store_each_point_once(plane: pp.Plane) -> None:
    """As when two processes run the same plane: one is told, and follows the other."""
    first = 0
    async with running(ingest_of(plane), ingest_of(plane)):
        for _ in range(12):
            first = await publish(plane, first, 3)
        await drained(plane)
        await becomes(lambda: stored(plane), (first, first), within_s=10)
    assert await by_hand(plane, "SELECT count(*) FROM polyplane.ingested WHERE NOT stored") == [
        (0,)
    ]


async def test_a_batch_that_is_sent_again_is_stored_once(plane: pp.Plane) -> None:
    """Within the feed's memory of ids, and beyond it."""
    async with running(ingest_of(plane)):
        for _ in range(3):
            await plane[Heat].publish(points(0, 7), batch_id="monday")
        await plane[Heat].publish(points(7, 7), batch_id="tuesday")
        await drained(plane)
        assert await stored(plane) == (14, 14)
        await recreate(plane)  # it forgets every id
        ack = await plane[Heat].publish(points(0, 7), batch_id="monday")
        assert not ack.duplicate
    async with running(ingest_of(plane)):
        await drained(plane)
    assert (await stored(plane))[0] == 14


async def recreate(plane: pp.Plane) -> None:
    """The stream is lost, and made anew."""
    feed = plane.opened.feed
    name, subject = feed.subjects.stream(Heat.name)
    await feed.delete(name)
    await feed.ensure(name, [subject], keep=True)


async def test_a_stream_made_anew_is_not_taken_for_the_old_one(plane: pp.Plane) -> None:
    """Its sequences begin again, with other points; also while an ingest runs."""
    async with running(ingest_of(plane)):
        first = await publish(plane, 0)
        await drained(plane)
        await recreate(plane)
        first = await publish(plane, first)
        await becomes(lambda: stored(plane), (first, first), within_s=20)
        await drained(plane)
    await recreate(plane)
    first = await publish(plane, first, 2)
    async with running(ingest_of(plane)):
        await drained(plane)
    assert await stored(plane) == (first, first)
    await recreate(plane)
    first = await publish(plane, first, 2)
    assert await is_killed(ingest_of(plane, "append", error=Killed()))
    async with running(ingest_of(plane)):
        await drained(plane)
    assert await stored(plane) == (first, first)


async def test_garbage_is_refused_and_blocks_nothing(plane: pp.Plane) -> None:
    """What anybody may send to the subject, among what belongs there."""
    _, subject = plane.opened.feed.subjects.stream(Heat.name)
    good = {
        "time": ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01+02:00"],
        "sensor": ["a", "b"],
        "degrees": [1, 2.5],
    }
    table = pa.table({"time": points(0, 2)["time"], "sensor": ["a", "b"], "degrees": [1.0, 2.0]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    arrow = sink.getvalue().to_pybytes()
    garbage: list[tuple[bytes, dict[str, str]]] = [
        (b"", {}),
        (b"", {"Status": "408", "Description": "Request Timeout"}),
        (b"", {"Status": "100"}),
        (b"", {"Status": "nonsense"}),
        (b"not json", {}),
        (b"\xff\xfe", {}),
        (b"[1, 2]", {}),
        (b"null", {}),
        (b'{"time": 1}', {}),
        (b"[" * 5_000, {}),
        (orjson.dumps(good | {"degrees": [1]}), {}),
        (orjson.dumps(good | {"degrees": [None, 1]}), {}),
        (orjson.dumps(good | {"degrees": ["hot", 1]}), {}),
        (orjson.dumps(good).replace(b"2.5", b"NaN"), {}),
        (orjson.dumps(good).replace(b"2.5", b"1e999"), {}),
        (orjson.dumps(good | {"time": ["2026-01-01T00:00:00", "yesterday"]}), {}),
        (orjson.dumps(good | {"other": [1, 2]}), {}),
        (orjson.dumps({"time": [], "sensor": [], "degrees": []}), {}),
        (arrow[: len(arrow) // 2], {"Content-Type": ARROW}),
        (b"\0" * 100, {"Content-Type": ARROW}),
        (arrow, {"Content-Type": "application/json"}),
    ]
    client = await nats.connect(plane.settings.url("nats_url") or "")
    ingest = ingest_of(plane)
    async with running(ingest):
        for body, headers in garbage:
            await client.publish(subject, body, headers=headers or None)
        await client.publish(subject, orjson.dumps(good))
        await client.publish(subject, arrow, headers={"Content-Type": ARROW})
        await client.flush()
        await becomes(lambda: stored(plane), (4, 4), within_s=20)
        await drained(plane)
    await client.close()
    assert ingest.rejected_messages == len(garbage)


@given(st.binary(max_size=200), st.sampled_from(["", ARROW, "application/json", "\0"]))
def test_any_message_has_points_or_is_refused(body: bytes, kind: str) -> None:
    """Nothing else comes out of decoding."""
    with suppress(pp.Refused):
        decode_message(Heat, Message("s", body, {"Content-Type": kind}))


def test_a_message_without_an_id_gets_one_of_its_own() -> None:
    """The same at each delivery, and another than that of another message of its sequence."""
    bodies = [
        orjson.dumps({"time": ["2026-01-01T00:00:00Z"], "sensor": ["a"], "degrees": [n]})
        for n in (1, 2)
    ]
    found = [
        decode_message(Heat, Message("s", body, sequence=7))["event_id"][0].as_py()
        for body in (*bodies, bodies[0])
    ]
    assert found[0] == found[2] != found[1]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=2),
    max_leaves=8,
)


@given(st.fixed_dictionaries(dict.fromkeys(("time", "sensor", "degrees"), json_values)))
def test_any_columns_are_points_or_are_refused(columns: dict[str, Any]) -> None:
    """Of any type and any length."""
    with suppress(pp.Refused):
        decode_message(Heat, Message("s", orjson.dumps(columns)))


async def test_a_large_batch_goes_in_pieces_that_fit(plane: pp.Plane) -> None:
    """Wide points, more of them than one message holds."""
    wide = points(0, 1_000) | {"sensor": ["x" * 200 + str(n % 7) for n in range(1_000)]}
    many = points(1_000, 12_001)
    async with running(ingest_of(plane)):
        await plane[Heat].publish(wide, batch_id="wide")
        await plane[Heat].publish(many, batch_id="many")
        await plane[Heat].publish(many, batch_id="many")
        await drained(plane)
    assert await stored(plane) == (13_001, 13_001)


async def test_a_new_epoch_stores_nothing_twice(plane: pp.Plane) -> None:
    """The transport of changes was lost; the points' stream was not."""
    first = await publish(plane, 0)
    assert await is_killed(ingest_of(plane, "ingest_stored", after=False, error=Killed()))
    first = await publish(plane, first)
    opened = plane.opened
    opened.epoch = await opened.journal.bump_epoch(opened.epoch, 0, 0)
    async with running(ingest_of(plane)):
        await drained(plane)
    assert (await stored(plane))[0] == first
