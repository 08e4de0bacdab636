"""Dead letters: a bad row delays its own key, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import polyplane as pp
from polyplane.errors import NotFound, PolyplaneError, Refused, StoreDown
from polyplane.flow import parking as parking_module, projector as projector_module
from polyplane.flow.deriving import VectorDeriver
from polyplane.flow.projector import Projector, Target
from polyplane.flow.sifting import BLAMED_MAX, FAILURES_MAX, derive, sift
from polyplane.flow.sweeping import sweep
from polyplane.model.position import Position
from polyplane.truth import dead as dead_module
from polyplane.truth.dead import Bad, DeadLetter
from tests.conftest import PlaneOf
from tests.flow.test_projector import TEN, fill, target_of
from tests.flow.things import Proxy, Thing, ThingSearch, becomes, by_hand, relay_of, running

NAME = "fussy"


class Fussy(pp.Vectors[Thing]):
    """Cannot take a bad body, nor store one that is wide or odd."""

    dimensions = 4

    def derive(self, thing: Thing, /) -> pp.Vector | None:
        """As `ThingSearch`, if at all."""
        if thing.body.startswith("bad"):
            raise ValueError(f"the secret {thing.body}")
        if thing.body == "wide":
            return pp.Vector("wide", embedding=[1.0] * 5)
        if thing.body == "odd":
            return pp.Vector("odd", {"n": "a number elsewhere"}, [1.0] * 4)
        return ThingSearch().derive(thing)


async def letters(plane: pp.Plane, name: str = NAME) -> list[DeadLetter]:
    """All of them."""
    return await plane.opened.journal.dead.letters(name, limit=100)


async def parked(plane: pp.Plane) -> list[str]:
    """The keys of all of them."""
    return [letter.key for letter in await letters(plane)]


async def texts(plane: pp.Plane, *keys: int) -> list[str]:
    """What the store shows under `keys`."""
    return [hit.text for hit in await plane[Fussy].get(keys)]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits long to be tried again."""
    monkeypatch.setattr(dead_module, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(dead_module, "LAST_WAIT_S", 0.2)
    monkeypatch.setattr(projector_module, "RETRY_EVERY_S", 0.05)


@pytest.fixture
async def plane(plane_of: PlaneOf, soon: None) -> pp.Plane:
    """Ten things, projected."""
    plane = await plane_of(models=[Thing], projections=[Fussy])
    await by_hand(plane, TEN)
    await plane.caught_up()
    return plane


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("bad", "ValueError in derive"),
        ("wide", "Refused, field embedding"),
        ("odd", "Refused in "),
    ],
)
async def test_a_bad_row_is_parked_and_the_others_go_on(
    plane: pp.Plane, body: str, kind: str
) -> None:
    """It keeps what it had; its later changes wait with it; a good one frees it."""
    await by_hand(plane, "UPDATE thing SET body = CASE id WHEN 4 THEN %s ELSE 'x' END", body)
    await plane.caught_up()
    assert await texts(plane, 3, 4, 5) == ["x", "thing 4", "x"]
    proof = (await plane.verify()).parts[0]
    assert (proof.parked, proof.missing, proof.stale, proof.extra) == (("4",), (), (), ())
    [letter] = await letters(plane)
    assert (letter.collection, letter.key) == (NAME, "4")
    assert letter.error.startswith(kind)
    assert body not in letter.error
    [lag] = await plane.lag()
    assert (lag.parked, lag.buckets_behind, lag.error) == (1, 0, "")

    await by_hand(plane, "UPDATE thing SET body = %s || '' WHERE id = 4", body)
    await plane.caught_up()
    [again] = await letters(plane)
    assert (again.attempts > letter.attempts, again.first_at) == (True, letter.first_at)

    await by_hand(plane, "UPDATE thing SET body = 'good' WHERE id = 4")
    await plane.caught_up()
    assert await texts(plane, 4) == ["good"]
    assert await letters(plane) == []
    assert (await plane.verify()).clean


async def test_a_parked_row_that_is_deleted_is_dropped(plane: pp.Plane) -> None:
    await by_hand(plane, "UPDATE thing SET body = 'bad' WHERE id < 3")
    await plane.caught_up()
    assert await parked(plane) == ["1", "2"]
    await by_hand(plane, "DELETE FROM thing WHERE id = 1")
    await plane.caught_up()
    assert await parked(plane) == ["2"]
    assert await texts(plane, 1, 2) == ["thing 2"]


