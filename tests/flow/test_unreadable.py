"""Rows that PostgreSQL holds and Python cannot: parked by whoever meets them, in nobody's way."""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane.errors import DeriveFailed
from polyplane.flow import projector as projector_module
from polyplane.truth import dead as dead_module
from polyplane.truth.scan import array_text
from tests.conftest import PlaneOf
from tests.flow.things import DIMENSIONS, becomes, by_hand, embedding_of


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Colour(enum.Enum):
    """What the code knows; the database learns more."""

    RED = "red"


class Event(Base):
    """All columns are read in binary."""

    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    day: Mapped[date]
    seen: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))


class Paint(Base):
    """An enum is read as text, and converted."""

    __tablename__ = "paint"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    day: Mapped[date]
    colour: Mapped[Colour]


class EventSearch(pp.Vectors[Event]):
    """What follows from an event."""

    dimensions = DIMENSIONS

    def derive(self, event: Event, /) -> pp.Vector | None:
        """Its day."""
        return pp.Vector(f"{event.day}", embedding=embedding_of(f"{event.day}"))


class EventCache(pp.Cached[Event]):
    """The same, in a cache."""

    key_prefix = "event:"

    def derive(self, event: Event, /) -> pp.Entry | None:
        """Its day."""
        return pp.Entry(f"{event.day}")


class PaintSearch(pp.Vectors[Paint]):
    """What follows from a paint."""

    dimensions = DIMENSIONS

    def derive(self, paint: Paint, /) -> pp.Vector | None:
        """Its colour."""
        return pp.Vector(paint.colour.value, embedding=embedding_of(paint.colour.value))


