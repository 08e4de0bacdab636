"""What is damaged is found when a plane opens, is filled again, and is never an answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import Redis

import polyplane as pp
from polyplane import Settings
from polyplane.errors import StoreDown
from tests.conftest import PlaneOf
from tests.flow.test_projector import NAME, TEN
from tests.flow.test_repair import ThingCache
from tests.flow.things import Thing, ThingSearch, becomes, by_hand

ANY = [1.0, 2.0, 3.0, 4.0]


def table_of(settings: Settings) -> Path:
    """The folder of the things' vectors."""
    return settings.home / "lancedb" / f"{NAME}.lance"


async def bodies(plane: pp.Plane) -> set[str]:
    """What a search finds."""
    return {hit.text for hit in await plane[ThingSearch].search(ANY, limit=100)}


async def notes(plane: pp.Plane) -> str:
    """What health says of the engine of the vectors."""
    [found] = [it for it in (await plane.health()).engines if it.role == "vector"]
    return found.detail


async def ten(plane_of: PlaneOf) -> set[str]:
    """Ten things in the store, and a plane that was closed in order; their bodies."""
    plane = await plane_of(models=[Thing], projections=[ThingSearch])
    await by_hand(plane, TEN)
    await plane.caught_up()
    found = await bodies(plane)
    assert len(found) == 10 and await notes(plane) == ""
    await plane.close()
    return found


@pytest.mark.parametrize("pattern", ["data/*.lance", "_versions/*.manifest"])
async def test_a_flipped_bit_is_found_and_filled_again(
    plane_of: PlaneOf, own_settings: Settings, pattern: str
) -> None:
    wanted = await ten(plane_of)
    for path in table_of(own_settings).glob(pattern):
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 4
        path.write_bytes(bytes(content))
    plane = await plane_of(models=[Thing], projections=[ThingSearch])
    assert "filled again" in await notes(plane)
    await plane.caught_up()
    assert await bodies(plane) == wanted
    assert (await plane.verify(deep=True)).clean


async def test_after_an_unclean_end_all_is_read(plane_of: PlaneOf, own_settings: Settings) -> None:
    """Nothing is noted of it, and yet a file that is cut off is found."""
    wanted = await ten(plane_of)
    (own_settings.home / "lancedb" / "seal.json").unlink()
    for path in table_of(own_settings).glob("data/*.lance"):
        path.write_bytes(path.read_bytes()[:100])
    plane = await plane_of(models=[Thing], projections=[ThingSearch])
    assert "filled again" in await notes(plane)
    await plane.caught_up()
    assert await bodies(plane) == wanted


async def test_what_is_whole_is_left_alone(plane_of: PlaneOf, own_settings: Settings) -> None:
    """Closed in order, or not."""
    wanted = await ten(plane_of)
    for _ in range(2):
        plane = await plane_of(models=[Thing], projections=[ThingSearch])
        assert await notes(plane) == "" and await bodies(plane) == wanted
        await plane.close()
        (own_settings.home / "lancedb" / "seal.json").unlink()


async def test_what_is_not_filled_is_no_answer(plane_of: PlaneOf) -> None:
    await ten(plane_of)
    plane = await plane_of(models=[Thing], projections=[ThingSearch], flows=False)
    assert len(await bodies(plane)) == 10
    await plane.opened.journal.unfill(NAME)
    await plane.opened.generations.refresh()
    with pytest.raises(StoreDown, match="is being filled"):
        await bodies(plane)
    with pytest.raises(StoreDown, match="is being filled"):
        await plane[ThingSearch].get(["1"])


async def test_a_cache_that_has_lost_its_tail_is_filled_again(plane_of: PlaneOf) -> None:
    """A power cut takes the last second of what Valkey was given; its marks are older then."""
    plane = await plane_of(models=[Thing], projections=[ThingCache])
    await by_hand(plane, TEN)
    await plane.caught_up()
    url, start = plane.settings.url("cache_url"), f"{plane.namespace}:default:"
    await plane.close()
    assert url is not None
    async with Redis.from_url(url) as client:
        await client.hset(f"{start}:marks:{ThingCache.name}", mapping=dict.fromkeys(range(8), "1"))
        await client.delete(*(f"{start}thing:{key}" for key in range(1, 11)))
    plane = await plane_of(models=[Thing], projections=[ThingCache])
    await plane.caught_up()

    async def lacking() -> int:
        async with Redis.from_url(url) as client:
            return 10 - await client.exists(*(f"{start}thing:{key}" for key in range(1, 11)))

    await becomes(lacking, 0, within_s=10)
    [found] = [it for it in (await plane.health()).engines if it.role == "cache"]
    assert "filled again" in found.detail
