"""What audit costs a transaction of one row: without it, on a table without marks, and with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final
from unittest import mock
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped

import polyplane as pp
from bench.figures import Figure, ratio
from bench.ground import Ground, Size
from polyplane.marks import personal, tenant
from polyplane.truth import session

CLIENTS: Final = 4
COMMITS: Final = 150
SLICES: Final = 6


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Unmarked(Base):
    """Nobody's."""

    __tablename__ = "unmarked"
    id: Mapped[UUID] = pp.key()
    tenant_id: Mapped[str]
    owner: Mapped[str]
    body: Mapped[str]


class Marked(Base):
    """The same, a tenant's."""

    __tablename__ = "marked"
    id: Mapped[UUID] = pp.key()
    tenant_id: Mapped[str] = tenant()
    owner: Mapped[str] = personal()
    body: Mapped[str]


def _deaf(bind: Any, **options: Any) -> AsyncSession:
    """A session as it would be without audit."""
    return AsyncSession(bind, expire_on_commit=False, **options)


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """Inserts, and reads with an update, in turn on all three."""
    url = await ground.database()
    ways = {"without audit": Unmarked, "unmarked table": Unmarked, "marked table": Marked}
    found: list[Figure] = []
    async with ground.plane(url, models=[Unmarked, Marked]) as plane:
        for verb in ("insert", "update"):
            seen: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(size.runs):
                await ground.calm()
                took = dict.fromkeys(ways, 0.0)
                for turn in range(size.scaled(SLICES)):
                    for way in sorted(ways, reverse=bool(turn % 2)):
                        with (
                            mock.patch.object(session, "writing", _deaf)
                            if way == ("without audit")
                            else mock.patch.object(session, "writing", session.writing)
                        ):
                            took[way] += await _slice(plane, ways[way], verb)
                commits = CLIENTS * COMMITS * size.scaled(SLICES)
                for way, took_s in took.items():
                    seen[way].append(commits / took_s)
            rates = {
                way: Figure(f"{verb}s, {way}", "commits/s", tuple(runs))
                for way, runs in seen.items()
            }
            plain, unmarked, marked = rates.values()
            found += [
                *rates.values(),
                ratio(f"{verb}s, unmarked / without audit", unmarked, plain),
                ratio(f"{verb}s, marked / without audit", marked, plain),
            ]
        assert (await plane.audit.verify()).is_whole
    return found


async def _slice(plane: pp.Plane, model: Any, verb: str) -> float:
    """Seconds for so many commits by so many clients at once."""
    ids = [uuid4() for _ in range(CLIENTS)]
    async with plane.write(actor="bench") as tx:
        await tx.execute(
            sa.insert(model),
            [{"id": it, "tenant_id": "a", "owner": "ada", "body": ""} for it in ids],
        )

    async def client(mine: UUID) -> None:
        for n in range(COMMITS):
            async with plane.write(actor="bench") as tx:
                if verb == "insert":
                    tx.add(model(tenant_id="a", owner="ada", body="the kettle is broken"))
                else:
                    row = await tx.get(model, mine)
                    row.body = f"the kettle is broken {n}"

    started = perf_counter()
    await asyncio.gather(*map(client, ids))
    return perf_counter() - started
