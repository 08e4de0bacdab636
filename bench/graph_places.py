"""A graph to measure with: places, and ways between them, as items, as rows and as a plane's."""

from __future__ import annotations

import random
from typing import Final, TypedDict

from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from bench.graph_raw import Row
from polyplane import graph
from polyplane.model.collection import Collection
from polyplane.model.graph import GraphView
from polyplane.model.items import Item

PLACES: Final = Collection(
    "places", 1, "graph", tag_types={"name": str, "people": int}, label="Place"
)
WAYS: Final = Collection(
    "ways", 1, "graph", tag_types={"miles": float}, label="WAY", ends=("Place", "Place")
)
VIEW: Final = GraphView({"Place": PLACES}, {"WAY": WAYS})


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Place(Base):
    """A node."""

    __tablename__ = "place"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    people: Mapped[int]


class Way(Base):
    """An edge."""

    __tablename__ = "way"
    start: Mapped[int]
    goal: Mapped[int]
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    miles: Mapped[float]


class PlaceProperties(TypedDict):
    """Of each place."""

    name: str
    people: int


class WayProperties(TypedDict):
    """Of each way."""

    miles: float


class PlaceNodes(pp.Nodes[Place, PlaceProperties]):
    """Places."""

    def derive(self, place: Place, /) -> graph.Node[PlaceProperties] | None:
        """All of it."""
        return graph.Node({"name": place.name, "people": place.people})


class Ways(pp.Edges[Way, WayProperties]):
    """Ways between places."""

    label = "WAY"
    source = PlaceNodes
    target = PlaceNodes

    def derive(self, way: Way, /) -> graph.Edge[WayProperties] | None:
        """From the start to the goal."""
        return graph.Edge(str(way.start), str(way.goal), {"miles": way.miles})


def place_rows(count: int) -> list[Row]:
    """(id, name, people) of each place."""
    return [(str(n), f"the place called {n}", n * 7) for n in range(count)]


def way_rows(count: int, places: int) -> list[Row]:
    """(start, goal, id, miles) of ways among the first so many places, as many from each."""
    goals = random.Random(7).choices(range(places), k=count)
    return [(str(n % places), str(goals[n]), str(n), n / 2) for n in range(count)]


def place_items(rows: list[Row]) -> list[Item]:
    """What a backfill would derive."""
    return [
        Item(key, f"{int(key):032x}", graph.Node({"name": name, "people": people}))
        for key, name, people in rows
    ]


def way_items(rows: list[Row], turn: int = 0) -> list[Item]:
    """What a backfill would derive; of another `turn` all differ, a tenth leads elsewhere."""
    return [
        Item(
            key,
            f"{turn:016x}{int(key):016x}",
            graph.Edge(
                source, source if turn and int(key) % 10 == 0 else target, {"miles": miles + turn}
            ),
        )
        for source, target, key, miles in rows
    ]
