"""What an operator sees of a plane that is at more, or less, than following changes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest

import polyplane as pp
from polyplane.errors import StoreDown
from polyplane.flow import backfill as backfill_module
from polyplane.flow.rebuild import Rebuild
from polyplane.ops import health as health_module
from polyplane.ops.lag import ProjectionLag
from polyplane.runtime import moving
from polyplane.serve.cli.projections import table_of
from polyplane.truth.scan import all_rows
from tests.conftest import PlaneOf
from tests.flow.things import Thing, ThingSearch, becomes, by_hand

ROWS = 1_000


class Slow(pp.Vectors[Thing]):
    """As `ThingSearch`, in a millisecond a row."""

    dimensions = 4

    def derive(self, thing: Thing, /) -> pp.Vector | None:
        """Blocks, as one that computes does."""
        time.sleep(0.001)
        return ThingSearch().derive(thing)


def shown(lag: ProjectionLag) -> str:
    """The state that `projections list` shows."""
    [cell] = table_of([asdict(lag)]).columns[-1].cells
    return str(cell)


@pytest.mark.long
async def test_how_far_a_fill_and_a_rebuild_are(
    plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill_module, "BATCH_ROWS", 100)
    monkeypatch.setattr(backfill_module, "all_rows", partial(all_rows, batch_size=50))
    plane = await plane_of(models=[Thing], projections=[Slow], flows=False)
    await by_hand(plane, f"INSERT INTO thing SELECT n, 'x' FROM generate_series(1, {ROWS}) n")
    await plane.close()
    plane = await plane_of(models=[Thing], projections=[Slow])
    seen: list[tuple[str, int, int, str]] = []
    work: list[tuple[str, str, str]] = []

    async def look(until: str) -> None:
        async with asyncio.timeout(60):
            while True:
                [lag] = await plane.lag()
                seen.append((lag.phase, lag.building_rows, lag.building_of_rows, shown(lag)))
                work.extend((w.what, w.state, w.detail) for w in (await plane.health()).work)
                if lag.collection == until and lag.filled and not lag.phase:
                    return
                await asyncio.sleep(0.02)

    catch_up = Rebuild._caught_up

    async def seen_in_each_phase(self: Rebuild) -> None:
        async with asyncio.timeout(20):
            while not any(state == self.phase for _, state, _ in work):
                await asyncio.sleep(0.01)
        await catch_up(self)

    monkeypatch.setattr(Rebuild, "_caught_up", seen_in_each_phase)
    await look("slow")
    halfway = [it for it in seen if it[0] == "filling" and 0 < it[1] < ROWS == it[2]]
    assert halfway[0][3] == f"filling {halfway[0][1]:,} of 1,000 rows"
    assert ("slow", "filling", f"{halfway[0][1]:,} of 1,000 rows") in work
    seen.clear()
    work.clear()
    rebuilding = asyncio.create_task(plane.rebuild(Slow))
    await look("slow_g2")
    await rebuilding
    phases = [phase for phase, *_ in seen]
    assert list(dict.fromkeys(filter(None, phases)))[-3:] == ["filling", "proving", "switching"]
    texts = {text for *_, text in seen}
    assert any("building slow_g2: filling" in text and "of 1,000 rows" in text for text in texts)
    assert any(text.endswith("building slow_g2: switching") for text in texts)
    assert {"filling", "proving", "switching"} <= {s for what, s, _ in work if what == "slow_g2"}
    assert shown((await plane.lag())[0]) == "up" and (await plane.health()).work == ()


async def test_a_collection_that_waits_is_named(
    plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it waits for; and when it waits for long, the plane is not well."""
    monkeypatch.setattr(moving, "_LOOK_AT_STORES_EVERY_S", 3600.0)
    plane = await plane_of(models=[Thing], projections=[ThingSearch])
    await plane.caught_up()
    assert (await plane.health()).work == ()

    async def apply(*_: Any) -> None:
        raise StoreDown("The disk is gone.")

    async def found() -> list[tuple[str, str, str]]:
        return [(it.what, it.state, it.detail) for it in (await plane.health()).work]

    async def status() -> str:
        return (await plane.health()).status

    with monkeypatch.context() as patch:
        patch.setattr(plane.opened.targets[ThingSearch.name].store, "apply", apply)
        await by_hand(plane, "INSERT INTO thing VALUES (1, 'x')")
        waits = [(ThingSearch.name, "waiting", "The disk is gone.")]
        await becomes(found, waits, within_s=10)
        assert await status() == "healthy"
        patch.setattr(health_module, "WAITS_S_MAX", 0.5)
        await becomes(status, "degraded", within_s=10)
        assert shown((await plane.lag())[0]) == "The disk is gone."
    await becomes(found, [], within_s=10)
    assert await status() == "healthy"
    assert (await plane.verify()).clean
