"""repair mends exactly what was done to a store behind the plane's back, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lancedb
import numpy as np
import pytest
from pydantic import SecretStr
from qdrant_client import models
from redis.asyncio import Redis

import polyplane as pp
from polyplane.flow import projector as projector_module
from polyplane.flow.projector import Target
from polyplane.flow.witness import went_back
from polyplane.model.drift import Mended
from polyplane.model.items import Item, Stamp
from polyplane.reconcile import repair as repair_module
from polyplane.runtime import moving
from polyplane.runtime.keeping import sides
from tests.conftest import PlaneOf
from tests.flow.things import DIMENSIONS, Thing, ThingSearch, by_hand

FAR = 1 << 52
"""A position ahead of all that will ever be published."""
TEN = "INSERT INTO thing SELECT n, 'thing ' || n FROM generate_series(1, 10) n"


class ThingCache(pp.Cached[Thing]):
    """The same truth in a cache."""

    key_prefix = "thing:"

    def derive(self, thing: Thing, /) -> pp.Entry | None:
        """The body, but nothing from an empty one."""
        return pp.Entry({"body": thing.body}) if thing.body else None


@pytest.fixture
async def plane(plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch) -> pp.Plane:
    """Ten things, of which one derives nothing, in two stores that nobody else looks after."""
    monkeypatch.setattr(moving, "_LOOK_AT_STORES_EVERY_S", 3600.0)
    plane = await plane_of(models=[Thing], projections=[ThingSearch, ThingCache])
    await by_hand(plane, TEN)
    await by_hand(plane, "UPDATE thing SET body = '' WHERE id = 10")
    await plane.caught_up()
    return plane


def target_of(plane: pp.Plane, projection: type[Any] = ThingSearch) -> Target:
    """Where a projection's items are."""
    return plane.opened.targets[projection.name]


def strange(key: str) -> Item:
    """An item that follows from nothing."""
    return Item(key, "0" * 32, pp.Vector("?", {"n": 0}, np.ones(DIMENSIONS, "f4")))


async def stamps(target: Target) -> dict[str, Stamp]:
    """All that the store holds."""
    return {s.key: s async for batch in target.store.scan(target.collection) for s in batch}


async def table_of(plane: pp.Plane) -> lancedb.AsyncTable:
    """The table of `ThingSearch`, past the plane."""
    url = plane.settings.url("vector_url")
    assert url is not None
    database = await lancedb.connect_async(url.removeprefix("lancedb://"))
    return await database.open_table(target_of(plane).collection.target)


async def check(plane: pp.Plane, mended: Mended, keys: Sequence[str]) -> None:
    """All is well, and only `keys` have been written again."""
    assert mended.left.clean and (await plane.verify()).clean
    assert mended.left.parts[0].rows == len(keys)


async def test_nothing_is_done_where_nothing_drifts(plane: pp.Plane) -> None:
    before = await by_hand(plane, "SELECT max(seq) FROM polyplane.outbox")
    mended = await plane.repair()
    assert mended.found.clean and mended.left.clean
    assert await by_hand(plane, "SELECT max(seq) FROM polyplane.outbox") == before


async def test_missing_stale_and_extra_items_of_ordinary_stamps(plane: pp.Plane) -> None:
    """Also a tombstone where an item should be, and keys that are none of the table's type."""
    target, table = target_of(plane), await table_of(plane)
    before = await stamps(target)
    await table.delete("key IN ('1', '2')")
    await table.update({"digest": "f" * 32}, where="key = '3'")
    await table.update({"digest": None}, where="key = '4'")
    await target.store.apply(target.collection, [strange("77"), strange("no number")], [], 1)
    mended = await plane.repair(ThingSearch)
    [found] = mended.found.parts
    assert (found.missing, found.stale, found.extra) == (
        ("1", "2", "4"),
        ("3",),
        ("77", "no number"),
    )
    assert found.stuck == ()
    await check(plane, mended, found.drifting)
    after = await stamps(target)
    assert {key for key in after if after[key] != before.get(key)} == set(found.drifting)
    assert {key: after[key].digest for key in before} == {k: s.digest for k, s in before.items()}


