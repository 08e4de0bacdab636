"""Several processes project: a bucket has one worker, and one that wakes up late does no harm."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import pytest
from pydantic import SecretStr

import polyplane as pp
from polyplane.flow.projector import Projector
from polyplane.model.scope import Scope
from tests.conftest import PlaneOf
from tests.flow.things import Proxy, Thing, ThingSearch, becomes, by_hand, running

TAKE_OVER_S = 5.0
ROWS = 100


class ThingCache(pp.Cached[Thing]):
    """The body of each thing."""

    key_prefix = "thing:"

    def derive(self, thing: Thing, /) -> pp.Entry | None:
        """It."""
        return pp.Entry(thing.body)


async def shares(plane: pp.Plane, collection: str = ThingCache.name) -> list[int]:
    """How many buckets each worker holds, the fewest first."""
    standing = await plane.opened.journal.leases.standing()
    start = f"projection:{collection}:"
    held = Counter(it.holder for it in standing if it.alive and it.name.startswith(start))
    return sorted(held.values())


async def bodies(plane: pp.Plane) -> set[Any]:
    """The different values that the cache shows."""
    store, collection = plane.cache, plane.opened.targets[ThingCache.name].collection
    found = [await store.get(collection, Scope.everything, str(n)) for n in range(1, ROWS + 1)]
    return {it and it.value for it in found}


async def write(plane: pp.Plane, body: str) -> None:
    """All things get it."""
    await by_hand(plane, "UPDATE thing SET body = %s", body)


def plain(settings: pp.Settings) -> str:
    """Settings, secrets included, for another process."""
    values = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in settings
        if value is not None
    }
    return json.dumps(values, default=str)


@asynccontextmanager
async def worker(plane: pp.Plane, pause_at: Path) -> AsyncIterator[Process]:
    """A worker beside `plane`, which has its share when the block begins."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.flow.worker", plain(plane.settings)),
        env=os.environ | {"PAUSE_AT": str(pause_at)},
    )
    try:
        await becomes(lambda: shares(plane), [4, 4], within_s=30)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """Things in the cache."""
    plane = await plane_of(models=[Thing], projections=[ThingCache])
    await by_hand(plane, f"INSERT INTO thing SELECT n, 'first' FROM generate_series(1, {ROWS}) n")
    await plane.caught_up()
    return plane


async def took(done: Callable[[], Awaitable[None]]) -> float:
    """Seconds."""
    started = monotonic()
    await done()
    return monotonic() - started


async def test_a_worker_that_stops_or_dies_is_replaced(plane: pp.Plane, tmp_path: Path) -> None:
    """SIGSTOP between derive and apply, and what it applies when it wakes up; kill -9; SIGTERM."""
    pause_at = tmp_path / "pause"
    async with worker(plane, pause_at) as process:
        await write(plane, "by two")
        await plane.caught_up()
        assert await bodies(plane) == {"by two"}

        pause_at.touch()
        await write(plane, "late")
        state = psutil.Process(process.pid)

        async def is_stopped() -> bool:
            return state.status() == psutil.STATUS_STOPPED

        await becomes(is_stopped, True, within_s=10)
        assert await took(plane.caught_up) < TAKE_OVER_S
        await write(plane, "newer")
        await plane.caught_up()
        assert await bodies(plane) == {"newer"}
        process.send_signal(signal.SIGCONT)
        await becomes(lambda: shares(plane), [4, 4], within_s=10)
        assert await bodies(plane) == {"newer"}

        process.kill()
        await process.wait()
        await write(plane, "last")
        assert await took(plane.caught_up) < TAKE_OVER_S
        assert await bodies(plane) == {"last"}
    assert (await plane.verify()).clean

    async with worker(plane, pause_at) as process:
        process.terminate()
        assert await process.wait() == 0
        await becomes(lambda: shares(plane), [8], within_s=2)  # given up, not waited for
        await write(plane, "the end")
        await plane.caught_up()
    assert await bodies(plane) == {"the end"}
    assert (await plane.verify()).clean


async def test_a_second_process_shares_and_gives_back(plane_of: PlaneOf) -> None:
    """LanceDB, two planes; nobody loses anything while buckets change hands."""
    declared: dict[str, Any] = {"models": [Thing], "projections": [ThingSearch]}
    plane = await plane_of(**declared)
    await by_hand(plane, f"INSERT INTO thing SELECT n, 'first' FROM generate_series(1, {ROWS}) n")
    for turn in range(2):
        other = pp.Plane(settings=plane.settings, worker=True, **declared)
        async with other:
            for n in range(10):
                await by_hand(plane, "UPDATE thing SET body = %s", f"turn {turn} {n}")
                await asyncio.sleep(0.2)
            await becomes(lambda: shares(plane, ThingSearch.name), [4, 4], within_s=5)
            await by_hand(plane, "UPDATE thing SET body = 'both' WHERE mod(id, 2) = 0")
            await plane.caught_up()
            assert other.opened.projectors[ThingSearch.name].applied_items > 0
        await by_hand(plane, "DELETE FROM thing WHERE id = %s", turn + 1)
        drift = await plane.verify()
        assert (drift.clean, drift.parts[0].items) == (True, ROWS - turn - 1)


@pytest.mark.parametrize("engine", ["lancedb", "qdrant", "valkey"])
async def test_what_is_applied_late_is_refused(
    plane_of: PlaneOf, own_settings: pp.Settings, engine: str
) -> None:
    """Held up between derive and apply, while another projects what is newer."""
    url = SecretStr("qdrant://:memory:") if engine == "qdrant" else own_settings.vector_url
    projection = ThingCache if engine == "valkey" else ThingSearch
    plane = await plane_of(
        models=[Thing],
        projections=[projection],
        settings=own_settings.model_copy(update={"vector_url": url}),
    )
    opened = plane.opened
    target = opened.targets[projection.name]
    derived, go_on = asyncio.Event(), asyncio.Event()
    applied: list[int] = []

    async def apply(*args: Any) -> None:
        derived.set()
        await go_on.wait()
        await target.store.apply(*args)
        applied.append(len(args[1]) + len(args[2]))

    late = Projector(
        replace(target, store=Proxy(target.store, apply=apply)),
        opened.database,
        opened.journal,
        opened.feed,
        opened.feed.subjects,
        epoch=opened.epoch,
    )
    await plane.caught_up()
    async with running(late):
        await by_hand(plane, "INSERT INTO thing SELECT n, 'old' FROM generate_series(1, 9) n")
        await derived.wait()
        await by_hand(plane, "UPDATE thing SET body = 'new'")
        await by_hand(plane, "DELETE FROM thing WHERE id < 4")
        await plane.caught_up()
        before = await plane.verify()
        go_on.set()

        async def count() -> bool:
            return bool(applied)

        await becomes(count, True, within_s=10)
    after = await plane.verify()
    assert before.clean and after.clean
    assert after.parts[0].store_digest == before.parts[0].store_digest
    assert after.parts[0].items == 6
