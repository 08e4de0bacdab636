"""Sealing: about every second, what was committed goes under a signed root, and out of the house.

One process does it, by a lease; the number of the next seal is the fence, so that two can never
fork the chain. A seal is stored before it is exported: who dies in between, exports it at the next
start. A place outside that knows more than the database is evidence, and ends the sealing: somebody
has cut the tail off, or put an older database back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import uuid4

import structlog

from polyplane.errors import Fenced, PolyplaneError, Refused
from polyplane.security.sealing import Seal, SealingKey, is_signed, sealed
from polyplane.steps import step
from polyplane.truth.audit import PAGE_ROWS, SEAL_ROWS, Trail
from polyplane.truth.journal import Journal

_log = structlog.get_logger(__name__)

LEASE: Final = "audit"
LEASE_TTL_S: Final = 5.0
EVERY_S: Final = 1.0
_STOP_S: Final = 2.0


class SealPlace(Protocol):
    """Somewhere outside the database that keeps seals."""

    name: str
    every_s: float
    """How often it is given what it lacks."""

    async def last(self, trail: Trail) -> int:
        """The number of the last seal it has. Raises Refused when its last is not one of ours."""
        ...

    async def add(self, trail: Trail, seals: Sequence[Seal]) -> None:
        """Keep these, which come after what it has; durably."""
        ...


class Sealer:
    """Seals what is committed, and exports the seals. `run` until cancelled, then `stop`."""

    def __init__(
        self,
        trail: Trail,
        journal: Journal,
        key: SealingKey,
        trusted: Collection[str],
        places: Sequence[SealPlace],
        *,
        epoch: Callable[[], int],
        limit: int = SEAL_ROWS,
    ) -> None:
        """`trusted` are public keys whose seals are gone on with; `limit` rows go under a seal."""
        self._trail = trail
        self._journal = journal
        self._key = key
        self._trusted = {key.public, *trusted}
        self._places = places
        self._epoch = epoch
        self._limit = limit
        self._holder = uuid4()
        self._leading = False
        self._renew_at = 0.0
        self._has: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self.fault = ""
        self.sealed_rows = 0

    async def run(self) -> None:
        """Seal when nobody else does. Ends by cancellation."""
        while True:
            try:
                if await self._has_lease():
                    await self.round()
                self._say("")
            except (PolyplaneError, TimeoutError) as error:
                self._leading, self._renew_at = False, 0.0
                self._has.clear()
                self._say(str(error) or type(error).__name__)
            await asyncio.sleep(EVERY_S)

    async def stop(self) -> None:
        """Seal and export what is left, if this process does that, and let others."""
        with suppress(PolyplaneError, TimeoutError):
            async with asyncio.timeout(_STOP_S):
                if self._leading:
                    await self.round(all_places=True)
                await self._journal.release(LEASE, self._holder)
        self._leading = False

    async def round(self, *, all_places: bool = False) -> None:
        """Seal all there is, and export it to the places whose time it is."""
        while await self.seal():
            pass
        now = asyncio.get_running_loop().time()
        for place in self._places:
            if all_places or now >= self._due.get(place.name, 0.0):
                self._due[place.name] = now + place.every_s
                await self._export(place)

    async def seal(self) -> bool:
        """Seal one page of what is committed; whether there is more. Raises Fenced."""
        try:
            cluster, head = await self._trail.head()
        except ValueError as error:
            raise Refused("The last seal cannot be read.", fix=_LOOK) from error
        if head is not None and not is_signed(head, self._trusted):
            raise Refused(f"Seal {head.number} is not signed by a key of ours.", fix=_LOOK)
        found = await self._trail.unsealed(head, cluster, limit=self._limit)
        if not found.rows:
            return False
        seal = await asyncio.to_thread(
            sealed,
            head,
            found.rows,
            at=datetime.now(UTC).isoformat(timespec="microseconds"),
            snapshot=found.snapshot,
            cluster=cluster,
            is_page=found.is_page,
            key=self._key,
        )
        step("audit.signed")
        if not await self._trail.seal(seal):
            raise Fenced(f"Somebody else has made seal {seal.number}.")
        step("audit.sealed")
        self.sealed_rows += seal.rows
        return found.is_page

    async def _export(self, place: SealPlace) -> None:
        """Give a place what it lacks. Raises Refused when it has what the database has not."""
        if place.name not in self._has:
            self._has[place.name] = await place.last(self._trail)
        async for lines in self._trail.seals(self._has[place.name]):
            seals = [Seal.parse(line) for line in lines]
            await place.add(self._trail, seals)
            self._has[place.name] = seals[-1].number
            step("audit.exported")

    async def _has_lease(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._renew_at:
            return True
        fence = await self._journal.lease(LEASE, self._holder, LEASE_TTL_S, self._epoch())
        if fence is None:
            self._has.clear()
        else:
            self._renew_at = now + LEASE_TTL_S / 3
        self._leading = fence is not None
        return self._leading

    def _say(self, fault: str) -> None:
        if fault and fault != self.fault:
            _log.warning("audit.waiting", error=fault)
        self.fault = fault


_LOOK: Final = "See: polyplane audit verify"


async def behind(trail: Trail, place: str, last: Seal) -> None:
    """Raise Refused unless the database has the seal `last`, which a place outside has."""
    async for lines in trail.seals(last.number - 1, last.number):
        if lines == [last.line]:
            return
    raise Refused(
        f"{place} has a seal {last.number} that the database has not: its tail was cut off, or an"
        " older one was put back.",
        fix=f"{_LOOK}. To go on all the same, move {place} away, and keep it.",
    )


__all__ = ["PAGE_ROWS", "SealPlace", "Sealer", "behind"]
