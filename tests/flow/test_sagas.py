"""Sagas on a real PostgreSQL: done as a whole, or undone in reverse."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import polyplane as pp
from polyplane import saga
from polyplane.errors import TooLarge
from tests.conftest import PlaneOf
from tests.flow.things import Thing, ThingSearch, becomes, by_hand
from tests.flow.trips import Line, Outside, declared, failing, flaky, lines, refusing, writes


async def test_steps_are_done_in_turn_and_know_what_came_before(plane_of: PlaneOf) -> None:
    """Input, results by name, keys; the journal names each step."""
    outside, seen = Outside(), []

    async def look(context: saga.Context[Any]) -> Any:
        seen.append((context.input, dict(context.results), context.attempt, context.actor))
        return [context.results["book"]["called"], context.tenant]

    trip = declared(writes("reserve"), outside.step("book"), writes("tell", then=look))
    plane = await plane_of(models=[Line], sagas=[trip])
    saga_id = await plane.sagas.start(trip, {"to": "Graz"}, actor="ada", tenant="t1")
    done = await plane.sagas.finished(saga_id)
    assert (done.state, done.name, done.at, done.error, done.held) == (
        "done",
        "trip",
        "",
        "",
        False,
    )
    assert [(it.name, it.outcome, it.attempts) for it in done.steps] == [
        ("reserve", "done", 1),
        ("book", "done", 1),
        ("tell", "done", 1),
    ]
    assert done.results["tell"] == ["book", "t1"]
    results = {"reserve": {"wrote": "reserve"}, "book": {"called": "book", "attempt": 1}}
    assert seen == [({"to": "Graz"}, results, 1, "ada")]
    assert outside.calls == [("book", f"{saga_id}:book")]
    assert await lines(plane) == ["reserve", "tell"]
    tokens = [step.token is not None for step in done.steps]
    assert tokens == [True, False, True]
    with pytest.raises(pp.Conflict):
        await plane.sagas.cancel(saga_id)


async def test_what_fails_is_tried_again_under_the_same_key(plane_of: PlaneOf) -> None:
    """A try of a local step that fails leaves nothing."""
    outside = Outside()
    outside.behave["call"] = flaky(2)
    trip = declared(writes("once", then=flaky(2)), outside.step("call"))
    plane = await plane_of(models=[Line], sagas=[trip])
    done = await plane.sagas.finished(await plane.sagas.start(trip, {}))
    assert (done.state, [it.attempts for it in done.steps]) == ("done", [3, 3])
    assert await lines(plane) == ["once"]
    assert len(outside.calls) == 3 and len(set(outside.calls)) == 1


async def test_a_refusal_undoes_what_was_done_in_reverse(plane_of: PlaneOf) -> None:
    """At once; a step without an undo is left, and so is the one that has done nothing."""
    outside = Outside()
    outside.behave["refuse"] = refusing
    trip = declared(
        writes("a"), outside.step("b"), writes("c", undo=False), writes("d"), outside.step("refuse")
    )
    plane = await plane_of(models=[Line], sagas=[trip])
    undone = await plane.sagas.finished(await plane.sagas.start(trip, {}))
    assert (undone.state, undone.error) == ("undone", "refuse: SagaRefused: never")
    assert await lines(plane) == ["a", "c", "d", "not d", "not a"]
    assert outside.names == ["b", "refuse", "not b"]
    marks = [(it.name, it.undone_at is not None) for it in undone.steps]
    assert marks == [("a", True), ("b", True), ("c", False), ("d", True)]


async def test_a_remote_step_that_nobody_knows_of_is_undone_too(plane_of: PlaneOf) -> None:
    """A time-out says nothing of what happened; neither does a refusal after one."""
    outside = Outside()

    async def hang(context: saga.Context[Any]) -> None:
        await asyncio.sleep(30)

    async def hang_then_refuse(context: saga.Context[Any]) -> None:
        await (hang(context) if context.attempt == 1 else refusing(context))

    outside.behave |= {"hang": hang, "odd": hang_then_refuse}
    one = declared(writes("a"), outside.step("hang", timeout_s=0.05), name="one")
    two = declared(writes("a"), outside.step("odd", timeout_s=0.05), name="two")
    plane = await plane_of(models=[Line], sagas=[one, two])
    undone = await plane.sagas.finished(await plane.sagas.start(one, {}))
    assert undone.state == "undone" and "did not end in time" in undone.error
    assert outside.names == ["hang"] * 3 + ["not hang"]
    assert [(it.name, it.outcome) for it in undone.steps] == [("a", "done"), ("hang", "unknown")]
    outside.calls.clear()
    undone = await plane.sagas.finished(await plane.sagas.start(two, {}))
    assert undone.state == "undone" and outside.names == ["odd", "odd", "not odd"]
    assert await lines(plane) == ["a", "not a"] * 2


async def test_an_undo_that_does_not_work_is_shown_and_tried_again_on_request(
    plane_of: PlaneOf,
) -> None:
    """Stuck, until somebody says retry."""
    outside = Outside()
    outside.behave["not a"] = failing
    trip = declared(outside.step("a"), writes("b", then=refusing))
    plane = await plane_of(models=[Line], sagas=[trip])
    saga_id = await plane.sagas.start(trip, {})
    stuck = await plane.sagas.finished(saga_id)
    assert (stuck.state, stuck.at, stuck.attempt) == ("stuck", "a", 3)
    assert stuck.error == "b: SagaRefused: never"
    assert stuck.undo_error == "The undo of a: RuntimeError: no luck"
    health = await plane.health()
    assert [(it.what, it.state) for it in health.work] == [("sagas", "stuck")]
    assert health.status == "degraded"
    assert [it.id for it in await plane.sagas.list(state="stuck")] == [saga_id]
    del outside.behave["not a"]
    await plane.sagas.retry(saga_id)
    assert (await plane.sagas.finished(saga_id)).state == "undone"
    assert outside.names == ["a"] + ["not a"] * 4 and await lines(plane) == []
    assert (await plane.health()).status == "healthy"


async def test_signals_come_early_late_and_twice(plane_of: PlaneOf) -> None:
    """The first is kept; nobody is kept busy by waiting."""
    trip = declared(
        saga.signal("one"), writes("a"), saga.signal("two"), saga.signal("three", deadline_s=0.3)
    )
    plane = await plane_of(models=[Line], sagas=[trip])
    saga_id = await plane.sagas.start(trip, {})
    assert await plane.sagas.signal(saga_id, "two", {"early": True})
    with pytest.raises(pp.NotFound):
        await plane.sagas.signal(saga_id, "four")
    runner = plane.opened.runner
    assert runner is not None

    async def busy() -> int:
        return runner.in_flight

    await becomes(busy, 0, within_s=5)
    assert (await plane.sagas.show(saga_id)).at == "one"
    async with plane.write(actor="ada") as tx:
        assert await plane.sagas.signal(saga_id, "one", {"n": 1}, tx=tx)
    assert not await plane.sagas.signal(saga_id, "one", {"n": 2})
    undone = await plane.sagas.finished(saga_id)
    assert undone.results == {"one": {"n": 1}, "a": {"wrote": "a"}, "two": {"early": True}}
    assert undone.state == "undone" and "three" in undone.error
    with pytest.raises(pp.Conflict):
        await plane.sagas.signal(saga_id, "three")
    assert await lines(plane) == ["a", "not a"]


async def test_many_signals_meet_sagas_that_begin_to_wait(plane_of: PlaneOf) -> None:
    """Whichever comes first, none is lost."""
    trip = declared(writes("a"), saga.signal("go"), writes("b"))
    plane = await plane_of(models=[Line], sagas=[trip])

    async def one(n: int) -> str:
        saga_id = await plane.sagas.start(trip, {"n": n})
        await asyncio.sleep(n % 10 / 500)
        await plane.sagas.signal(saga_id, "go", n)
        return (await plane.sagas.finished(saga_id, timeout_s=20)).state

    assert await asyncio.gather(*map(one, range(40))) == ["done"] * 40


async def test_time_and_position_are_waited_for(plane_of: PlaneOf) -> None:
    """Seconds, a time that a function says, and until a projection shows what was written."""
    seen: list[Any] = []

    async def store(tx: pp.Write, context: saga.Context[Any]) -> None:
        tx.add(Thing(id=7, body="seven"))

    async def search(context: saga.Context[Any]) -> list[str]:
        found = await context.plane[ThingSearch].get([7])
        seen.extend(hit.text for hit in found)
        return [hit.text for hit in found]

    def later(context: saga.Context[Any]) -> datetime:
        return datetime.fromisoformat(context.results["first"]) + timedelta(seconds=0.2)

    trip = declared(
        saga.pause("first", 0.2),
        saga.pause("second", later),
        saga.local(store),
        saga.settled("shown", ThingSearch, after="store", deadline_s=20),
        saga.remote(search),
    )
    plane = await plane_of(models=[Thing], projections=[ThingSearch], sagas=[trip])
    began = datetime.now(UTC)
    done = await plane.sagas.finished(await plane.sagas.start(trip, {}))
    assert done.state == "done", done
    assert datetime.now(UTC) - began > timedelta(seconds=0.4)
    assert seen == ["seven"] and done.results["shown"] == done.steps[2].token


async def test_a_start_is_idempotent_and_may_be_part_of_a_transaction(plane_of: PlaneOf) -> None:
    """The same key is the same saga; what is rolled back never began."""
    trip = declared(writes("a"))
    plane = await plane_of(models=[Line], sagas=[trip])
    ids = await asyncio.gather(
        *(plane.sagas.start(trip, {"n": 1, "m": 2}, key="k") for _ in range(10))
    )
    assert len(set(ids)) == 1
    with pytest.raises(pp.Conflict):
        await plane.sagas.start(trip, {"n": 2}, key="k")
    assert await plane.sagas.find(trip, "k") == ids[0]
    async with plane.write(actor="ada", tenant="t2") as tx:
        tx.add(Line(saga="", what="with it"))
        other = await plane.sagas.start(trip, {}, key="k", tx=tx)
        assert await plane.sagas.start(trip, {}, key="k", tx=tx) == other
    done = await plane.sagas.finished(other)
    assert (done.state, done.tenant, done.actor, done.key) == ("done", "t2", "ada", "k")
    with pytest.raises(RuntimeError):
        async with plane.write(actor="ada") as tx:
            never = await plane.sagas.start(trip, {}, tx=tx)
            raise RuntimeError
    with pytest.raises(pp.NotFound):
        await plane.sagas.show(never)
    await plane.sagas.finished(ids[0])
    assert sorted(await lines(plane)) == ["a", "a", "with it"]
    with pytest.raises(pp.NotFound):
        await plane.sagas.start(declared(writes("a")), {})


async def test_what_is_too_large_or_no_json_is_refused(plane_of: PlaneOf) -> None:
    """An input at the start; a result as a step's failure."""

    async def large(context: saga.Context[Any]) -> str:
        return "x" * 300_000

    trip = declared(writes("a", then=large))
    plane = await plane_of(models=[Line], sagas=[trip])
    with pytest.raises(TooLarge):
        await plane.sagas.start(trip, {"x": "y" * 300_000})
    with pytest.raises(pp.Refused):
        await plane.sagas.start(trip, {"x": object()})
    with pytest.raises(pp.Refused):
        await plane.sagas.start(trip, {"x": "\x00"})
    undone = await plane.sagas.finished(await plane.sagas.start(trip, {}))
    assert undone.state == "undone" and "at most" in undone.error
    assert await lines(plane) == []