async def test_stamps_ahead_of_every_change_are_overwritten(plane: pp.Plane) -> None:
    """What no change could win against: items right and wrong, and tombstones."""
    target = target_of(plane)
    rows = await target.store.stamps(target.collection, ["5"])
    right = replace(strange("5"), digest=str(rows[0].digest))
    await target.store.apply(target.collection, [right, strange("6"), strange("x")], ["7"], FAR)
    await target.store.apply(target.collection, [], ["10", "99"], FAR)
    mended = await plane.repair(ThingSearch)
    [found] = mended.found.parts
    assert (found.missing, found.stale, found.extra) == (("7",), ("5", "6"), ("10", "99", "x"))
    assert sorted(found.stuck) == sorted(found.drifting)
    await check(plane, mended, found.drifting)
    assert all(stamp.position < FAR for stamp in (await stamps(target)).values())
    hits = await plane[ThingSearch].get(["5", "6", "7"])
    assert [hit.text for hit in hits] == ["thing 5", "thing 6", "thing 7"]
    await by_hand(plane, "UPDATE thing SET body = 'alive' WHERE id IN (5, 7, 10)")
    assert (await plane.verify()).clean


async def test_items_that_are_there_twice(plane: pp.Plane) -> None:
    """Once more as they are, once more in another form, and an extra one."""
    target = target_of(plane)
    await target.store.apply(target.collection, [strange("x")], [], 1)
    table = await table_of(plane)
    rows = (await table.to_arrow()).to_pylist()
    twins = [row for row in rows if row["key"] in ("1", "2", "x")]
    await table.add([row | {"digest": "e" * 32} if row["key"] == "2" else row for row in twins])
    mended = await plane.repair(ThingSearch)
    [found] = mended.found.parts
    assert (found.missing, found.stale, found.extra) == ((), (), ("1", "2", "x"))
    assert found.stuck == ("1", "2", "x")
    await check(plane, mended, found.drifting)
    assert len(await plane[ThingSearch].get(["1", "2"])) == 2


async def test_an_older_twin_of_what_was_applied_last_is_drift_and_no_older_store(
    plane: pp.Plane,
) -> None:
    """The store has lost nothing: it is not to be filled again for one item."""
    await plane.caught_up()
    target, journal = target_of(plane), plane.opened.journal
    await by_hand(plane, "UPDATE thing SET body = 'newest' WHERE id = 1")
    await plane.caught_up()
    assert "1" in await journal.witnesses(target.collection.target)
    table = await table_of(plane)
    [row] = [row for row in (await table.to_arrow()).to_pylist() if row["key"] == "1"]
    await table.add([row | {"position": 1}])
    assert not await went_back(target, journal)
    assert (await plane.repair(ThingSearch)).left.clean


async def test_keys_that_truth_cannot_even_be_asked_for(plane: pp.Plane) -> None:
    target = target_of(plane)
    keys = ["\0", "a\0b", "9" * 30, "' OR 1=1 --", ""]
    await target.store.apply(target.collection, [strange(key) for key in keys], [], 1)
    mended = await plane.repair(ThingSearch)
    [found] = mended.found.parts
    assert found.extra == tuple(sorted(keys)) and found.stuck == ()
    await check(plane, mended, keys)


async def test_a_cache_may_lack_items_but_hold_no_wrong_ones(plane: pp.Plane) -> None:
    target = target_of(plane, ThingCache)
    url = plane.settings.url("cache_url")
    assert url is not None
    name = f"{plane.namespace}:default:thing:"
    async with Redis.from_url(url) as client:
        await client.delete(f"{name}1")
        await client.hset(f"{name}2", "d", "f" * 32)
        await client.hset(f"{name}3", "p", str(FAR))
        copied: dict[Any, Any] = {"c": target.collection.target, "p": "1", "d": "0" * 32, "v": "{}"}
        for key in (b"extra", b"\xff\xfe no key is called so"):
            await client.hset(name.encode() + key, mapping=copied)
    mended = await plane.repair(ThingCache)
    [found] = mended.found.parts
    assert (found.missing, found.stale) == ((), ("2", "3"))
    assert found.extra == ("extra",) and found.stuck == ("3",)
    await check(plane, mended, found.drifting)
    assert await plane[ThingCache].get(3) == {"body": "thing 3"}


@pytest.mark.long
async def test_repair_beside_writes_that_never_rest(plane: pp.Plane) -> None:
    """Writes to the very keys that are mended: the newest state wins, and no reader goes back."""
    target, restless, seen = target_of(plane), True, [0]

    async def change() -> None:
        turn = 0
        while restless:
            turn += 1
            await by_hand(plane, "UPDATE thing SET body = %s WHERE id IN (1, 2)", f"{turn:06}")

    async def read() -> None:
        while restless:
            hits = await plane[ThingSearch].get(["1"])
            seen.extend(int(hit.text) for hit in hits if hit.text.isdigit())
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(it) for it in (change(), read())]
    await asyncio.sleep(0.1)
    for _ in range(3):
        await target.store.apply(target.collection, [strange("2"), strange("3")], ["4"], FAR)
        mended = await plane.repair(ThingSearch)
        [found] = mended.found.parts
        assert (found.missing, found.stale, found.extra) == (("4",), ("2", "3"), ())
        assert mended.left.clean
    restless = False
    await asyncio.gather(*tasks)
    assert (await plane.verify()).clean
    assert seen == sorted(seen) and seen[-1] > 0


