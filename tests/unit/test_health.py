"""Health: one engine that is down, hangs or will not let go delays and breaks nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

import pytest

from polyplane.errors import StoreDown
from polyplane.ops.health import WAITS_S_MAX, Check, Work, examine, promptly

TIMEOUT_S = 0.1


async def well() -> None:
    """Answers."""


async def down() -> None:
    """Says why not."""
    raise StoreDown("It does not answer.")


async def refused() -> None:
    """Fails below us."""
    raise ConnectionRefusedError(111, "Connection refused")


async def hangs() -> None:
    """Never answers."""
    await asyncio.Event().wait()


async def clings() -> None:
    """Never answers, and takes long to be cancelled, as a driver does that asks the server."""
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(2)


def check(ping: Callable[[], Awaitable[None]], *, essential: bool = False) -> Check:
    return Check(ping.__name__, "role", ping, essential)


@pytest.mark.parametrize("ping", [down, refused, hangs, clings])
async def test_an_engine_that_is_down_fails_what_needs_it(
    ping: Callable[[], Awaitable[None]],
) -> None:
    started = perf_counter()
    needed = await examine([check(well), check(ping, essential=True)], timeout_s=TIMEOUT_S)
    spared = await examine([check(well, essential=True), check(ping)], timeout_s=TIMEOUT_S)
    assert perf_counter() - started < 1
    assert (needed.status, spared.status) == ("failed", "degraded")
    for health in (needed, spared):
        assert [engine.status for engine in health.engines] == ["healthy", "failed"]
        assert health.engines[1].detail


async def test_all_are_asked_at_once() -> None:
    started = perf_counter()
    await examine([check(hangs) for _ in range(10)], timeout_s=TIMEOUT_S)
    assert perf_counter() - started < 9 * TIMEOUT_S


async def test_nobody_is_healthy() -> None:
    assert (await examine([])).status == "healthy"
    assert (await examine([check(well, essential=True)])).engines[0].latency_ms >= 0


async def test_who_waits_for_long_is_not_well() -> None:
    """A fault that passes, or a collection that is being filled, is shown and no more."""
    for work, status in (
        (Work("notes", "filling", "3 of 10 rows"), "healthy"),
        (Work("notes", "waiting", "It is down.", 1.0), "healthy"),
        (Work("notes", "waiting", "It is down.", WAITS_S_MAX + 1), "degraded"),
    ):
        health = await examine([check(well, essential=True)], [work])
        assert (health.status, health.work) == (status, (work,))
    assert (await examine([check(down, essential=True)], [work], timeout_s=1)).status == "failed"


async def test_promptly_gives_what_the_call_gives() -> None:
    async def answer() -> int:
        return 7

    assert await promptly(answer(), 1) == 7
    with pytest.raises(StoreDown):
        await promptly(down(), 1)


async def test_promptly_ends_its_call_when_it_is_cancelled_itself() -> None:
    ended = asyncio.Event()

    async def call() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(promptly(call(), 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(ended.wait(), 1)
