"""A collection is built beside the one that is read, proven, and then switched to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

import polyplane as pp
from polyplane.flow import rebuild as rebuild_module
from polyplane.flow.rebuild import Rebuild
from polyplane.runtime import generations, keeping, moving
from tests.conftest import PlaneOf
from tests.flow.endpoint import endpoint
from tests.flow.things import Killed, Thing, ThingSearch, becomes, by_hand, embedding_of

ROWS = 300
KEYS = [str(n) for n in range(1, ROWS + 1)]
FILL = f"INSERT INTO thing SELECT n, 'thing ' || n FROM generate_series(1, {ROWS}) n"


class Tagged(pp.Vectors[Thing]):
    """Its items say which version derived them."""

    name = "tagged"
    dimensions = 4

    def derive(self, thing: Thing, /) -> pp.Vector | None:
        """The body, and the version."""
        return pp.Vector(thing.body, {"v": 1}, embedding_of(thing.body))


class TaggedAnew(Tagged):
    """The next version: another tag, and other dimensions."""

    name = "tagged"
    version = 2
    dimensions = 6

    def derive(self, thing: Thing, /) -> pp.Vector | None:
        """The body, and the version."""
        return pp.Vector(thing.body, {"v": 2}, [*embedding_of(thing.body), 1, 2])


class Kept(pp.Cached[Thing]):
    """Things in the cache."""

    name = "kept"
    key_prefix = "thing:"

    def derive(self, thing: Thing, /) -> pp.Entry | None:
        """The body, and the version."""
        return pp.Entry({"body": thing.body, "v": 1})


class KeptAnew(Kept):
    """The next version."""

    name = "kept"
    version = 2

    def derive(self, thing: Thing, /) -> pp.Entry | None:
        """The body, and the version."""
        return pp.Entry({"body": thing.body, "v": 2})


def states(plane: pp.Plane) -> list[tuple[str, str]]:
    """(collection, state) as this plane knows them."""
    return [(row.name, row.state) for row in plane.opened.generations.rows]


async def known(plane: pp.Plane) -> list[tuple[str, str]]:
    """(collection, state) as the journal knows them."""
    return [(row.name, row.state) for row in await plane.opened.journal.collections.rows()]


@asynccontextmanager
async def writing(plane: pp.Plane) -> AsyncIterator[list[int]]:
    """Change rows, one after the other, until the block ends; how many changed."""
    count = [0]
    go_on = True

    async def write() -> None:
        while go_on:
            n = count[0] % ROWS + 1
            await by_hand(plane, "UPDATE thing SET body = %s WHERE id = %s", f"turn {count[0]}", n)
            count[0] += 1

    task = asyncio.create_task(write())
    try:
        yield count
    finally:
        go_on = False
        await task


@asynccontextmanager
async def reading(plane: pp.Plane, projection: Any) -> AsyncIterator[list[set[int]]]:
    """Read every item, over and over, until the block ends: each time all, and of one version."""
    seen: list[set[int]] = []
    go_on = True

    async def read() -> None:
        reader = plane[projection]
        while go_on:
            hits = await reader.get(KEYS)
            assert len(hits) == ROWS
            seen.append({hit.tags["v"] for hit in hits})

    task = asyncio.create_task(read())
    try:
        yield seen
    finally:
        go_on = False
        await task
    assert [found for found in seen if len(found) != 1] == []


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of the killed end soon, and every process looks often."""
    monkeypatch.setattr(rebuild_module, "LEASE_TTL_S", 1.0)
    for module in (keeping, moving):
        monkeypatch.setattr(module, "REFRESH_S", 0.2)
    for module in (keeping, generations):
        monkeypatch.setattr(module, "RECENT_S", 0.6)


async def test_a_rebuild_beside_writes_and_readers(plane_of: PlaneOf) -> None:
    """Nobody sees less than all, what is settled is seen, and it can be switched back; then
    the old one is dropped."""
    plane = await plane_of(models=[Thing], projections=[Tagged])
    await by_hand(plane, FILL)
    await plane.caught_up()
    phases: list[str] = []
    async with reading(plane, Tagged) as seen, writing(plane) as written:
        done = asyncio.create_task(plane.rebuild(Tagged, progress=lambda it, _: phases.append(it)))
        while not done.done():
            before = written[0]
            await plane.caught_up()
            hits = await plane[Tagged].get(KEYS)
            turns = [int(hit.text.split()[1]) for hit in hits if hit.text.startswith("turn")]
            assert max(turns, default=-1) + 1 >= before
        rebuilt = await done
    assert (rebuilt.before, rebuilt.collection) == ("tagged", "tagged_g2")
    assert {"waiting", "filling", "proving", "switching"} >= set(phases) >= {"switching"}
    assert len(seen) > 10
    assert states(plane) == [("tagged", "retired"), ("tagged_g2", "active")]
    drift = await plane.verify()
    assert drift.clean and drift.parts[0].collection == "tagged_g2"

    await by_hand(plane, "DELETE FROM thing WHERE id <= 10")
    back = await plane.rollback(Tagged)
    assert (back.before, back.collection) == ("tagged_g2", "tagged")
    await plane.caught_up()
    assert len(await plane[Tagged].get(KEYS)) == ROWS - 10
    assert (await plane.verify()).parts[0].collection == "tagged"

    await becomes(lambda: plane.prune(Tagged), ["tagged_g2"], within_s=10)
    assert await known(plane) == [("tagged", "active")]
    assert (await plane.verify()).clean
    with pytest.raises(pp.Conflict, match="no earlier"):
        await plane.rollback(Tagged)