async def test_cancel_undoes_wherever_it_is(plane_of: PlaneOf) -> None:
    """A remote step at work is given up at once, and undone; so is one that waits."""
    outside = Outside()

    async def hang(context: saga.Context[Any]) -> None:
        await asyncio.sleep(60)

    outside.behave["hang"] = hang
    long = declared(writes("a"), outside.step("hang"), name="long")
    waits = declared(writes("b"), saga.pause("ever", 3600), name="waits")
    plane = await plane_of(models=[Line], sagas=[long, waits])
    one, two = await plane.sagas.start(long, {}), await plane.sagas.start(waits, {})
    await asyncio.wait_for(outside.came.wait(), 10)
    assert (await plane.sagas.cancel(one, "a change of plan")).cancelled
    undone = await plane.sagas.finished(one, timeout_s=10)
    assert (undone.state, undone.error) == ("undone", "a change of plan")
    assert outside.names == ["hang", "not hang"]
    await plane.sagas.cancel(two)
    assert (await plane.sagas.finished(two, timeout_s=10)).state == "undone"
    assert sorted(await lines(plane)) == ["a", "b", "not a", "not b"]


async def test_a_deadline_of_a_step_or_of_all_turns_back(plane_of: PlaneOf) -> None:
    """However many tries are left."""
    outside = Outside()
    outside.behave["a"] = failing
    many = saga.Retries(attempts_max=1000, first_wait_s=0.05, last_wait_s=0.05)
    one = declared(writes("x"), outside.step("a", retries=many, deadline_s=0.3), name="one")
    two = declared(writes("x"), saga.pause("ever", 3600), name="two", deadline_s=0.3)
    plane = await plane_of(models=[Line], sagas=[one, two])
    for kind in (one, two):
        undone = await plane.sagas.finished(await plane.sagas.start(kind, {}), timeout_s=10)
        assert undone.state == "undone"
    assert await lines(plane) == ["x", "not x"] * 2


