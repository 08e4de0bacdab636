"""The parked keys of one collection, as the one who works on it knows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog

from polyplane.errors import PolyplaneError
from polyplane.flow.sifting import Failures, told
from polyplane.model.key import bucket_of
from polyplane.truth.dead import Bad, DeadLetters
from polyplane.truth.leases import Held

_log = structlog.get_logger(__name__)

PARKED_MAX: Final = 100_000
"""Keys of one collection: beyond it something is wrong with all of them."""


class Parking:
    """Where a collection's worker leaves bad keys, and takes them up again.

    The table is the truth of it. The keys held here say what to try apart from the others; those
    that an operator has dropped meanwhile are only tried once more.
    """

    def __init__(self, projection: str, collection: str, dead: DeadLetters) -> None:
        self._projection = projection
        self._collection = collection
        self._dead = dead
        self.keys: set[str] = set()

    async def load(self) -> None:
        """Learn what is parked."""
        self.keys = await self._dead.keys(self._collection)

    async def due(self, buckets: Iterable[int]) -> list[str]:
        """Some keys of `buckets` whose time has come."""
        found = await self._dead.due(self._collection, buckets)
        self.keys.update(found)
        return found

    async def park(self, failures: Failures) -> None:
        """Leave bad keys aside, durably. Raises PolyplaneError when there are too many."""
        if not failures:
            return
        if len(self.keys | failures.keys()) > PARKED_MAX:
            raise PolyplaneError(
                f"More than {PARKED_MAX:,} rows of {self._projection} are bad: it stands still.",
                fix=f"See: polyplane projections dead list {self._projection}",
            )
        bad = [Bad(key, bucket_of(key), told(error)) for key, error in failures.items()]
        await self._dead.park(self._collection, bad)
        self.keys |= failures.keys()
        _log.warning(
            "rows.parked",
            collection=self._collection,
            rows=len(bad),
            key=bad[0].key,
            error=bad[0].error,
        )

    async def unpark(self, keys: Iterable[str], held: Held | None) -> None:
        """Let keys go on that were parked and are in the store, durably, by now."""
        well = self.keys.intersection(keys)
        if well:
            await self._dead.unpark(self._collection, list(well), held)
            self.keys -= well
            _log.info("rows.unparked", collection=self._collection, rows=len(well))