async def test_a_raised_version_is_built_beside(plane_of: PlaneOf) -> None:
    """Readers of both codes read the old until it is proven, then the new; old code can open, and
    goes back when it is told to."""
    first = await plane_of(models=[Thing], projections=[Tagged])
    await by_hand(first, FILL)
    await first.caught_up()
    old = await plane_of(models=[Thing], projections=[Tagged], flows=False)
    await first.close()

    second = await plane_of(models=[Thing], projections=[TaggedAnew])
    assert len(await second[TaggedAnew].search([1, 1, 1, 1], tags={"v": 1})) == 10
    async with reading(second, TaggedAnew) as seen, reading(old, Tagged) as seen_by_old:
        assert (await second.lag())[0].building == "tagged_g2"
        await by_hand(second, "UPDATE thing SET body = 'changed' WHERE id = 1")
        await second.caught_up()
        [hit] = await second[TaggedAnew].get([1])
        assert (hit.text, hit.tags) == ("changed", {"v": 2})

        async def last() -> set[int]:
            return seen_by_old[-1]

        await becomes(last, {2}, within_s=5)
    assert (seen[0], seen[-1]) == ({1}, {2})
    assert (await second.verify()).clean
    assert (await second.lag())[0].version == 2
    await second.close()

    third = await plane_of(models=[Thing], projections=[Tagged])
    assert await known(third) == [("tagged", "retired"), ("tagged_g2", "active")]
    await by_hand(third, "UPDATE thing SET body = 'again' WHERE id = 2")
    with pytest.raises(pp.NotSettled, match="other code"):
        await third.caught_up(timeout_s=0.3)
    await third.rollback(Tagged)
    assert await known(third) == [("tagged", "active"), ("tagged_g2", "retired")]
    assert {hit.text for hit in await third[Tagged].get([1, 2])} == {"changed", "again"}
    assert (await third.verify()).clean


@pytest.mark.parametrize("at", ["declared", "filled", "proven", "switched"])
async def test_a_killed_rebuild_goes_on(
    plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Whatever it was doing; the rows change while nobody works."""
    plane = await plane_of(models=[Thing], projections=[Tagged])
    await by_hand(plane, FILL)
    await plane.caught_up()
    reached = asyncio.Event()

    def dies(name: str) -> None:
        if name == f"rebuild.{at}":
            reached.set()
            raise Killed

    if at == "declared":
        await plane.opened.generations.begin("tagged")
    else:
        with monkeypatch.context() as patch:
            patch.setattr(rebuild_module, "step", dies)
            rebuilding = asyncio.create_task(plane.rebuild(Tagged))
            async with asyncio.timeout(20):
                await reached.wait()
            rebuilding.cancel()
            await asyncio.gather(rebuilding, return_exceptions=True)
            await plane.close()
    await plane.close()
    await by_hand(plane, "DELETE FROM thing WHERE id <= 5")
    await by_hand(plane, "UPDATE thing SET body = 'meanwhile' WHERE id = 6")
    again = await plane_of(models=[Thing], projections=[Tagged])

    async def read() -> str:
        return again.opened.generations.readings["tagged"].collection.target

    await becomes(read, "tagged_g2", within_s=20)
    drift = await again.verify()
    assert drift.clean and drift.parts[0].items == ROWS - 5


async def test_a_rebuild_goes_on_in_the_next_epoch(
    plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch ends between the proof and the switch."""
    plane = await plane_of(models=[Thing], projections=[Tagged])
    await by_hand(plane, FILL)
    await plane.caught_up()
    opened = plane.opened
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "REFRESH_S", 60.0)
        rebuilding = asyncio.create_task(plane.rebuild(Tagged))

        async def phases() -> list[str]:
            return [rebuild.phase for rebuild in opened.rebuilds.values()]

        await becomes(phases, ["switching"], within_s=20)
        epoch = opened.epoch
        bounds = await opened.feed.bounds(opened.feed.subjects.changes)
        await opened.journal.bump_epoch(epoch, bounds.last, 0)
    await by_hand(plane, "UPDATE thing SET body = 'later' WHERE id = 1")
    assert (await rebuilding).collection == "tagged_g2"
    assert opened.epoch > epoch
    drift = await plane.verify()
    assert drift.clean and drift.parts[0].collection == "tagged_g2"