async def test_lists_go_page_by_page_the_latest_first(plane_of: PlaneOf) -> None:
    """By name, state and tenant; old ones are forgotten."""
    one, two = declared(writes("a"), name="one"), declared(saga.signal("never"), name="two")
    plane = await plane_of(models=[Line], sagas=[one, two])
    ids = [await plane.sagas.start(one, {"n": n}, tenant=f"t{n % 2}") for n in range(7)]
    waits = await plane.sagas.start(two, {})
    for saga_id in ids:
        await plane.sagas.finished(saga_id)
    found, after = [], None
    while page := await plane.sagas.list(name="one", after=after, limit=3):
        found += [it.id for it in page]
        after = page[-1].id
    assert found == ids[::-1]
    assert [it.id for it in await plane.sagas.list(state="running")] == [waits]
    assert [it.input["n"] for it in await plane.sagas.list(tenant="t1")] == [5, 3, 1]
    assert [(it.state, it.sagas) for it in await plane.sagas.counts()] == [("running", 1)]
    await by_hand(
        plane,
        "UPDATE polyplane.saga SET ended_at = now() - interval '40 days'"
        " WHERE ended_at IS NOT NULL",
    )
    runner = plane.opened.runner
    assert runner is not None
    assert await runner.purge() == 7
    assert [it.id for it in await plane.sagas.list()] == [waits]
    assert await by_hand(plane, "SELECT count(*) FROM polyplane.saga_step") == [(0,)]
