"""Leases on the buckets of collections: one statement for all of a process's."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from polyplane.truth.database import Database
from polyplane.truth.statements import statement


class Lease(NamedTuple):
    """One lease as it stands; `alive`: its time is not over."""

    name: str
    holder: UUID
    alive: bool


class Held(NamedTuple):
    """What a worker holds of a collection: bucket -> fence. Nothing of it is noted without."""

    holder: UUID
    fences: tuple[tuple[int, int], ...]

    @property
    def buckets(self) -> list[int]:
        """Which buckets these are."""
        return [bucket for bucket, _ in self.fences]


class Leases:
    """The leases on buckets (`projection:<collection>:<bucket>`) and on seats beside them.

    A seat (`seat:<collection>:<holder>`) says that a process is there to work on a collection.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standing(self) -> list[Lease]:
        """All of them."""
        return [Lease(*row) for row in await self._database.rows(statement("tenure", "standing"))]

    async def claim(
        self, holder: UUID, names: Collection[str], ttl_s: float, epoch: int
    ) -> dict[str, int]:
        """Take or renew `names`; name -> fence of those that `holder` has now."""
        rows = await self._database.rows(
            statement("tenure", "claim"),
            {"holder": holder, "names": list(names), "ttl_s": ttl_s, "epoch": epoch},
        )
        return {row[0]: row[1] for row in rows}

    async def give_up(self, holder: UUID, names: Collection[str] | None = None) -> None:
        """Let others take `names` (None: all that `holder` has) at once."""
        await self._database.rows(
            statement("tenure", "give_up"),
            {"holder": holder, "names": None if names is None else list(names)},
        )

    async def sweep_seats(self) -> None:
        """Forget processes that have been gone for long."""
        await self._database.rows(statement("tenure", "sweep_seats"))
