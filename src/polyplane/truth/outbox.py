"""The outbox, read by the difference of two snapshots and in the order of its sequence.

Neither `seq > last` (loses late commits) nor `xid < xmin` (breaks the order per key) is right; the
difference of snapshots loses nothing, repeats nothing and keeps per-key order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import psycopg
import structlog
from psycopg import sql

from polyplane.truth.database import Connection
from polyplane.truth.statements import statement

_log = structlog.get_logger(__name__)

PAGE_ROWS: Final = 2_000
PAGE_KEYS: Final = 50_000
PARTITION_ROWS: Final = 10_000_000
EVERYTHING: Final = 2**62
BEFORE_EVERYTHING: Final = "1:1:"
"""The snapshot that has seen nothing: a first window holds the whole outbox."""


class OutboxRow(NamedTuple):
    """One captured statement (op I, U, D, T; keys) or one domain event (op E; body, as JSON)."""

    seq: int
    tbl: str
    op: str
    keys: list[str]
    body: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of the window (prev, cur] with seq in (after, upto]; `last`: the window ends here."""

    prev: str
    cur: str
    after: int
    upto: int
    last: bool
    rows: tuple[OutboxRow, ...]


def _cut(rows: list[OutboxRow]) -> tuple[list[OutboxRow], bool]:
    """At most PAGE_ROWS rows and about PAGE_KEYS keys (at least one row); whether that is all."""
    keys = 0
    for index, row in enumerate(rows[:PAGE_ROWS]):
        keys += len(row.keys)
        if keys > PAGE_KEYS and index > 0:
            return rows[:index], False
    return rows[:PAGE_ROWS], len(rows) <= PAGE_ROWS


def _page(prev: str, cur: str, after: int, found: list[OutboxRow]) -> Page:
    rows, last = _cut(found)
    return Page(prev, cur, after, rows[-1].seq if rows else after, last, tuple(rows))


async def first_page(connection: Connection, prev: str) -> Page:
    """A new window since `prev` and its first page, in one statement."""
    cursor = await connection.execute(
        statement("outbox", "window"), {"prev": prev, "rows": PAGE_ROWS}
    )
    found = await cursor.fetchall()
    rows = [OutboxRow(*row[1:]) for row in found if row[1] is not None]
    return _page(prev, found[0][0], 0, rows)


async def next_page(connection: Connection, prev: str, cur: str, after: int) -> Page:
    """The page of a known window that follows `after`."""
    cursor = await connection.execute(
        statement("outbox", "page"),
        {"prev": prev, "cur": cur, "after": after, "upto": EVERYTHING, "rows": PAGE_ROWS},
    )
    return _page(prev, cur, after, [OutboxRow(*row) for row in await cursor.fetchall()])


async def same_page(
    connection: Connection, prev: str, cur: str, after: int, upto: int, last: bool
) -> Page:
    """A page seen before, whatever the limits are by now."""
    cursor = await connection.execute(
        statement("outbox", "page"),
        {"prev": prev, "cur": cur, "after": after, "upto": upto, "rows": EVERYTHING},
    )
    rows = tuple(OutboxRow(*row) for row in await cursor.fetchall())
    return Page(prev, cur, after, upto, last, rows)


async def keep_partitions(connection: Connection, *, drop: bool) -> None:
    """Make the next partition ahead of need; with `drop`, drop those everything has passed.

    Both lock the outbox for a moment. Nobody waits behind us for a long transaction: if there is
    one we come again later.
    """
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '50ms'")
            await _keep_partitions(connection, drop)
    except psycopg.errors.LockNotAvailable:
        _log.info("outbox.partitions_wait")


async def _keep_partitions(connection: Connection, drop: bool) -> None:
    cursor = await connection.execute(statement("outbox", "next_partition"))
    if row := await cursor.fetchone():
        start = row[0]
        await connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} PARTITION OF polyplane.outbox"
                " FOR VALUES FROM ({}) TO ({})"
            ).format(
                sql.Identifier("polyplane", f"outbox_{start // PARTITION_ROWS + 1}"),
                sql.Literal(start),
                sql.Literal(start + PARTITION_ROWS),
            )
        )
    if drop:
        cursor = await connection.execute(statement("outbox", "spent_partitions"))
        for (name,) in await cursor.fetchall():
            await connection.execute(
                sql.SQL("DROP TABLE {}").format(sql.Identifier("polyplane", name))
            )