async def test_what_does_not_equal_truth_is_never_read(
    plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up, and says why; readers stay where they are, and the next one may succeed."""
    plane = await plane_of(models=[Thing], projections=[Tagged])
    await by_hand(plane, FILL)
    await plane.caught_up()
    real: Callable[..., Any] = Rebuild._caught_up

    async def spoils(self: Rebuild) -> None:
        await real(self)
        await self.target.store.apply(self.target.collection, [], ["7"], 1 << 52)

    with monkeypatch.context() as patch:
        patch.setattr(Rebuild, "_caught_up", spoils)
        with pytest.raises(pp.Conflict, match="1 missing"):
            await plane.rebuild(Tagged)
    assert len(await plane[Tagged].get(KEYS)) == ROWS
    assert "1 missing" in (await plane.lag())[0].error
    with pytest.raises(pp.Conflict, match="no earlier"):
        await plane.rollback(Tagged)
    assert (await plane.rebuild(Tagged)).collection == "tagged_g3"
    assert (await plane.lag())[0].error == ""
    assert (await plane.verify()).clean


async def test_a_cache_is_rebuilt_and_the_old_one_goes(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    """Its entries stand side by side, and those that go leave the others."""
    settings = own_settings.model_copy(update={"retired_keep_s": 0})
    plane = await plane_of(models=[Thing], projections=[Kept], settings=settings)
    await by_hand(plane, FILL)
    await plane.caught_up()
    async with writing(plane):
        await plane.rebuild(Kept)
        for key in KEYS:
            assert (await plane[Kept].get(key) or {})["v"] == 1
    await plane.caught_up()
    await becomes(lambda: known(plane), [("kept_g2", "active")], within_s=10)
    drift = await plane.verify()
    assert drift.clean and drift.parts[0].items == ROWS


async def test_a_cache_of_another_version_is_never_mixed(plane_of: PlaneOf) -> None:
    """The new one is read at once, for it is right while it is empty; old code asks truth."""
    first = await plane_of(models=[Thing], projections=[Kept])
    await by_hand(first, FILL)
    await first.caught_up()
    old = await plane_of(models=[Thing], projections=[Kept], flows=False)
    await first.close()
    second = await plane_of(models=[Thing], projections=[KeptAnew])
    for key in KEYS:
        assert (await second[KeptAnew].get(key) or {})["v"] == 2
    await by_hand(second, "UPDATE thing SET body = 'changed'")
    await second.caught_up()
    await old.opened.generations.refresh()
    for key in KEYS[:20]:
        assert await old[Kept].get(key) == {"body": "changed", "v": 1}
        assert await second[KeptAnew].get(key) == {"body": "changed", "v": 2}
    assert (await second.verify()).clean


class ByText(pp.Vectors[Thing]):
    """Embedded by whatever the plane has for it."""

    name = "by_text"

    def derive(self, thing: Thing, /) -> pp.Vector | None:
        """The body."""
        return pp.Vector(thing.body, {"n": thing.id})


async def test_another_embedder_is_another_generation(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    """Of other dimensions; while it works, texts are embedded as those that are read."""
    first = await plane_of(models=[Thing], projections=[ByText])
    await by_hand(first, FILL)
    await first.caught_up()
    found = await first[ByText].search("thing 12", limit=1)
    await first.close()
    with endpoint() as url:
        changed = {"embedder_url": SecretStr(url), "embedder_dimensions": 16}
        settings = own_settings.model_copy(update=changed)
        second = await plane_of(models=[Thing], projections=[ByText], settings=settings)
        assert await second[ByText].search("thing 12", limit=1) == found
        await second.caught_up()
        reading = second.opened.generations.readings["by_text"]
        assert (reading.collection.target, reading.collection.dimensions) == ("by_text_g2", 16)
        assert len(await second[ByText].search("thing 12", limit=ROWS)) == ROWS
        assert (await second.verify()).clean
        await second.close()
    third = await plane_of(models=[Thing], projections=[ByText])  # back; where it stood
    await third.caught_up()
    assert await known(third) == [("by_text", "active"), ("by_text_g2", "retired")]
    assert await third[ByText].search("thing 12", limit=1) == found
    assert (await third.verify()).clean


async def test_names_of_generations_are_reserved() -> None:
    """Else a projection could write into another's."""

    class Odd(ThingSearch):
        name = "thing_search_g2"

    with pytest.raises(pp.Misconfigured, match="thing_search_g2"):
        pp.Plane(models=[Thing], projections=[Odd])
