"""The projector under fire: stores that fail, hang or lie, and a process that dies at any step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

import polyplane as pp
from polyplane.errors import StoreDown
from polyplane.flow import backfill as backfill_module, projector as projector_module
from polyplane.flow.backfill import backfill
from polyplane.flow.projector import Projector, Target
from polyplane.truth.scan import all_rows
from tests.conftest import PlaneOf
from tests.flow.things import (
    Killed,
    Proxy,
    Thing,
    ThingSearch,
    by_hand,
    failing,
    is_killed,
    relay_of,
    running,
)

NAME = ThingSearch.name
TEN = "INSERT INTO thing SELECT n, 'thing ' || n FROM generate_series(1, 10) n"


@pytest.fixture
async def plane(plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch) -> pp.Plane:
    """Things, nothing that moves them, and a projector that does not wait long after a fault."""
    monkeypatch.setattr(projector_module, "_PAUSES_S", (0.02,))
    return await plane_of(models=[Thing], projections=[ThingSearch], flows=False)


def target_of(plane: pp.Plane, **methods: Any) -> Target:
    """The things' target, with other methods of its store."""
    target = plane.opened.targets[NAME]
    return replace(target, store=Proxy(target.store, **methods)) if methods else target


def projector_of(plane: pp.Plane, target: Target | None = None, journal: Any = None) -> Projector:
    """A projector of the things."""
    opened = plane.opened
    return Projector(
        target or opened.targets[NAME],
        opened.database,
        journal or opened.journal,
        opened.feed,
        opened.feed.subjects,
        epoch=opened.epoch,
    )


async def fill(plane: pp.Plane, target: Target | None = None) -> int:
    """Backfill the things."""
    opened = plane.opened
    return await backfill(
        target or opened.targets[NAME],
        opened.database,
        opened.journal,
        opened.feed,
        opened.feed.subjects,
        epoch=opened.epoch,
    )


@asynccontextmanager
async def moving(plane: pp.Plane, target: Target | None = None) -> AsyncIterator[Projector]:
    """Relay and projector run until the block ends."""
    projector = projector_of(plane, target)
    async with running(relay_of(plane), projector):
        yield projector


async def check(plane: pp.Plane, items: int) -> None:
    """So many items, and no drift."""
    drift = await plane.verify(timeout_s=20)
    assert drift.clean, drift.parts
    assert drift.parts[0].items == items


@pytest.mark.parametrize("verb", ["apply", "barrier"])
async def test_a_store_that_fails_is_waited_for(plane: pp.Plane, verb: str) -> None:
    """Whether it did what it was told, or not; several times."""
    await fill(plane)
    target = target_of(plane)
    for at, after in enumerate((False, True) * 2):
        error = StoreDown("down") if at < 2 else TimeoutError()
        method = failing(getattr(target.store, verb), at, after=after, error=error)
        target = replace(target, store=Proxy(target.store, **{verb: method}))
    async with moving(plane, target) as projector:
        await by_hand(plane, TEN)
        await plane.caught_up()
        await by_hand(plane, "UPDATE thing SET body = 'x' WHERE id < 4")
        await by_hand(plane, "DELETE FROM thing WHERE id = 9")
        await check(plane, 9)
        assert projector.last_error == ""


