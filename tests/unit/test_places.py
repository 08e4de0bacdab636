"""Places for requests: bounded, in order, and never lost."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from polyplane.edge.places import Place, Places, leave_place

SOON_S = 30.0


async def test_so_many_work_so_many_wait_and_the_rest_is_refused_at_once() -> None:
    places = Places(2, 3, SOON_S)
    taken = [await places.take(), await places.take()]
    waiting = [asyncio.create_task(places.take()) for _ in range(3)]
    await asyncio.sleep(0)
    assert await places.take() is None and places.refused == 1
    for at, place in enumerate(taken):
        assert place is not None
        place.leave()
        place.leave()  # once only
        assert await waiting[at] is not None  # in their order
    await asyncio.sleep(0)
    assert not waiting[2].done()
    leave_place({"polyplane.place": await waiting[0]})
    assert await waiting[2] is not None
    leave_place({})


async def test_nobody_waits_for_ever() -> None:
    places = Places(1, 5, 0.01)
    first = await places.take()
    assert first is not None
    assert await asyncio.gather(*(places.take() for _ in range(5))) == [None] * 5
    first.leave()
    assert await places.take() is not None


async def test_places_are_not_lost_whoever_goes_away() -> None:
    """Waits end at any moment: by the clock, by being cancelled, by being given a place."""
    chance, at_work = random.Random(7), 4
    places = Places(at_work, 30, 0.002)
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
    taken = [await places.take() for _ in range(at_work)]
    assert all(isinstance(it, Place) for it in taken)
    assert await places.take() is None


@pytest.mark.parametrize("waiting", [0, 1])
async def test_without_a_queue_the_next_is_refused(waiting: int) -> None:
    places = Places(1, waiting, 0.01)
    assert await places.take() is not None
    assert await places.take() is None