async def test_a_parked_row_is_tried_again_by_itself(
    plane: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No change of it comes, but `derive` has learnt to take it."""
    await by_hand(plane, "UPDATE thing SET body = 'bad' WHERE id = 7")
    await plane.caught_up()
    async with asyncio.timeout(10):
        while (await letters(plane))[0].attempts < 3:
            await asyncio.sleep(0.02)
    monkeypatch.setattr(Fussy, "derive", ThingSearch.derive)
    await becomes(lambda: parked(plane), [], within_s=10)
    assert await texts(plane, 7) == ["bad"]
    assert (await plane.verify()).clean


async def test_rows_that_a_backfill_meets_are_parked(plane_of: PlaneOf, soon: None) -> None:
    """Bad ones of both kinds; then the changes are followed."""
    plane = await plane_of(models=[Thing], projections=[ThingSearch], flows=False)
    await by_hand(plane, TEN)
    await by_hand(plane, "UPDATE thing SET body = 'bad' WHERE id = 2")
    await by_hand(plane, "UPDATE thing SET body = 'odd' WHERE id = 9")
    await plane.close()
    plane = await plane_of(models=[Thing], projections=[Fussy])
    await plane.caught_up()
    assert await parked(plane) == ["2", "9"]
    assert len(await texts(plane, *range(1, 11))) == 8
    await by_hand(plane, "UPDATE thing SET body = 'good' WHERE id IN (2, 9)")
    await plane.caught_up()
    assert (await plane.verify()).clean


async def test_faults_of_the_store_park_nothing(plane_of: PlaneOf) -> None:
    """Down, hanging, or without its collection: everything waits, nothing is given up."""
    plane = await plane_of(models=[Thing], projections=[ThingSearch], flows=False)
    await fill(plane)
    faults: list[Exception] = [StoreDown("down"), TimeoutError(), NotFound("gone"), OSError("cut")]
    real = target_of(plane).store

    async def apply(*args: Any) -> None:
        if faults:
            raise faults.pop()
        await real.apply(*args)

    async with running(relay_of(plane), projector_of(plane, target_of(plane, apply=apply))):
        await by_hand(plane, TEN)
        await plane.caught_up()
    assert await plane.opened.journal.dead_keys(target_of(plane).collection.target) == set()
    assert (await plane.verify()).clean


def projector_of(plane: pp.Plane, target: Target) -> Projector:
    opened = plane.opened
    return Projector(
        target,
        opened.database,
        opened.journal,
        opened.feed,
        opened.feed.subjects,
        epoch=opened.epoch,
    )


async def test_what_fails_for_all_stands_still_and_says_so(plane_of: PlaneOf) -> None:
    """It is not taken for so many bad rows; and goes on when it works again."""
    plane = await plane_of(models=[Thing], projections=[ThingSearch], flows=False)
    await fill(plane)
    real, broken = target_of(plane).store, True

    async def apply(*args: Any) -> None:
        if broken:
            raise RuntimeError("not today")
        await real.apply(*args)

    projector = projector_of(plane, target_of(plane, apply=apply))
    async with running(relay_of(plane), projector):
        await by_hand(plane, "INSERT INTO thing SELECT n, 'x' FROM generate_series(1, 500) n")

        async def says() -> bool:
            return "works for none: RuntimeError in apply" in projector.last_error

        await becomes(says, True, within_s=10)
        assert await plane.opened.journal.dead_keys(target_of(plane).collection.target) == set()
        broken = False
        await plane.caught_up()
    assert (await plane.verify()).clean


async def test_too_many_bad_rows_stop_the_projection(
    plane: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clear word; the position does not go on past what is not parked."""
    monkeypatch.setattr(parking_module, "PARKED_MAX", 3)
    await by_hand(plane, "UPDATE thing SET body = 'bad' WHERE id < 6")

    async def says() -> bool:
        [lag] = await plane.lag()
        return "More than 3 rows of fussy are bad" in lag.error

    await becomes(says, True, within_s=10)
    with pytest.raises(pp.NotSettled, match=NAME):
        await plane.caught_up(timeout_s=0.2)
    await by_hand(plane, "UPDATE thing SET body = 'good'")
    await plane.caught_up()
    assert await parked(plane) == []
    assert (await plane.verify()).clean


async def test_letters_are_dropped_and_retried_by_hand(plane: pp.Plane) -> None:
    """What an operator does; waits double up to their bound, and never come all at once."""
    dead = plane.opened.journal.dead
    await dead.park("other", [Bad(str(n), n % 8, "ValueError") for n in range(200)])
    [first] = {letter.attempts for letter in await letters(plane, "other")}
    assert first == 1
    assert len({letter.next_try_at for letter in await letters(plane, "other")}) > 50
    assert await dead.counts() == {"other": 200}
    for _ in range(40):
        await dead.park("other", [Bad("7", 7, "TypeError")])
    [letter] = await dead.letters("other", keys=["7"], limit=1)
    assert (letter.attempts, letter.error) == (41, "TypeError")
    assert 0 < (letter.next_try_at - letter.last_at).total_seconds() <= 0.25
    assert await dead.retry("other", ["7", "8", "nobody"]) == 2
    assert set(await dead.due("other", [7])) >= {"7"}
    assert await dead.unpark("other", ["7"]) == 1
    assert await dead.unpark("other", None) == 199


async def test_parking_survives_a_replayed_batch(plane_of: PlaneOf, soon: None) -> None:
    """Killed after parking and before the position was noted: it is parked once more, no more."""
    plane = await plane_of(models=[Thing], projections=[Fussy], flows=False)
    opened = plane.opened
    await fill_named(plane)
    await by_hand(plane, TEN)
    await by_hand(plane, "UPDATE thing SET body = 'bad' WHERE id = 1")
    journal = opened.journal
    failed = 0

    async def projected(*args: Any) -> None:
        nonlocal failed
        failed += 1
        if failed < 3:
            raise StoreDown("as if killed")
        await journal.projected(*args)

    doubtful: Any = Proxy(journal, projected=projected)
    projector = Projector(
        opened.targets[NAME],
        opened.database,
        doubtful,
        opened.feed,
        opened.feed.subjects,
        epoch=opened.epoch,
    )
    async with running(relay_of(plane), projector):
        await plane.caught_up()
        assert await parked(plane) == ["1"]
        await by_hand(plane, "UPDATE thing SET body = 'good' WHERE id = 1")
        await plane.caught_up()
    assert await parked(plane) == []
    assert (await plane.verify()).clean


async def fill_named(plane: pp.Plane) -> None:
    await fill(plane, replace(plane.opened.targets[NAME]))


async def test_a_sweep_leaves_what_is_parked(plane: pp.Plane) -> None:
    """A tombstone of the sweep's position would turn a later try away."""
    await by_hand(plane, "UPDATE thing SET body = 'bad' WHERE id = 2")
    await plane.caught_up()
    opened, target = plane.opened, plane.opened.targets[NAME]
    await sweep(target.store, target.collection, Position(opened.epoch, 1 << 30), {"2"})
    assert await texts(plane, 1, 2, 3) == ["thing 2"]


@pytest.mark.parametrize("bad", [set(), {0}, {99}, {3, 4, 50}, set(range(0, 100, 7))])
async def test_sifting_gives_back_the_bad_and_does_the_rest_once(bad: set[int]) -> None:
    """Each good one is done exactly once, whoever stands beside it."""
    done: list[int] = []

    async def act(some: Sequence[int]) -> None:
        if bad.intersection(some):
            raise ValueError
        done.extend(some)

    found = await sift(list(range(100)), act)
    assert sorted(item for item, _ in found) == sorted(bad)
    assert sorted(done) == sorted(set(range(100)) - bad)


@pytest.mark.parametrize("bad", [{0}, {99}, {3, 4, 50}, set(range(0, 100, 2))])
async def test_sifting_leaves_out_who_is_named(bad: set[int]) -> None:
    """The others need one more call for each, and not a dozen."""
    calls: list[list[int]] = []

    async def act(some: Sequence[int]) -> None:
        calls.append(list(some))
        if found := bad.intersection(some):
            raise Refused("no", key=str(min(found)))

    found = await sift(list(range(100)), act)
    assert sorted(item for item, _ in found) == sorted(bad)
    done = [n for some in calls if not bad.intersection(some) for n in some]
    assert sorted(done) == sorted(set(range(100)) - bad)
    assert len(bad) > BLAMED_MAX or len(calls) == len(bad) + 1


async def test_sifting_ends_soon_when_nothing_works() -> None:
    calls = 0

    async def act(_: Sequence[int]) -> None:
        nonlocal calls
        calls += 1
        raise ValueError

    with pytest.raises(PolyplaneError, match="works for none: ValueError in act"):
        await sift(list(range(10_000)), act)
    assert calls == FAILURES_MAX
    assert len(await sift([1, 2, 3], act)) == 3
    assert await sift([], act) == []


async def test_a_slow_derive_lets_others_have_their_turn() -> None:
    """Leases are renewed in the same event loop."""

    class Slow(Fussy):
        def derive(self, thing: Thing, /) -> pp.Vector | None:
            time.sleep(0.001)
            return super().derive(thing)

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    rows = [(str(n), Thing(id=n, body="x")) for n in range(1_000)]
    derived = await derive(VectorDeriver(Slow(), None), rows)
    counting.cancel()
    assert [item.key for item in derived.puts] == [key for key, _ in rows]
    assert turns > 5
