"""Places for requests: bounded, in order, and never lost."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest

from polyplane.edge.places import Place, Places, leave_place

SOON_S = 30.0


def places_of(at_work: int, waiting: int, patience_s: float = SOON_S, **given: Any) -> Places:
    """As few as the test wants, that do not become fewer."""
    return Places(at_work, waiting, patience_s=patience_s, **{"target_s": SOON_S, **given})


async def taken(places: Places) -> Place:
    """One of them."""
    place = await places.take()
    assert place is not None
    return place


async def test_so_many_work_so_many_wait_and_the_rest_is_refused_at_once() -> None:
    places = places_of(2, 3)
    first, second = await taken(places), await taken(places)
    waiting = [asyncio.create_task(taken(places)) for _ in range(3)]
    await asyncio.sleep(0)
    assert await places.take() is None
    for place, next_one in ((first, waiting[0]), (second, waiting[1])):
        place.leave()
        place.leave()  # once only
        assert await next_one  # in their order
    await asyncio.sleep(0)
    assert not waiting[2].done()
    leave_place({"polyplane.place": await waiting[0]})
    assert await waiting[2]
    leave_place({})


async def test_nobody_waits_for_ever() -> None:
    places = places_of(1, 5, patience_s=0.01)
    first = await taken(places)
    assert await asyncio.gather(*(places.take() for _ in range(5))) == [None] * 5
    first.leave()
    assert await taken(places)


async def test_places_are_not_lost_whoever_goes_away() -> None:
    """Waits end at any moment: by the clock, by being cancelled, by being given a place."""
    chance, at_work = random.Random(7), 4
    places = places_of(at_work, 30, patience_s=0.002)
    now = most = 0

    async def visit() -> None:
        nonlocal now, most
        place = await places.take()
        if place is None:
            return
        now += 1
        most = max(most, now)
        try:
            await asyncio.sleep(chance.choice((0, 0, 0.001, 0.002)))
        finally:
            now -= 1
            place.leave()

    async def come() -> None:
        visiting = asyncio.create_task(visit())
        if chance.random() < 0.3:
            await asyncio.sleep(chance.choice((0, 0.001, 0.002)))
            visiting.cancel()
        with suppress(asyncio.CancelledError):
            await visiting

    for _ in range(40):
        await asyncio.gather(*(come() for _ in range(50)))
    assert (now, most) == (0, at_work)
    for _ in range(at_work):
        await taken(places)
    assert await places.take() is None


async def test_there_are_fewer_while_work_takes_too_long_and_somebody_waits() -> None:
    now_s = 0.0
    places = places_of(16, 8, target_s=0.2, clock=lambda: now_s)
    at_work = [await taken(places) for _ in range(16)]
    now_s = 1.0
    at_work.pop().leave()  # too late, but nobody waits
    assert places.limit == 16
    at_work.append(await taken(places))
    waiting = [asyncio.create_task(places.take()) for _ in range(8)]
    await asyncio.sleep(0)
    now_s, limits = 1.5, []
    for place in at_work:
        now_s += 0.1
        place.leave()
        limits.append(places.limit)
    assert limits == sorted(limits, reverse=True) and limits[-1] == 2
    async with asyncio.timeout(30):
        while sum(it.done() for it in waiting) < 2:
            await asyncio.sleep(0)
    while places.limit < 16:  # all is fast again
        for it in [it for it in waiting if it.done()]:
            waiting.remove(it)
            leave_place({"polyplane.place": it.result()})
        await asyncio.sleep(0)
        if not waiting:
            (await taken(places)).leave()


@pytest.mark.parametrize("waiting", [0, 1])
async def test_without_a_queue_the_next_is_refused(waiting: int) -> None:
    places = places_of(1, waiting, patience_s=0.01)
    await taken(places)
    assert await places.take() is None