async def test_what_a_hung_call_writes_late_is_refused(
    plane: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store answers in time no more, is asked again, and then does both."""
    monkeypatch.setattr(projector_module, "_APPLY_S", 0.2)
    await fill(plane)
    real = target_of(plane).store
    late: list[Any] = []
    zombies: list[asyncio.Task[None]] = []

    async def apply(*args: Any) -> None:
        if not late:
            late.append(args)
            await asyncio.sleep(60)
        await real.apply(*args)

    async with moving(plane, target_of(plane, apply=apply)):
        await by_hand(plane, TEN)
        while not late:
            await asyncio.sleep(0.01)
        await by_hand(plane, "UPDATE thing SET body = 'newer'")
        await by_hand(plane, "DELETE FROM thing WHERE id = 1")
        await check(plane, 9)
        zombies.append(asyncio.create_task(real.apply(*late[0])))
        await zombies[0]
        await check(plane, 9)
        assert [hit.text for hit in await plane[ThingSearch].get([1, 2])] == ["newer"]


async def test_a_projector_killed_after_any_step_is_replayed_harmlessly(plane: pp.Plane) -> None:
    """Between the store, its barrier and the journal; while rows go on changing."""
    await fill(plane)
    journal, store = plane.opened.journal, target_of(plane).store
    for turn, step in enumerate(("apply", "barrier", "projected") * 2):
        base = turn * 100
        if step == "projected":
            fault = failing(journal.projected, 0, after=False, error=Killed())
            doomed = projector_of(plane, journal=Proxy(journal, projected=fault))
        else:
            fault = failing(getattr(store, step), 0, after=True, error=Killed())
            doomed = projector_of(plane, target_of(plane, **{step: fault}))
        async with running(relay_of(plane)):
            await by_hand(
                plane, f"INSERT INTO thing SELECT {base} + n, 'a' FROM generate_series(1, 9) n"
            )
            assert await is_killed(doomed), step
            await by_hand(plane, f"UPDATE thing SET body = 'b' WHERE id = {base} + 1")
            await by_hand(plane, f"DELETE FROM thing WHERE id = {base} + 2")
            await by_hand(plane, f"INSERT INTO thing VALUES ({base} + 2, 'c')")
            await by_hand(plane, f"DELETE FROM thing WHERE id = {base} + 3")
        async with moving(plane):
            await check(plane, 8 * (turn + 1))


async def test_two_projectors_at_once_do_no_harm(plane: pp.Plane) -> None:
    """As when a paused one wakes up: the gate keeps what is newer."""
    await fill(plane)
    real = target_of(plane).store

    async def slow(*args: Any) -> None:
        await asyncio.sleep(0.05)
        await real.apply(*args)

    async with moving(plane), running(projector_of(plane, target_of(plane, apply=slow))):
        await by_hand(plane, TEN)
        for n in range(20):
            await by_hand(plane, "UPDATE thing SET body = %s WHERE id %% 3 = 1", f"turn {n}")
            await by_hand(plane, "DELETE FROM thing WHERE id = 5")
            await by_hand(plane, "INSERT INTO thing VALUES (5, %s)", f"turn {n}")
        await check(plane, 10)
        await asyncio.sleep(0.2)
        await check(plane, 10)


async def test_a_key_that_goes_and_comes_again(plane: pp.Plane) -> None:
    """Tombstones are older than what comes after them."""
    await fill(plane)
    async with moving(plane):
        for n in range(3):
            await by_hand(plane, "INSERT INTO thing VALUES (1, %s)", f"life {n}")
            await plane.caught_up()
            [hit] = await plane[ThingSearch].get([1])
            assert hit.text == f"life {n}"
            await by_hand(plane, "DELETE FROM thing")
            await plane.caught_up()
            assert await plane[ThingSearch].get([1]) == []
        async with plane.opened.database.connection() as connection, connection.transaction():
            await connection.execute("INSERT INTO thing VALUES (1, 'x')")
            await connection.execute("DELETE FROM thing")
            await connection.execute("INSERT INTO thing VALUES (1, 'in one transaction')")
        await check(plane, 1)
        assert (await plane.verify()).parts[0].tombstones == 0


def small_batches(patch: pytest.MonkeyPatch) -> None:
    """A backfill applies two rows at a time."""
    patch.setattr(backfill_module, "BATCH_ROWS", 2)
    patch.setattr(backfill_module, "all_rows", partial(all_rows, batch_size=2))


async def test_a_backfill_killed_half_way_leaves_nothing_behind(
    plane: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that were put by the first attempt, and are gone before the second."""
    small_batches(monkeypatch)
    async with running(relay_of(plane)):
        await by_hand(plane, TEN)
        for turn in range(3):
            fault = failing(target_of(plane).store.apply, turn, after=True, error=Killed())
            with pytest.raises(BaseExceptionGroup) as caught:
                await fill(plane, target_of(plane, apply=fault))
            assert caught.group_contains(Killed)
            await by_hand(plane, "DELETE FROM thing WHERE id = %s", turn + 1)
            await by_hand(plane, "UPDATE thing SET body = %s", f"turn {turn}")
    assert await fill(plane) == 7
    async with moving(plane):
        await check(plane, 7)


async def test_writes_during_a_backfill_win(
    plane: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the snapshot saw is older than what came since."""
    small_batches(monkeypatch)
    real = target_of(plane).store
    turn = 0

    async def apply(*args: Any) -> None:
        nonlocal turn
        turn += 1
        await by_hand(plane, "UPDATE thing SET body = 'newer' WHERE id = %s", turn)
        await by_hand(plane, "DELETE FROM thing WHERE id = %s", 11 - turn)
        await real.apply(*args)

    async with running(relay_of(plane)):
        await by_hand(plane, TEN)
        await fill(plane, target_of(plane, apply=apply))
    async with moving(plane):
        await check(plane, 5)


async def test_nobody_is_caught_up_before_the_backfill_is_done(plane: pp.Plane) -> None:
    """Also when not one change was ever published, as after a table was adopted."""
    await by_hand(plane, "ALTER TABLE thing DISABLE TRIGGER ALL")
    await by_hand(plane, TEN)
    async with running(relay_of(plane)):
        with pytest.raises(pp.NotSettled, match=NAME):
            await plane.caught_up(timeout_s=0.3)
        with pytest.raises(pp.NotSettled, match=NAME):
            await plane.verify(timeout_s=0.3)
        await fill(plane)
        await check(plane, 10)


async def test_verify_beside_a_row_that_never_rests(plane: pp.Plane) -> None:
    """What is in flight is no drift, however often one looks; what lies still is."""
    await fill(plane)
    restless = True

    async def change() -> None:
        n = 0
        while restless:
            n += 1
            await by_hand(plane, "UPDATE thing SET body = %s WHERE id IN (1, 2)", f"turn {n}")

    async with moving(plane):
        await by_hand(plane, TEN)
        await plane.caught_up()
        store, collection = target_of(plane).store, target_of(plane).collection
        await store.apply(collection, [], ["2", "3"], 1 << 52)
        changing = asyncio.create_task(change())
        drifts = [await plane.verify() for _ in range(5)]
        restless = False
        await changing
    for drift in drifts:
        assert (drift.parts[0].missing, drift.stale, drift.extra) == (("2", "3"), 0, 0)


async def test_a_row_that_derive_cannot_take_stops_nothing_else(plane_of: PlaneOf) -> None:
    """Not even its own projection, which says so; and it passes."""

    class Fussy(pp.Vectors[Thing]):
        dimensions = 4

        def derive(self, thing: Thing, /) -> pp.Vector | None:
            if thing.body == "bad":
                raise ValueError("bad")
            return ThingSearch().derive(thing)

    plane = await plane_of(models=[Thing], projections=[ThingSearch, Fussy])
    await by_hand(plane, TEN)
    await plane.caught_up()
    await by_hand(plane, "UPDATE thing SET body = 'bad' WHERE id = 1")
    await plane.caught_up()
    assert {lag.projection: lag.parked for lag in await plane.lag()} == {NAME: 0, "fussy": 1}
    await by_hand(plane, "UPDATE thing SET body = 'good' WHERE id = 1")
    assert (await plane.verify()).clean
    assert await plane.opened.journal.dead.counts() == {}
