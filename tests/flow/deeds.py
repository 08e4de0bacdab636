"""A truth that belongs to tenants and owners, and all that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, TypedDict
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import graph, marks
from polyplane.model.caller import ALL_ROWS

ADA: Final = UUID(int=1)
EVE: Final = UUID(int=2)
DIMENSIONS: Final = 4


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Deed(Base):
    """Somebody's, in some tenant."""

    __tablename__ = "deed"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    whose: Mapped[str] = marks.tenant()
    holder: Mapped[UUID | None] = marks.owner(sa.Uuid)
    body: Mapped[str]


class Remark(Base):
    """What is said about a deed; the database lets a tenant speak about another's."""

    __tablename__ = "remark"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[str] = marks.tenant()
    deed_id: Mapped[int] = mapped_column(index=True)
    body: Mapped[str]


class DeedTags(TypedDict):
    """What deeds can be filtered by."""

    length: int


class DeedSearch(pp.Vectors[Deed, DeedTags]):
    """All alike: only whose they are tells them apart."""

    dimensions = DIMENSIONS
    full_text = "english"

    def derive(self, deed: Deed, /) -> pp.Vector[DeedTags]:
        return pp.Vector(deed.body, {"length": len(deed.body)}, [1.0] * DIMENSIONS)


class DeedCard(pp.Cached[Deed]):
    """A deed with what its own tenant says about it."""

    key_prefix = "deed:"
    touches: ClassVar = {"remarks": Remark.deed_id}

    def derive(self, deed: Deed, /, remarks: Sequence[Remark] = ()) -> pp.Entry:
        if deed.body == "unspeakable":
            raise ValueError("unspeakable")
        return pp.Entry([deed.body, [it.body for it in remarks]])


class Told(TypedDict):
    """What nodes and edges tell."""

    body: str


class DeedNodes(pp.Nodes[Deed, Told]):
    """Deeds in a graph."""

    def derive(self, deed: Deed, /) -> graph.Node[Told]:
        return graph.Node({"body": deed.body})


class Leads(pp.Edges[Remark, Told]):
    """From a deed to the next one: of who remarks, whosever the deeds are."""

    source = DeedNodes
    target = DeedNodes

    def derive(self, remark: Remark, /) -> graph.Edge[Told]:
        ends = str(remark.deed_id), str(remark.deed_id + 1)
        return graph.Edge(*ends, {"body": remark.body})


class Shelf(Base):
    """Nobody's."""

    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class ShelfCard(pp.Cached[Shelf]):
    """What must not be: nobody's, of rows of tenants."""

    touches: ClassVar = {"remarks": Remark.deed_id}

    def derive(self, shelf: Shelf, /, remarks: Sequence[Remark] = ()) -> pp.Entry:
        return pp.Entry([it.body for it in remarks])


class Meter(pp.Stream):
    """Points of tenants."""

    order_by = ("place",)
    tenant_column = "tenant"

    place: str
    value: float
    tenant: str


def caller(tenant: str, user: UUID | None = None, *, sees_all: bool = False) -> pp.Caller:
    """A program, or a person who may see what is theirs, or all."""
    return pp.Caller("test", tenant, user, frozenset({ALL_ROWS} if sees_all else ()))


def points(n: int) -> dict[str, list[object]]:
    """Points that look alike for every tenant."""
    return {
        "time": [f"2026-01-01T00:00:{i:02}Z" for i in range(n)],
        "place": ["roof"] * n,
        "value": [float(i) for i in range(n)],
    }
