"""Live updates on real engines: who is told what, and from where on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

import polyplane as pp
from polyplane.live import OPERATION, Events, FeedPosition, Rows, States
from polyplane.model.live import Followed
from tests.conftest import PlaneOf
from tests.flow.deeds import ADA, EVE, Deed, Shelf, caller
from tests.flow.live_things import (
    WITHIN_S,
    Board,
    application,
    do,
    heard,
    next_batch,
    state_of,
    things,
)
from tests.flow.things import all_relayed, becomes, by_hand


def all_of(keys: set[str]) -> Callable[[list[Any]], bool]:
    """Whether something of each was told: rounds may tell them apart, and in any order."""
    return lambda found: {it.key for it in found} >= keys


def last(key: str) -> Callable[[list[Any]], bool]:
    """Whether something of that key was told."""
    return lambda found: any(it.key == key for it in found)


async def deed(plane: pp.Plane, who: pp.Caller, id: int, holder: Any = None) -> None:
    """Write one."""
    await do(plane, who, Deed(id=id, whose=who.tenant, holder=holder, body=f"deed {id}"))


async def _tasks(feeding: Any) -> int:
    return len(feeding._tasks)


async def undone(plane: pp.Plane, who: pp.Caller, *ids: int) -> None:
    """Delete some, in one statement."""
    async with plane.acting(who).write() as tx:
        await tx.execute(sa.delete(Deed).where(Deed.id.in_(ids)))


async def test_rows_are_told_to_those_who_see_them_and_to_nobody_else(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    ada, eve = caller(acme.tenant, ADA), caller(acme.tenant, EVE)
    admin = caller(acme.tenant, EVE, sees_all=True)

    def follow(who: pp.Caller) -> Any:
        return plane.acting(who).events.follow(Rows(Deed))

    async with (
        follow(ada) as of_ada,
        follow(eve) as of_eve,
        follow(admin) as of_admin,
        follow(other) as of_other,
    ):
        await deed(plane, acme, 1, holder=ADA)
        await deed(plane, other, 2)
        await deed(plane, acme, 3)
        await all_relayed(plane)
        for news, keys in (
            (of_ada, {"1", "3"}),
            (of_eve, {"3"}),
            (of_admin, {"1", "3"}),
            (of_other, {"2"}),
        ):
            assert {it.key for it in await heard(news, all_of(keys))} == keys
        await undone(plane, acme, 1, 3)
        await undone(plane, other, 2)
        for news, gone in ((of_ada, 2), (of_eve, 1), (of_admin, 2), (of_other, 1)):
            found = await heard(news, lambda it, n=gone: len(it) >= n)  # type: ignore[misc]
            assert all(it.gone for it in found)
            assert len(found) == gone
        # Later than all that: whoever had been told more would have it here.
        await deed(plane, acme, 9)
        await deed(plane, other, 10)
        for news, end in ((of_ada, "9"), (of_eve, "9"), (of_admin, "9"), (of_other, "10")):
            assert things(await heard(news, last(end))) == [("public.deed", end, False)]


async def test_whoever_names_a_key_learns_nothing_of_another_tenants(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    await deed(plane, other, 7)
    named = [Rows(Deed, "7"), Rows(Deed, "8"), Rows(Deed, "' OR 1=1"), Rows(Deed, "x" * 500)]
    async with (
        plane.acting(acme).events.follow(*named) as mine,
        plane.acting(other).events.follow(Rows(Deed, "7")) as theirs,
    ):
        async with plane.acting(other).write() as tx:
            await tx.execute(sa.update(Deed).values(body="changed"))
        assert things(await heard(theirs, last("7"))) == [("public.deed", "7", False)]
        await undone(plane, other, 7)
        assert things(await heard(theirs, last("7"))) == [("public.deed", "7", True)]
        await deed(plane, acme, 8)
        assert things(await heard(mine, last("8"))) == [("public.deed", "8", False)]


async def test_truncated_rows_are_gone_for_whose_they_were(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    await deed(plane, acme, 1)
    await deed(plane, other, 2)
    async with plane.acting(acme).events.follow(Rows(Deed)) as news:
        await by_hand(plane, "TRUNCATE deed")
        # What was written before may still be told first.
        found = await heard(news, lambda it: any(each.gone for each in it))
        assert things(found)[-1] == ("public.deed", "1", True)
        assert {it.key for it in found} == {"1"}


async def test_many_deleted_at_once_are_told_each_to_its_own(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    for who, ids in ((acme, range(0, 60, 2)), (other, range(1, 60, 2))):
        await do(plane, who, *(Deed(id=n, whose=who.tenant, body="x") for n in ids))
    async with plane.acting(acme).events.follow(Rows(Deed)) as news:
        await by_hand(plane, "DELETE FROM deed")
        found = await heard(news, lambda it: sum(each.gone for each in it) >= 30)
        assert {int(it.key) for it in found} == {*range(0, 60, 2)}


async def test_what_belongs_to_nobody_is_told_to_everybody(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    async with (
        plane.events.follow(Rows(Board)) as one,
        plane.acting(other).events.follow(Rows(Board)) as two,
    ):
        await by_hand(plane, "INSERT INTO board VALUES (1, 'a')")
        for news in (one, two):
            assert things(await heard(news, last("1"))) == [("public.board", "1", False)]
        await by_hand(plane, "DELETE FROM board")
        for news in (one, two):
            assert things(await heard(news, last("1"))) == [("public.board", "1", True)]


async def test_events_are_told_in_order_and_within_their_tenant(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    async with (
        plane.acting(acme).events.follow(Events("deeds")) as every,
        plane.acting(acme).events.follow(Events("deeds.done", "b")) as one,
        plane.acting(acme).events.follow(Events("deeds.undone"), Events("deeds.done", "c")) as few,
    ):
        await do(plane, other, event="b")
        for what in "abc":
            await do(plane, acme, event=what)
        found = await heard(every, last("c"))
        assert [it.event["data"]["what"] for it in found if it.event] == ["a", "b", "c"]
        assert [it.key for it in await heard(one, last("b"))] == ["b"]
        assert [it.key for it in await heard(few, last("c"))] == ["c"]


async def test_a_follower_goes_on_where_it_was(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    """Between two connections things happen; the second one is told just them."""
    follow = plane.acting(acme).events.follow
    wanted = (Rows(Deed), Events("deeds"))
    await deed(plane, acme, 50)
    async with follow(*wanted) as news:
        await do(plane, acme, Deed(id=1, whose=acme.tenant, body="a"), event="a")
        found = await heard(news, lambda it: last("1")(it) and last("a")(it))
        position = news.position
    await do(plane, acme, Deed(id=2, whose=acme.tenant, body="b"), event="b")
    await undone(plane, acme, 50)
    await deed(plane, other, 3)
    await all_relayed(plane)
    async with follow(*wanted, after=str(position)) as news:
        assert news.position == position
        await do(plane, acme, Deed(id=4, whose=acme.tenant, body="d"), event="d")
        found = await heard(news, lambda it: last("4")(it) and last("d")(it))
        told = [(it.key, it.gone) for it in found]
        assert sorted(told) == [
            ("2", False),
            ("4", False),
            ("50", True),
            ("b", False),
            ("d", False),
        ]
        again = news.position
    async with follow(*wanted, after=again) as news:
        await do(plane, acme, event="e")
        assert [it.key for it in await heard(news, last("e"))] == ["e"]


@pytest.mark.parametrize("wrong", ["ahead", "epoch", "gone"])
async def test_whoever_cannot_go_on_is_told_so(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller, wrong: str
) -> None:
    await deed(plane, acme, 1)
    await deed(plane, acme, 2)
    await all_relayed(plane)
    feed = plane.opened.feed
    bounds = await feed.bounds(feed.subjects.changes)
    epoch = plane.opened.epoch
    after = FeedPosition(epoch, 0, 0)
    match wrong:
        case "ahead":
            after = after._replace(changes=bounds.last + 1)
        case "epoch":
            after = FeedPosition(epoch - 1, bounds.last, 0)
        case "gone":
            await feed.let_go(feed.subjects.changes, 1)
    async with plane.acting(acme).events.follow(Rows(Deed), after=after) as news:
        batch = await next_batch(news)
        assert batch.reset
        assert batch.position.changes >= bounds.last
        await deed(plane, acme, 3)
        assert [it.key for it in await heard(news, last("3"))] == ["3"]


async def test_a_stream_that_is_made_anew_resets_those_who_follow(
    plane_of: PlaneOf, acme: pp.Caller
) -> None:
    plane = await plane_of(applications=[application])
    feed = plane.opened.feed
    async with plane.acting(acme).events.follow(Rows(Deed)) as news:
        await deed(plane, acme, 1)
        await heard(news, last("1"))
        await feed.delete(feed.subjects.changes)
        async with asyncio.timeout(60):
            while not (await next_batch(news)).reset:
                continue
            await deed(plane, acme, 2)
            while True:  # whatever happens until the plane has begun its next epoch
                batch = await next_batch(news)
                if last("2")(list(batch.updates)):
                    break
        assert plane.opened.epoch > 1
        await plane.close()
        with pytest.raises(pp.Unavailable):
            await news.next(wait_s=WITHIN_S)


async def test_states_are_told_as_they_are_now_and_the_last_one_always(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    state = plane.acting(acme).state
    await state.set(OPERATION, "42", status="running", progress=0.0)
    async with plane.acting(acme).events.follow(States(OPERATION, "42")) as news:
        assert state_of(await heard(news, last("42")))["status"] == "running"
        for n in range(1, 200):
            await state.merge(OPERATION, "42", progress=n / 200)
            await plane.acting(other).state.merge(OPERATION, "42", progress=-1.0)
        await state.merge(OPERATION, "42", status="done", progress=1.0)
        found = await heard(news, lambda it: state_of(it).get("status") == "done")
        assert state_of(found)["progress"] == 1.0
        assert all((it.state or {})["progress"] >= 0 for it in found)
        assert len(found) < 100  # coalesced
        await state.end(OPERATION, "42")
        await heard(news, lambda it: any(each.gone for each in it))
    assert await state.get(OPERATION, "42") is None


async def test_a_state_lies_under_the_seeds_key_and_ends_by_itself(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    state = plane.acting(acme).state
    await state.merge(OPERATION, "7", status="running")
    await state.merge(OPERATION, "7", progress=0.5)
    held = await state.get(OPERATION, "7")
    assert held is not None
    assert (held["status"], held["progress"]) == ("running", 0.5)
    assert held["lastUpdate"].endswith("+00:00")
    await state.set(OPERATION, "7", status="done")
    assert "progress" not in (await state.get(OPERATION, "7") or {})
    assert await plane.acting(other).state.get_many(OPERATION, ["7"]) == {}
    cache: Any = plane.cache
    async with cache._server.calls() as client:
        name = f"{plane.namespace}:{acme.tenant}:operation:7"
        assert 3_500 < await client.ttl(name) <= 3_600
        await client.set(name, "somebody else's")
    assert await state.get(OPERATION, "7") is None
    await state.merge(OPERATION, "7", status="again")
    assert (await state.get(OPERATION, "7") or {})["status"] == "again"


async def test_who_follows_every_state_is_told_of_all_within_its_tenant(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    async with plane.acting(acme).events.follow(States(OPERATION)) as news:
        for n in range(5):
            await plane.acting(acme).state.set(OPERATION, f"o{n}", status="x")
            await plane.acting(other).state.set(OPERATION, f"p{n}", status="x")
        found = await heard(news, all_of({f"o{n}" for n in range(5)}))
        assert {it.key for it in found} == {f"o{n}" for n in range(5)}


async def test_whoever_reads_nothing_costs_no_more_than_the_bounds(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    async with plane.acting(acme).events.follow(Rows(Deed), Events("deeds")) as news:
        follower: Any = news._follower
        rows = "FROM generate_series(1, 5000) n"
        added = f"INSERT INTO deed (id, whose, body) SELECT n, %s, 'x' {rows}"
        await by_hand(plane, added, acme.tenant)
        await do(plane, acme, event="end")

        async with asyncio.timeout(WITHIN_S):  # until both are there, and nobody has taken them
            while not len(follower.pending) or not follower.pending._lagged:
                await asyncio.sleep(0.01)
        assert len(follower.pending) <= 2_000
        batch = await next_batch(news)
        assert list(batch.lagged) == ["public.deed"]
        assert [it.key for it in batch.updates] == ["end"]
        await by_hand(plane, "UPDATE deed SET body = 'y' WHERE id = 17")
        assert things(await heard(news, last("17"))) == [("public.deed", "17", False)]


async def test_what_cannot_be_followed_is_refused(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    async def following(*wanted: Any, who: pp.Caller = acme) -> None:
        async with plane.acting(who).events.follow(*wanted):
            raise AssertionError

    for refused in ((), (Rows(Shelf),), tuple(Rows(Deed, str(n)) for n in range(65))):
        with pytest.raises(pp.Refused):
            await following(*refused)
    with pytest.raises(pp.PolyplaneError):
        await following(Rows(Deed), who=caller(""))
    assert len(plane.opened.live.hub.followers) == 0


async def test_the_feed_is_read_once_for_all_and_not_at_all_for_nobody(
    plane: pp.Plane, acme: pp.Caller, other: pp.Caller
) -> None:
    feeding: Any = plane.opened.live.hub._feeding
    assert await plane.opened.live.hub.gone(WITHIN_S)  # those of other tests, too
    await becomes(lambda: _tasks(feeding), 0, within_s=WITHIN_S)
    async with (
        plane.acting(acme).events.follow(Rows(Deed)) as one,
        plane.acting(acme).events.follow(Followed("mine", Rows(Deed))) as two,
    ):
        assert len(feeding._tasks) == 2  # one for each stream
        await deed(plane, acme, 1)
        assert things(await heard(one, last("1"))) == [("public.deed", "1", False)]
        assert things(await heard(two, last("1"))) == [("mine", "1", False)]
    assert feeding._tasks == []
