"""People as they were and as they are to be, and the transformations between them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks, transform
from polyplane.embedded import Engines
from tests.conftest import settings_in
from tests.flow.things import by_hand


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Later(pp.Model):
    """The same tables in their later form."""

    __abstract__ = True
    metadata = pp.metadata()


class Old(Base):
    """As they were."""

    __tablename__ = "old_person"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    age: Mapped[int] = mapped_column(server_default="0")
    notes: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(), nullable=True)


class Person(Base):
    """As they are to be."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    first: Mapped[str]
    last: Mapped[str]
    age: Mapped[int] = mapped_column(sa.CheckConstraint("age < 1000", name="age"))
    notes: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(), nullable=True)


class ToPerson(transform.Transformation[Old, Person]):
    """Names are split; who has none comes to nothing."""

    def apply(self, row: Old, /) -> Person | None:
        """The first word and the rest."""
        if not row.name:
            return None
        first, last = row.name.split(" ", 1)
        return Person(first=first, last=last, age=row.age, notes=row.notes)


class ByColumn(transform.Transformation[Old, Person]):
    """The same kind of thing, one column by the other, as the seed's DataTransformer has it."""

    columns = (
        transform.column(Person.first, Old.name),
        transform.column(Person.last, Old.name, str.upper),
        transform.column(Person.age, Old.age),
        transform.column(Person.notes, Old.notes),
    )


class LaterOld(Later):
    """The table of `Old` with a column more."""

    __tablename__ = "old_person"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    age: Mapped[int] = mapped_column(server_default="0")


class Older(transform.Transformation[Old, LaterOld]):
    """In place, and not the same when done twice."""

    def apply(self, row: Old, /) -> LaterOld | None:
        """A year more; babies stay as they are."""
        if row.age < 0:
            raise ValueError("Nobody is that young.")
        return LaterOld(age=row.age + 1) if row.age else None


class Badge(Base):
    """What tenants' people have."""

    __tablename__ = "badge"
    key: Mapped[UUID] = pp.key()
    tenant_id: Mapped[str] = marks.tenant()
    person: Mapped[str]


class Card(Base):
    """What they are to have."""

    __tablename__ = "card"
    tenant_id: Mapped[str] = marks.tenant()
    number: Mapped[str] = mapped_column(primary_key=True)
    person: Mapped[str]


class ToCard(transform.Transformation[Badge, Card]):
    """A key of its own."""

    same_key = False

    def apply(self, row: Badge, /) -> Card | None:
        """Numbered by the person."""
        tenant = {"thief": "a"}.get(row.person)
        card = Card(number=row.person.removesuffix("!"), person=row.person)
        if tenant:
            card.tenant_id = tenant
        return card


class Renamed(transform.Transformation[Badge, Badge]):
    """In place, for each tenant."""

    columns = (transform.column(Badge.person, Badge.person, str.upper),)


class Kinds:
    """A column of each plain type."""

    id: Mapped[UUID] = pp.key()
    text: Mapped[str | None]
    number: Mapped[int | None] = mapped_column(sa.BigInteger)
    yes: Mapped[bool | None]
    at: Mapped[dt.datetime | None] = mapped_column(sa.DateTime(timezone=True))
    local: Mapped[dt.datetime | None]
    day: Mapped[dt.date | None]
    real: Mapped[float | None]
    exact: Mapped[Decimal | None] = mapped_column(sa.Numeric(20, 4))


class KindsNow(Kinds, Base):
    """As it is."""

    __tablename__ = "kinds_now"


class KindsThen(Kinds, Base):
    """The same; but texts are short."""

    __tablename__ = "kinds_then"
    text: Mapped[str | None] = mapped_column(sa.String(12))


class CopyKinds(transform.Transformation[KindsNow, KindsThen]):
    """As it is."""

    columns = (
        transform.column(KindsThen.text, KindsNow.text),
        transform.column(KindsThen.number, KindsNow.number),
        transform.column(KindsThen.yes, KindsNow.yes),
        transform.column(KindsThen.at, KindsNow.at),
        transform.column(KindsThen.local, KindsNow.local),
        transform.column(KindsThen.day, KindsNow.day),
        transform.column(KindsThen.real, KindsNow.real),
        transform.column(KindsThen.exact, KindsNow.exact),
    )


class CardSearch(pp.Cached[Person]):
    """What follows from the target, as from any table."""

    def derive(self, person: Person, /) -> pp.Entry | None:
        """Its name."""
        return pp.Entry(f"{person.first} {person.last}")


EVERY = (ToPerson, ByColumn, Older, ToCard, Renamed, CopyKinds)


def application(*transformations: Any, **more: Any) -> pp.Application:
    """One with all the models."""
    models = [Old, Person, LaterOld, Badge, Card, KindsNow, KindsThen]
    return pp.Application(name="people", models=models, transformations=transformations, **more)


async def plane_in(home: Path, engines: Engines, *, flows: bool) -> pp.Plane:
    """An open plane with all of it, on a database of its own."""
    declared = application(*EVERY, projections=[CardSearch] if flows else [])
    plane_settings = await settings_in(home, engines, "")
    plane = pp.Plane(settings=plane_settings, applications=[declared], flows=flows)
    await plane.open()
    return plane


async def emptied(plane: pp.Plane) -> pp.Plane:
    """Nothing is in its tables."""
    await by_hand(
        plane,
        "TRUNCATE old_person, person, badge, card, polyplane.transformation,"
        " polyplane.transformation_dead",
    )
    return plane


async def fill(plane: pp.Plane, rows: int, first: int = 1) -> None:
    """People numbered from `first` on."""
    await by_hand(
        plane,
        "INSERT INTO old_person (id, name, age)"
        " SELECT n, 'Ada Lovelace ' || n, n %% 90 FROM generate_series(%s::int, %s::int) AS n",
        first,
        first + rows - 1,
    )


async def people(plane: pp.Plane) -> dict[int, tuple[Any, ...]]:
    """The target as it is, past the plane."""
    found = await by_hand(plane, "SELECT id, first, last, age, notes::text FROM person")
    return {row[0]: row[1:] for row in found}


async def expected(plane: pp.Plane) -> dict[int, tuple[Any, ...]]:
    """What is to become of the source as it is, by another's reckoning."""
    found = await by_hand(
        plane,
        "SELECT id, split_part(name, ' ', 1), substr(name, strpos(name, ' ') + 1), age, notes::text"
        " FROM old_person WHERE strpos(name, ' ') > 0 AND age < 1000",
    )
    return {row[0]: row[1:] for row in found}