async def test_a_repair_that_dies_is_finished_by_the_flow(
    plane: pp.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after it has told; and the flow dies, too, when it has cleared and put nothing yet."""
    target, table = target_of(plane), await table_of(plane)
    rows = await table.query().where("key = '2'").to_arrow()
    await table.add(rows)
    await target.store.apply(target.collection, [strange("1"), strange("x")], ["3"], FAR)
    deaths: list[str] = []

    class Died(Exception):
        pass

    def die(name: str) -> None:
        if name in ("repair.told", "projector.cleared") and name not in deaths:
            deaths.append(name)
            raise Died

    monkeypatch.setattr(repair_module, "step", die)
    monkeypatch.setattr(projector_module, "step", die)
    with pytest.raises(Died):
        await plane.repair(ThingSearch)
    await plane.caught_up()
    assert deaths == ["repair.told", "projector.cleared"]
    proof = await plane.verify()
    assert proof.clean and proof.parts[0].items == 9
    assert all(stamp.position < FAR for stamp in (await stamps(target)).values())


async def test_what_is_told_to_be_cleared_is_not_when_a_change_can_win(plane: pp.Plane) -> None:
    """As when the same message comes again; and nobody reads less meanwhile."""
    target, buried = target_of(plane), 0

    async def bury(*_: Any) -> None:
        nonlocal buried
        buried += 1

    monkey: Any = target.store
    real, monkey.bury = monkey.bury, bury
    try:
        truth, _ = sides(plane.opened, target, 10)
        await truth.touch(["1", "2", "77"], {"1", "77"})
        await plane.caught_up()
    finally:
        monkey.bury = real
    assert buried == 0
    assert (await plane.verify()).clean


async def test_points_that_somebody_put_into_qdrant(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    """Without a key, or with one and no position: named as extra, and taken away."""
    url = SecretStr("qdrant://:memory:")
    settings = own_settings.model_copy(update={"vector_url": url})
    plane = await plane_of(settings=settings, models=[Thing], projections=[ThingSearch])
    await by_hand(plane, TEN)
    await plane.caught_up()
    target = target_of(plane)
    store: Any = target.store
    points = [
        models.PointStruct(id=7, vector=[1.0, 2.0, 3.0, 4.0], payload={}),
        models.PointStruct(id=8, vector=[1.0, 2.0, 3.0, 4.0], payload={"_key": "3"}),
        models.PointStruct(id=9, vector=[1.0, 2.0, 3.0, 4.0], payload={"_key": "x"}),
    ]
    await store._client.upsert(target.collection.target, points, wait=True)
    assert len(await plane[ThingSearch].search([1.0, 2.0, 3.0, 4.0], limit=100)) == 10
    mended = await plane.repair()
    [found] = mended.found.parts
    assert found.extra == ("\0point 7", "3", "x")
    assert found.drifting == list(found.stuck)
    await check(plane, mended, found.drifting)
    assert (await store._client.count(target.collection.target)).count == 11  # one tombstone


async def test_what_only_a_deep_look_finds(plane: pp.Plane) -> None:
    """Text, tag and vector altered under the right digest; and a value in a cache."""
    target, table = target_of(plane), await table_of(plane)
    await table.update({"text": "forged"}, where="key = '1'")
    await table.update({"n": 77}, where="key = '2'")
    rows = (await table.query().where("key = '3'").to_arrow()).to_pylist()
    await table.delete("key = '3'")
    await table.add([rows[0] | {"vector": [1.0, 0.0, 0.0, 0.0]}])
    url = plane.settings.url("cache_url")
    assert url is not None
    async with Redis.from_url(url) as client:
        await client.hset(f"{plane.namespace}:default:thing:4", "v", '{"body":"forged"}')
    assert (await plane.verify()).clean
    drift = await plane.verify(deep=True)
    assert [part.stale for part in drift.parts] == [("1", "2", "3"), ("4",)]
    assert [part.deep for part in drift.parts] == [9, 9]
    sampled = await plane.verify(ThingSearch, deep=True, sample=4, seed=3)
    assert sampled.parts[0].rows == 4 and set(sampled.parts[0].stale) < {"1", "2", "3"}
    assert (await plane.verify(ThingSearch, sample=10)).parts[0].rows == 10
    mended = await plane.repair(deep=True)
    assert mended.found.stale == 4 and mended.left.clean
    assert (await plane.verify(deep=True)).clean
    assert (await target.store.stamps(target.collection, ["1"]))[0].digest is not None