ALL: dict[str, Any] = {
    "models": [Event, Paint],
    "projections": [EventSearch, EventCache, PaintSearch],
}
EVENTS = """
    INSERT INTO event SELECT n, CASE n WHEN 3 THEN 'infinity'::date ELSE '2024-01-01' END,
      CASE n WHEN 5 THEN '12024-01-01'::timestamptz WHEN 7 THEN '-infinity' ELSE now() END
    FROM generate_series(1, 5000) n
"""
PAINTS = """
    INSERT INTO paint SELECT n, CASE n WHEN 2 THEN 'infinity'::date ELSE '2024-01-01' END,
      CASE n WHEN 4 THEN 'MAUVE'::colour ELSE 'RED' END
    FROM generate_series(1, 10) n
"""
BAD: dict[str, tuple[str, ...]] = {
    "event_search": ("3", "5", "7"),
    "event_cache": ("3", "5", "7"),
    "paint_search": ("2", "4"),
}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits long to be tried again."""
    monkeypatch.setattr(dead_module, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(dead_module, "LAST_WAIT_S", 0.2)
    monkeypatch.setattr(projector_module, "RETRY_EVERY_S", 0.05)


async def write(plane: pp.Plane) -> None:
    """Good rows and bad ones."""
    await by_hand(plane, "ALTER TYPE colour ADD VALUE 'MAUVE'")
    await by_hand(plane, EVENTS)
    await by_hand(plane, PAINTS)


async def letters(plane: pp.Plane, name: str) -> list[str]:
    """Why rows of a projection are parked."""
    found = await plane.opened.journal.dead.letters(name, limit=100)
    return [f"{letter.key}: {letter.error}" for letter in found]


async def check(plane: pp.Plane) -> None:
    """The bad ones are named as parked, everything else is there, and nothing drifts."""
    await plane.caught_up()
    drift = await plane.verify()
    assert drift.clean, drift
    assert {part.projection: part.parked for part in drift.parts} == BAD
    assert [(part.rows, part.items) for part in drift.parts][::2] == [(5000, 4997), (10, 8)]
    assert (await plane.verify(deep=True)).clean
    assert (await plane.verify(sample=5000)).clean
    [day, *others] = await letters(plane, "event_search")
    assert "field day" in day and all("field seen" in it for it in others)
    assert [it.split()[-1] for it in await letters(plane, "paint_search")] == ["day", "colour"]


async def mend(plane: pp.Plane) -> None:
    """A good value frees each."""
    await by_hand(plane, "UPDATE event SET day = '2024-01-02', seen = now() WHERE id IN (3, 5, 7)")
    await by_hand(plane, "UPDATE paint SET day = '2024-01-02', colour = 'RED' WHERE id IN (2, 4)")
    await plane.caught_up()

    async def parked() -> Sequence[tuple[str, ...]]:
        return [part.parked for part in (await plane.verify()).parts]

    await becomes(parked, [(), (), ()], within_s=10)
    drift = await plane.verify()
    assert drift.clean and drift.parts[0].items == 5000


async def test_a_projector_parks_them(plane_of: PlaneOf) -> None:
    plane = await plane_of(**ALL)
    await write(plane)
    await check(plane)
    await mend(plane)


@pytest.mark.long
async def test_a_backfill_parks_them_and_a_rebuild_is_switched_to(plane_of: PlaneOf) -> None:
    plane = await plane_of(**ALL, flows=False)
    await write(plane)
    await plane.close()
    plane = await plane_of(**ALL)
    await check(plane)
    assert (await plane.rebuild(EventSearch, timeout_s=60)).collection == "event_search_g2"
    drift = await plane.verify(EventSearch)
    assert drift.clean and drift.parts[0].parked == BAD["event_search"]
    await mend(plane)


async def test_a_repair_leaves_them_and_a_cache_says_what_is_wrong(plane_of: PlaneOf) -> None:
    plane = await plane_of(**ALL)
    await write(plane)
    await plane.caught_up()
    target = plane.opened.targets["event_search"]
    await target.store.apply(target.collection, [], ["8"], 1 << 52)
    mended = await plane.repair()
    assert mended.found.parts[0].drifting == ["8"] and mended.left.clean
    assert await plane[EventCache].get(8) == "2024-01-01"
    with pytest.raises(DeriveFailed, match="3"):
        await plane[EventCache].get(3)


class Visit(Base):
    """What belongs to an event."""

    __tablename__ = "visit"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event_id: Mapped[int | None] = mapped_column(index=True)
    day: Mapped[date]


class EventVisits(pp.Vectors[Event]):
    """An event with its visits."""

    dimensions = DIMENSIONS
    touches = {"visits": Visit.event_id}  # noqa: RUF012

    def derive(self, event: Event, /, visits: Sequence[Visit] = ()) -> pp.Vector | None:
        """All days."""
        text = " ".join(map(str, [event.day, *(visit.day for visit in visits)]))
        return pp.Vector(text, embedding=embedding_of(text))


async def test_rows_of_other_tables_that_belong_to_one(plane_of: PlaneOf) -> None:
    """One that cannot be read parks the row it belongs to, and no other."""
    declared: dict[str, Any] = {"models": [Event, Visit], "projections": [EventVisits]}
    plane = await plane_of(**declared, flows=False)
    await by_hand(
        plane, "INSERT INTO event SELECT n, '2024-01-01', now() FROM generate_series(1, 9) n"
    )
    await by_hand(plane, "UPDATE event SET day = 'infinity' WHERE id = 8")
    await by_hand(
        plane,
        "INSERT INTO visit SELECT n, n % 9, CASE n WHEN 12 THEN 'infinity'::date"
        " ELSE '2024-01-01' END FROM generate_series(1, 5000) n",
    )
    await plane.close()
    plane = await plane_of(**declared)
    await plane.caught_up()
    for mended, bad in ((12, ("3", "8")), (21, ("8",))):
        drift = await plane.verify()
        assert drift.clean and drift.parts[0].parked == bad
        assert drift.parts[0].items == 9 - len(bad)
        await by_hand(plane, "UPDATE visit SET day = '2024-01-02' WHERE id = %s", mended)
        await plane.caught_up()


async def test_a_key_may_be_any_text(plane_of: PlaneOf) -> None:
    """Whatever PostgreSQL's array syntax makes of it."""
    plane = await plane_of(models=[], projections=[], flows=False)
    seed = random.randrange(1 << 30)
    print(f"SEED={seed}")
    dice = random.Random(seed)
    some = [[], [""], ["NULL", "null"], ['","'], ["\\"], ["{}"], ["é\U0001f600", " "], ["'; --"]]
    for _ in range(200):
        signs = dice.choices("\",{}\\ 'an\n\té", k=dice.randrange(20))
        some.append("".join(signs).split("a"))
    for texts in some:
        [(found,)] = await plane.opened.database.rows(
            "SELECT %(texts)s::text[]", {"texts": array_text(texts)}
        )
        assert found == texts
