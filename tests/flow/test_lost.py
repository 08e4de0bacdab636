"""What is known of a collection that was found lost: nothing, until it is filled again."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

import polyplane as pp
from polyplane.errors import Fenced
from polyplane.flow import backfill as backfill_module
from polyplane.model.position import Position
from polyplane.truth.leases import Held
from tests.conftest import PlaneOf
from tests.flow.test_projector import NAME, TEN, fill, projector_of, target_of
from tests.flow.test_repair import ThingCache
from tests.flow.things import Thing, ThingSearch, by_hand, relay_of, running


@pytest.fixture
async def plane(plane_of: PlaneOf) -> pp.Plane:
    """Things, and nothing that moves them."""
    return await plane_of(models=[Thing], projections=[ThingSearch], flows=False)


async def hold(plane: pp.Plane) -> Held:
    """All buckets of the things, as a worker holds them."""
    me, leases = uuid4(), plane.opened.journal.leases
    names = {f"projection:{NAME}:{bucket}": bucket for bucket in range(8)}
    fences = await leases.claim(me, names, 60, plane.opened.epoch)
    return Held(me, tuple((bucket, fences[name]) for name, bucket in names.items()))


async def is_filled(plane: pp.Plane) -> bool:
    """Whether the things count as filled."""
    [row] = await plane.opened.journal.collections.rows()
    return row.filled


async def test_a_worker_that_has_not_heard_yet_notes_nothing(plane: pp.Plane) -> None:
    """Else `caught_up` would believe it, while the collection is empty."""
    await fill(plane)
    journal, epoch, held = plane.opened.journal, plane.opened.epoch, await hold(plane)
    ten = Position(epoch, 10)
    await journal.projected_by(NAME, ten, {0: "8"}, held)
    assert set((await journal.positions()).values()) == {ten}
    assert await journal.witnesses(NAME) == {"8": ten.packed()}
    await journal.unfill(NAME)
    with pytest.raises(Fenced, match="lost"):
        await journal.projected_by(NAME, Position(epoch, 11), {0: "8"}, held)
    assert await journal.positions() == {}
    assert len(await journal.behind(epoch, [(NAME, "public.thing")])) == 1
    await fill(plane)
    await journal.projected_by(NAME, Position(epoch, 12), {}, held)
    assert set((await journal.positions()).values()) == {Position(epoch, 12)}


async def test_a_projector_waits_until_its_collection_is_filled(plane: pp.Plane) -> None:
    """It does not read the stream from its beginning, nor note anything."""
    await by_hand(plane, TEN)
    projector = projector_of(plane)
    async with running(relay_of(plane), projector):
        with pytest.raises(pp.NotSettled, match=NAME):
            await plane.caught_up(timeout_s=1)
        assert projector.applied_items == 0 and not projector.is_lost
        assert await fill(plane) == 10
        await by_hand(plane, "UPDATE thing SET body = 'x' WHERE id = 1")
        await plane.caught_up()
    assert (await plane.verify()).clean


async def test_a_fill_of_what_is_lost_meanwhile_does_not_count(
    plane: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it has put may be gone; the next one counts."""
    await by_hand(plane, TEN)
    steps: list[str] = []

    async def lose(*args: Any, **kwargs: Any) -> None:
        await plane.opened.journal.unfill(NAME)
        steps.append("lost")

    with pytest.raises(Fenced, match="lost while"):
        await fill(plane, target_of(plane, maintain=lose))
    assert steps == ["lost"] and not await is_filled(plane)
    assert await plane.opened.journal.positions() == {}
    monkeypatch.setattr(backfill_module, "step", steps.append)
    assert await fill(plane) == 10
    assert steps[-1] == "backfill.positioned" and await is_filled(plane)
    assert len(await plane.opened.journal.positions()) == 8


async def test_a_reader_of_a_cache_outlives_an_epoch(plane_of: PlaneOf) -> None:
    """What it puts has a stamp of the epoch it is put in."""
    plane = await plane_of(models=[Thing], projections=[ThingCache], flows=False)
    await by_hand(plane, "INSERT INTO thing VALUES (1, 'a'), (2, 'b')")
    reader, opened = plane[ThingCache], plane.opened
    target = opened.targets[ThingCache.name]
    for key, epoch in ((1, opened.epoch), (2, opened.epoch + 1)):
        opened.epoch = epoch
        assert await reader.get(key)
        [stamp] = await target.store.stamps(target.collection, [str(key)])
        assert Position.unpacked(stamp.position).epoch == epoch
