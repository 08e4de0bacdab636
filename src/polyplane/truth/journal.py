"""The plane's own memory in PostgreSQL: identity, leases, positions, collections, ingest ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from polyplane.errors import Fenced, Misconfigured
from polyplane.model.position import Position, Token
from polyplane.truth.collections import Collections
from polyplane.truth.database import Database
from polyplane.truth.dead import DeadLetters
from polyplane.truth.leases import Held, Leases
from polyplane.truth.statements import statement


class Behind(NamedTuple):
    """A collection's bucket that has not applied all that is published for it.

    Order 0: the collection was never filled.
    """

    collection: str
    bucket: int
    order: int


class Batch(NamedTuple):
    """A batch of points as ingest has noted it: its number (64 bits, signed), how many points it
    has, and between which times they lie, in microseconds since 1970.
    """

    number: int
    points: int
    oldest: int
    newest: int


class Relayed(NamedTuple):
    """How far everything is published, as the relay has noted it.

    All that is visible in `snapshot`, in streams that ended at these sequences then; and within a
    window, of what is visible in `cur` besides, the rows up to `upto`.
    """

    snapshot: str
    changes_end: int
    events_end: int
    cur: str | None = None
    upto: int | None = None


class Journal:
    """Reads and writes of schema `polyplane`; each call is one statement."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.collections = Collections(database)
        self.dead = DeadLetters(database)
        self.leases = Leases(database)

    async def dead_keys(self, collection: str) -> set[str]:
        """The keys that are parked, and so may be missing or stale in the store."""
        return await self.dead.keys(collection)

    async def identity(self) -> tuple[int, bool]:
        """The epoch, and whether it began in this cluster; else the database was restored."""
        row = await self._database.row(statement("journal", "identity"))
        if row is None:
            raise Misconfigured("The plane has no identity row.", fix="Run: polyplane migrate up")
        return int(row[0]), row[1] == row[2]

    async def bump_epoch(
        self,
        epoch: int,
        after: int,
        events_after: int,
        *,
        at_least: int = 0,
        refill: bool = False,
    ) -> int:
        """End `epoch`; the new one, whose every position is newer, whoever has begun it.

        Its changes come after order `after`, the stream's last one now, where everybody stands; its
        events after `events_after`. It is `at_least` this one. `refill`: no collection
        counts as filled any more.
        """
        bumped = await self._database.row(
            statement("journal", "bump_epoch"),
            {
                "epoch": epoch,
                "after": after,
                "events_after": events_after,
                "at_least": at_least,
                "refill": refill,
            },
        )
        return int(bumped[0]) if bumped else (await self.identity())[0]

    async def published_order(self, epoch: int) -> int:
        """The highest order that is known to be published, or applied, in `epoch`."""
        row = await self._database.row(statement("journal", "published_order"), {"epoch": epoch})
        return int(row[0]) if row else 0

    async def lease(self, name: str, holder: UUID, ttl_s: float, epoch: int) -> int | None:
        """Take or renew the lease; its fence, or None when another has it or `epoch` is over."""
        row = await self._database.row(
            statement("journal", "lease"),
            {"name": name, "holder": holder, "ttl_s": ttl_s, "epoch": epoch},
        )
        return None if row is None else int(row[0])

    async def release(self, name: str, holder: UUID) -> None:
        """Give the lease up, if `holder` has it."""
        await self._database.rows(statement("journal", "release"), {"name": name, "holder": holder})

    async def relayed(
        self, epoch: int, done: Relayed, tails: Mapping[tuple[str, int], int]
    ) -> None:
        """Note how far all is published, and up to these orders."""
        await self._database.rows(
            statement("journal", "relayed"),
            {
                "epoch": epoch,
                **done._asdict(),
                "tables": [table for table, _ in tails],
                "buckets": [bucket for _, bucket in tails],
                "orders": list(tails.values()),
            },
        )

    async def last_relayed(self, epoch: int) -> Relayed | None:
        """How far all is published in `epoch`, as last noted."""
        row = await self._database.row(statement("journal", "last_relayed"), {"epoch": epoch})
        return None if row is None else Relayed(*row)

    async def is_relayed(self, token: Token) -> bool:
        """Whether everything the transaction captured is published (or it captured nothing)."""
        row = await self._database.row(
            statement("journal", "is_relayed"), {"xid": str(token.xid), "epoch": token.epoch}
        )
        return bool(row and row[0])

    async def cut(self) -> str:
        """A snapshot of now: everything committed before this call is visible in it."""
        row = await self._database.row(statement("journal", "cut"))
        assert row is not None
        return str(row[0])

    async def is_cut_relayed(self, epoch: int, cut: str) -> bool:
        """Whether everything visible in the snapshot `cut` is published."""
        row = await self._database.row(
            statement("journal", "is_cut_relayed"), {"epoch": epoch, "cut": cut}
        )
        return bool(row and row[0])

    async def behind(self, epoch: int, reads: Sequence[tuple[str, str]]) -> list[Behind]:
        """Which buckets of `reads` (collection, table) have not applied what is published."""
        rows = await self._database.rows(
            statement("journal", "behind"),
            {
                "epoch": epoch,
                "collections": [collection for collection, _ in reads],
                "tables": [table for _, table in reads],
            },
        )
        return [Behind(*row) for row in rows]

    async def projected(
        self,
        collection: str,
        positions: Mapping[int, Position],
        witnesses: Mapping[int, str] | None = None,
    ) -> None:
        """Note that everything up to these positions, per bucket, is durable in the store.

        `witnesses`: a key per bucket that the store holds with just that position, or a newer one.
        """
        await self._database.rows(
            statement("journal", "projected"),
            {
                "collection": collection,
                "buckets": list(positions),
                "positions": [position.packed() for position in positions.values()],
                "witnesses": [(witnesses or {}).get(bucket) for bucket in positions],
            },
        )

    async def witnesses(self, collection: str) -> dict[str, int]:
        """Keys that were applied last -> the packed position the store must hold, or a newer."""
        rows = await self._database.rows(
            statement("journal", "witnesses"), {"collection": collection}
        )
        return {row[0]: row[1] for row in rows}

    async def unfill(self, name: str) -> None:
        """Note that a collection has to be filled again."""
        await self._database.rows(statement("journal", "unfill"), {"name": name})

    async def projected_by(
        self, collection: str, position: Position, witnesses: Mapping[int, str], held: Held
    ) -> None:
        """As `projected`, for all that is held. Raises Fenced when some of it is held no more, or
        the collection is to be filled again.
        """
        rows = await self._database.rows(
            statement("journal", "projected_held"),
            {
                "collection": collection,
                "buckets": held.buckets,
                "position": position.packed(),
                "witnesses": [witnesses.get(bucket) for bucket in held.buckets],
                "fences": [fence for _, fence in held.fences],
                "holder": held.holder,
            },
        )
        if len(rows) < len(held.fences):
            raise Fenced(f"Others have taken buckets of {collection} over, or it was lost.")

    async def positions(self) -> dict[tuple[str, int], Position]:
        """(collection, bucket) -> how far it is applied."""
        rows = await self._database.rows(statement("journal", "positions"))
        return {(row[0], row[1]): Position.unpacked(row[2]) for row in rows}

    async def tails(self) -> dict[tuple[str, int], int]:
        """(table, bucket) -> the last published order."""
        rows = await self._database.rows(statement("journal", "tails"))
        return {(row[0], row[1]): row[2] for row in rows}

    async def pending(self) -> tuple[int, float]:
        """Outbox rows that wait for the relay (at most 10,000 counted), age of the oldest in s."""
        row = await self._database.row(statement("outbox", "pending"))
        return (int(row[0]), float(row[1])) if row else (0, 0.0)

    async def ingest_open(self, stream: str, epoch: int) -> list[tuple[int, int]]:
        """Ranges (first, last) that were begun and are not known to be stored."""
        rows = await self._database.rows(
            statement("journal", "ingest_open"), {"stream": stream, "epoch": epoch}
        )
        return [(row[0], row[1]) for row in rows]

    async def ingest_through(self, stream: str, epoch: int) -> int:
        """The last sequence up to which all is stored; 0 when nothing is."""
        row = await self._database.row(
            statement("journal", "ingest_through"), {"stream": stream, "epoch": epoch}
        )
        return int(row[0]) if row else 0

    async def ingest_begin(
        self, stream: str, epoch: int, first: int, last: int, batches: Sequence[Batch] = ()
    ) -> bool:
        """Write a range, and what is in it, down before its insert; False when another one begins
        there already.
        """
        found = await self._database.rows(
            statement("journal", "ingest_begin"),
            {
                "stream": stream,
                "epoch": epoch,
                "first": first,
                "last": last,
                "batches": [it.number for it in batches],
                "points": [it.points for it in batches],
                "oldest": [it.oldest for it in batches],
                "newest": [it.newest for it in batches],
            },
        )
        return bool(found)

    async def ingest_known(self, prefix: str) -> list[tuple[Batch, bool]]:
        """The batches of the streams whose names begin with `prefix`, by their oldest points; and
        whether each is known to be stored.
        """
        rows = await self._database.rows(statement("journal", "ingest_known"), {"prefix": prefix})
        return [(Batch(*row[:4]), row[4]) for row in rows]

    async def ingest_stored(self, stream: str, epoch: int, first: int) -> None:
        """Note that the range that begins at `first` is durable in its store."""
        await self._database.rows(
            statement("journal", "ingest_stored"),
            {"stream": stream, "epoch": epoch, "first": first},
        )
