"""Sagas that change hands: another process, a worker that stops or dies, other code."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

import polyplane as pp
from polyplane import saga
from polyplane.errors import Fenced
from polyplane.model.saga import Mark
from polyplane.truth.noted import write_noted
from polyplane.truth.sagas import Note, SagaJournal, step_note
from polyplane.truth.session import Write
from tests.conftest import PlaneOf
from tests.flow.test_workers import plain
from tests.flow.things import becomes, by_hand
from tests.flow.trips import Line, Outside, declared, lines, writes

TAKE_OVER_S = 8.0


async def due(plane: pp.Plane) -> None:
    """All leases are over, as if their holders had said nothing for long."""
    await by_hand(plane, "UPDATE polyplane.saga SET wake_at = now() WHERE ended_at IS NULL")


async def test_a_step_of_a_stale_owner_is_refused_with_its_effect(plane_of: PlaneOf) -> None:
    """Two hold the same saga: only the later one can note anything."""
    trip = declared(writes("a"), writes("b"))
    plane = await plane_of(models=[Line], sagas=[trip], flows=False)
    await plane.sagas.start(trip, {})
    journal, database = SagaJournal(plane.opened.database), plane.opened.database
    [old] = await journal.claim(uuid4(), ["trip"], 10)
    assert await journal.claim(uuid4(), ["trip"], 10) == []
    await due(plane)
    holder = uuid4()
    [new] = await journal.claim(holder, ["trip"], 10)
    assert new.fence == old.fence + 1

    async def write(live: Any) -> None:
        async def work(tx: Write) -> Note:
            tx.add(Line(saga=str(live.id), what=f"fence {live.fence}"))
            mark = Mark("a", 1, "local", True)
            return step_note(live, 0, mark, 1, "null", epoch=1, following="b")

        await write_noted(database, work, caller=pp.Caller(""), epoch=1)

    with pytest.raises(Fenced):
        await write(old)
    await write(new)
    with pytest.raises(Fenced):  # it is at b by now
        await write(new)
    assert await lines(plane) == [f"fence {new.fence}"]
    assert not await journal.park(old, None) and not await journal.failed(old, "x", 0)
    assert not await journal.turn(old, "a", "x", n=1)
    assert await journal.renew(holder, [(new.id, new.fence), (old.id, old.fence)]) == {new.id: None}
    await plane.sagas.cancel(new.id, "why")
    assert await journal.renew(holder, [(new.id, new.fence)]) == {new.id: "why"}


async def test_one_that_lost_its_lease_gives_up_its_step(plane_of: PlaneOf) -> None:
    """Another goes on; the step at work is ended, and what it says is not noted."""
    outside = Outside()

    async def hang(context: saga.Context[Any]) -> None:
        await asyncio.sleep(0 if len(outside.calls) > 1 else 60)

    outside.behave["hang"] = hang
    trip = declared(writes("a"), outside.step("hang", timeout_s=90), writes("b"))
    plane = await plane_of(models=[Line], sagas=[trip])
    saga_id = await plane.sagas.start(trip, {})
    await asyncio.wait_for(outside.came.wait(), 10)
    other = await plane_of(models=[Line], sagas=[trip], settings=plane.settings, worker=True)
    await due(plane)
    assert (await plane.sagas.finished(saga_id, timeout_s=10)).state == "done"
    assert outside.names == ["hang", "hang"] and await lines(plane) == ["a", "b"]
    for it in (plane, other):
        runner = it.opened.runner
        assert runner is not None

        async def busy(it: Any = runner) -> int:
            return int(it.in_flight)

        await becomes(busy, 0, within_s=5)


async def reopened(plane_of: PlaneOf, plane: pp.Plane, kind: type[pp.Saga[Any]]) -> pp.Plane:
    """The same home with other code."""
    await plane.close()
    return await plane_of(models=[Line], sagas=[kind], settings=plane.settings)


async def test_code_that_changed_stops_undoes_or_goes_on_as_declared(plane_of: PlaneOf) -> None:
    """A saga waits between two steps; then its declaration is another one."""
    a, go, b = writes("a"), saga.signal("go"), writes("b")
    old = declared(a, go, b)
    plane = await plane_of(models=[Line], sagas=[old])
    ids = [await plane.sagas.start(old, {}) for _ in range(4)]

    async def at() -> set[str]:
        return {it.at for it in await plane.sagas.list()}

    await becomes(at, {"go"}, within_s=10)
    longer = (writes("x"), a, go, b)
    plane = await reopened(plane_of, plane, declared(*longer))  # "stop"
    await plane.sagas.signal(ids[0], "go")
    parked = await plane.sagas.finished(ids[0])
    assert parked.state == "changed" and "began as v1 (a v1, go v1, b v1)" in parked.error
    assert [it.state for it in (await plane.health()).work] == ["stuck"]
    await plane.sagas.retry(ids[0])
    assert (await plane.sagas.finished(ids[0])).state == "changed"
    await plane.sagas.retry(ids[0], anyway=True)
    done = await plane.sagas.finished(ids[0])
    assert (done.state, [it.name for it in done.steps]) == ("done", ["a", "x", "go", "b"])
    plane = await reopened(plane_of, plane, declared(*longer, changed="undo"))
    await plane.sagas.signal(ids[1], "go")
    assert (await plane.sagas.finished(ids[1])).state == "undone"
    plane = await reopened(
        plane_of, plane, declared(a, go, writes("b", version=2), changed="go-on")
    )
    await plane.sagas.signal(ids[2], "go")
    done = await plane.sagas.finished(ids[2])
    assert (done.state, done.steps[-1].version) == ("done", 2)
    plane = await reopened(plane_of, plane, declared(*longer, changed="go-on"))
    await plane.sagas.signal(ids[3], "go")
    assert (await plane.sagas.finished(ids[3])).state == "changed"
    await plane.sagas.cancel(ids[3])
    assert (await plane.sagas.finished(ids[3])).state == "undone"
    assert sorted(await lines(plane)) == ["a"] * 4 + ["b"] * 2 + ["not a"] * 2 + ["x"]


@asynccontextmanager
async def worker(plane: pp.Plane) -> AsyncIterator[Process]:
    """A process that does the sagas of tests.flow.saga_worker, at work."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.flow.saga_worker", plain(plane.settings), stdout=PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 40) == b"at work\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.long  # tests/crash/test_sagas.py kills workers of sagas in every run
