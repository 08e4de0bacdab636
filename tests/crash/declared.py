"""What the ring keeps true: one table, two projections of it, one stream."""

from __future__ import annotations

from typing import Final, TypedDict

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane.model.audit import AUDITED
from tests.flow.things import DIMENSIONS, embedding_of

NAMESPACE: Final = "pp"
COUNTERS: Final = 10
"""The rows 0 to 9 are counters, which all writers count up; a writer's own rows come after."""
AREA: Final = 1_000_000
"""Writer n (from 1) owns the keys from n * AREA on."""
BULK: Final = 1_000
"""From its area's key BULK on a writer writes whole ranges."""


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Thing(Base):
    """`version` is given by the one writer of the row and only grows, also over a deletion."""

    __tablename__ = "thing"
    __table_args__ = {"info": {AUDITED: True}}  # noqa: RUF012
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    body: Mapped[str]
    version: Mapped[int] = mapped_column(BigInteger)


class Tags(TypedDict):
    """What an outside reader tells old items from new ones by."""

    version: int


class ThingSearch(pp.Vectors[Thing, Tags]):
    """The body, but nothing from an empty one."""

    dimensions = DIMENSIONS

    def derive(self, thing: Thing, /) -> pp.Vector[Tags] | None:
        """A cheap deterministic embedding."""
        if not thing.body:
            return None
        return pp.Vector(thing.body, {"version": thing.version}, embedding_of(thing.body))


class ThingCard(pp.Cached[Thing]):
    """Every row, in the cache."""

    key_prefix = "thing:"
    ttl_s = 24 * 3600

    def derive(self, thing: Thing, /) -> pp.Entry:
        """The row."""
        return pp.Entry({"body": thing.body, "version": thing.version})


class Heat(pp.Stream):
    """Points, each with a number of its own."""

    order_by = ("sensor",)
    sensor: str
    n: int


def body_of(key: int, version: int) -> str:
    """The body that goes with a version; every seventh is empty, and nothing follows from it."""
    return "" if version % 7 == 0 else f"{key} {version}"
