"""Dead letters: the keys of bad rows, why they failed, and when they are tried again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from polyplane.truth.database import Database
from polyplane.truth.leases import Held
from polyplane.truth.statements import statement

FIRST_WAIT_S: Final = 1.0
LAST_WAIT_S: Final = 300.0
DUE_MAX: Final = 1_000


class Bad(NamedTuple):
    """A key from whose row nothing could be made; `error` holds nothing of the row itself."""

    key: str
    bucket: int
    error: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A parked key of a collection: how often it was tried in vain, and when it will be again."""

    collection: str
    key: str
    error: str
    attempts: int
    first_at: datetime
    last_at: datetime
    next_try_at: datetime


class DeadLetters:
    """The parked keys of every collection; each call is one statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def park(self, collection: str, bad: Sequence[Bad]) -> None:
        """Leave keys aside, to be tried again after a while; longer with every attempt."""
        await self._database.rows(
            statement("dead", "park"),
            {
                "collection": collection,
                "keys": [it.key for it in bad],
                "buckets": [it.bucket for it in bad],
                "errors": [it.error for it in bad],
                "first_wait_s": FIRST_WAIT_S,
                "last_wait_s": LAST_WAIT_S,
            },
        )

    async def unpark(
        self, collection: str, keys: Sequence[str] | None, held: Held | None = None
    ) -> int:
        """Forget `keys` (None: all), of buckets still `held`; how many of them were parked."""
        return await self._count("unpark", collection, keys, held)

    async def retry(self, collection: str, keys: Sequence[str] | None) -> int:
        """Make `keys` (None: all) due now; how many of them are parked."""
        return await self._count("retry", collection, keys)

    async def due(self, collection: str, buckets: Iterable[int]) -> list[str]:
        """At most DUE_MAX keys of `buckets` whose time has come, the longest waiting first."""
        rows = await self._database.rows(
            statement("dead", "due"),
            {"collection": collection, "buckets": list(buckets), "limit": DUE_MAX},
        )
        return [row[0] for row in rows]

    async def keys(self, collection: str) -> set[str]:
        """Every parked key of a collection."""
        rows = await self._database.rows(statement("dead", "keys"), {"collection": collection})
        return {row[0] for row in rows}

    async def counts(self) -> dict[str, int]:
        """Collection -> how many of its keys are parked, of those that have any."""
        return {row[0]: row[1] for row in await self._database.rows(statement("dead", "counts"))}

    async def letters(
        self, collection: str, *, keys: Sequence[str] | None = None, after: str = "", limit: int
    ) -> list[DeadLetter]:
        """At most `limit` letters of a collection (of `keys`, if given) after key `after`."""
        rows = await self._database.rows(
            statement("dead", "letters"),
            {"collection": collection, "keys": keys, "after": after, "limit": limit},
        )
        return [DeadLetter(*row) for row in rows]

    async def _count(
        self, name: str, collection: str, keys: Sequence[str] | None, held: Held | None = None
    ) -> int:
        row = await self._database.row(
            statement("dead", name),
            {
                "collection": collection,
                "keys": None if keys is None else list(keys),
                "holder": held and held.holder,
                "buckets": held.buckets if held else [],
                "fences": [fence for _, fence in held.fences] if held else [],
            },
        )
        assert row is not None
        return int(row[0])