async def test_a_worker_that_stops_gives_back_and_one_that_dies_is_replaced(
    plane_of: PlaneOf,
) -> None:
    """SIGTERM ends a step that is at work after a while; kill -9 is noticed by the lease."""
    from tests.flow.saga_worker import Slow

    plane = await plane_of(models=[Line], sagas=[Slow], flows=False)
    for number, within_s in ((signal.SIGTERM, 3.0), (signal.SIGKILL, TAKE_OVER_S)):
        async with worker(plane) as process:
            saga_id = await plane.sagas.start(Slow, {"until": "told"})

            async def at(saga_id: Any = saga_id) -> tuple[str, bool]:
                found = await plane.sagas.show(saga_id)
                return found.at, found.held

            await becomes(at, ("wait", True), within_s=10)
            process.send_signal(number)
            status = await asyncio.wait_for(process.wait(), 20)
            assert status == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        async with worker(plane):
            await by_hand(plane, "INSERT INTO line (saga, what) VALUES (%s, 'told')", str(saga_id))
            done = await plane.sagas.finished(saga_id, timeout_s=within_s)
            assert done.state == "done" and [it.name for it in done.steps] == ["begin", "wait"]
    found = await by_hand(plane, "SELECT what, count(*) FROM line GROUP BY what ORDER BY what")
    assert found == [("begin", 2), ("told", 2)]
