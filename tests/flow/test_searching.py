"""Full text through a whole plane: built beside, found at once, proven, with indexes under it."""

from __future__ import annotations

from pathlib import Path

import lancedb
import pytest

import polyplane as pp
from polyplane.model.collection import Collection
from polyplane.model.scope import Scope
from polyplane.stores.vector import lance_indexes
from tests.conftest import PlaneOf
from tests.flow.things import DIMENSIONS, Thing, ThingSearch, becomes, by_hand, embedding_of

ROWS = 300
FILL = f"INSERT INTO thing SELECT n, 'the kettle number ' || n FROM generate_series(1, {ROWS}) n"


class Worded(ThingSearch):
    """The same items, found by their words, too: another definition of the same projection."""

    name = "thing_search"
    full_text = "english"


async def by_words(plane: pp.Plane, question: str) -> list[str]:
    """The keys of what is found."""
    found = await plane[Worded].find(question, mode="text", limit=1_000)
    assert found.degraded == ""
    return [hit.key for hit in found.hits]


async def test_full_text_that_is_declared_later_is_built_beside(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    plane = await plane_of(models=[Thing], projections=[ThingSearch])
    await by_hand(plane, FILL)
    await plane.caught_up()
    with pytest.raises(pp.Refused):
        await plane[ThingSearch].find("kettle", mode="text")
    await plane.close()
    plane = await plane_of(settings=own_settings, models=[Thing], projections=[Worded])
    assert len(await plane[Worded].search([1.0] * DIMENSIONS, limit=1_000)) == ROWS

    async def read() -> str:
        return _collection(plane).target

    await becomes(read, "thing_search_g2", within_s=60)
    assert len(await by_words(plane, "kettles")) == ROWS
    assert await by_words(plane, "17") == ["17"]
    assert (await plane.verify(deep=True)).clean


async def test_what_is_written_is_found_at_once_and_proven_with_indexes(
    plane_of: PlaneOf, own_settings: pp.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance_indexes, "NUMBERS_MIN", 200 * DIMENSIONS)  # of few rows
    plane = await plane_of(models=[Thing], projections=[Worded])
    await by_hand(plane, FILL)
    await plane.caught_up()
    store, collection = plane.opened.stores.vector, _collection(plane)
    assert store is not None
    await store.maintain(collection, full=True)
    assert await _indexes(own_settings) >= {"_terms", "vector", "key"}
    for n in (1, ROWS + 1):
        async with plane.write(actor="ada") as tx:
            row = await tx.session.get(Thing, n)
            if row is None:
                tx.add(Thing(id=n, body="a samovar, unheard of"))
            else:
                row.body = "a samovar, unheard of"
        await plane.settled(tx.token)
        assert str(n) in await by_words(plane, "samovars")
        near = await plane[Worded].search(embedding_of("a samovar, unheard of").tolist(), limit=2)
        assert str(n) in [hit.key for hit in near]
    assert "1" not in await by_words(plane, "kettle")
    await by_hand(plane, "DELETE FROM thing WHERE id = 1")
    await plane.caught_up()
    assert await by_words(plane, "samovar") == [str(ROWS + 1)]
    await store.maintain(collection, full=True)
    assert await by_words(plane, "samovar") == [str(ROWS + 1)]
    assert len(await by_words(plane, "kettle")) == ROWS - 1
    exact = await store.search(
        collection, Scope.everything, [1.0] * DIMENSIONS, limit=1_000, exact=True
    )
    assert len(exact) == ROWS
    assert (await plane.verify(deep=True)).clean


async def test_words_that_somebody_changed_by_hand_are_drift(
    plane_of: PlaneOf, own_settings: pp.Settings
) -> None:
    plane = await plane_of(models=[Thing], projections=[Worded])
    await by_hand(plane, FILL)
    await plane.caught_up()
    database = await lancedb.connect_async(str(_folder(own_settings)))
    table = await database.open_table(_collection(plane).target)
    await table.update({"_terms": "samovar"}, where="`key` = '7'")
    assert await by_words(plane, "samovar") == ["7"]
    assert (await plane.verify()).clean
    drift = await plane.verify(deep=True)
    assert [part.stale for part in drift.parts] == [("7",)]
    await plane.repair(deep=True)
    assert await by_words(plane, "samovar") == []
    assert "7" in await by_words(plane, "kettle")


def _collection(plane: pp.Plane) -> Collection:
    return plane.opened.generations.readings["thing_search"].collection


def _folder(settings: pp.Settings) -> Path:
    url = settings.url("vector_url")
    assert url is not None
    return Path(url.removeprefix("lancedb://"))


async def _indexes(settings: pp.Settings) -> set[str]:
    database = await lancedb.connect_async(str(_folder(settings)))
    table = await database.open_table("thing_search")
    return {index.columns[0] for index in await table.list_indices()}
