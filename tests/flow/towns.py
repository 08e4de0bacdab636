"""A truth that is a graph: towns, roads between them, and people who live in them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypedDict

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import graph
from polyplane.flow.projector import Target
from polyplane.model.items import Item, Stamp
from tests.flow.things import by_hand

FAR: Final = 1 << 52
"""A position ahead of all that will ever be published."""


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Town(Base):
    """A node; one without a name is none."""

    __tablename__ = "town"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    people: Mapped[int | None]
    founded: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))


class Road(Base):
    """An edge, whose towns need not be there."""

    __tablename__ = "road"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    start: Mapped[int]
    goal: Mapped[int]
    miles: Mapped[float]


class Person(Base):
    """A node, and an edge to where they live."""

    __tablename__ = "person"
    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    town: Mapped[int | None]


class TownProperties(TypedDict):
    """Of each type that a graph has but one."""

    name: str
    people: int | None
    founded: datetime | None


class RoadProperties(TypedDict):
    """What a way can be weighed by."""

    miles: float


class TownNodes(pp.Nodes[Town, TownProperties]):
    """Towns with a name."""

    indexes = ("name",)

    def derive(self, town: Town, /) -> graph.Node[TownProperties] | None:
        """Nothing from one without a name."""
        if not town.name:
            return None
        return graph.Node({"name": town.name, "people": town.people, "founded": town.founded})


class PersonNodes(pp.Nodes[Person]):
    """People, of whom nothing is told but that they are there."""

    def derive(self, person: Person, /) -> graph.Node:
        """A node without properties."""
        return graph.Node()


class Roads(pp.Edges[Road, RoadProperties]):
    """Ways between towns."""

    label = "ROAD"
    source = TownNodes
    target = TownNodes

    def derive(self, road: Road, /) -> graph.Edge[RoadProperties]:
        """From the start to the goal."""
        return graph.Edge(str(road.start), str(road.goal), {"miles": road.miles})


class LivesIn(pp.Edges[Person]):
    """Where people live."""

    source = PersonNodes
    target = TownNodes

    def derive(self, person: Person, /) -> graph.Edge | None:
        """Nothing from who lives nowhere."""
        return None if person.town is None else graph.Edge(person.id, str(person.town))


DECLARED: Final[dict[str, Any]] = {
    "models": [Town, Road, Person],
    "projections": [LivesIn, Roads, TownNodes, PersonNodes],
}
"""Edges first: the order is nobody's business."""

TOWNS: Final = 60
FILL: Final = (
    "INSERT INTO town SELECT n, 'town ' || n, n * 100, '2001-02-03T04:05:06.789+00'"
    f" FROM generate_series(1, {TOWNS}) n",
    f"INSERT INTO road SELECT n, n, n % {TOWNS} + 1, n / 2.0 FROM generate_series(1, {TOWNS}) n",
    f"INSERT INTO person SELECT 'p' || n, n FROM generate_series(1, {TOWNS}) n",
)
"""A ring of towns, with somebody in each."""


async def fill(plane: pp.Plane) -> None:
    """The ring, in the graph."""
    for statement in FILL:
        await by_hand(plane, statement)
    await plane.caught_up()


def target_of(plane: pp.Plane, projection: type[Any]) -> Target:
    """Where a projection's items are."""
    return plane.opened.targets[projection.name]


async def held(target: Target) -> dict[str, Stamp]:
    """All that the store holds of it."""
    return {it.key: it async for batch in target.store.scan(target.collection) for it in batch}


def town(key: str, name: str = "?", digest: str = "0" * 32) -> Item:
    """A node that follows from nothing."""
    return Item(key, digest, graph.Node({"name": name, "people": None, "founded": None}))


def road(key: str, start: str, goal: str, digest: str = "0" * 32) -> Item:
    """An edge that follows from nothing."""
    return Item(key, digest, graph.Edge(start, goal, {"miles": 0.5}))
