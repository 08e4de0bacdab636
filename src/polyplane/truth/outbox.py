"""The outbox, read by the difference of two snapshots and in the order of its sequence.

Neither `seq > last` (loses late commits) nor `xid < xmin` (breaks the order per key) is right; the
difference of snapshots loses nothing, repeats nothing and keeps per-key order.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import psycopg
import structlog

from polyplane.truth.database import Connection, Database
from polyplane.truth.statements import statement

_log = structlog.get_logger(__name__)

PAGE_ROWS: Final = 5_000
PAGE_KEYS: Final = 50_000
FETCH_ROWS: Final = 200
"""Rows of one answer: each may hold 1,000 keys. A window of no more takes a single statement."""
EVERYTHING: Final = 2**62
BEFORE_EVERYTHING: Final = "1:1:"
"""The snapshot that has seen nothing: a first window holds the whole outbox."""


class OutboxRow(NamedTuple):
    """One statement (op I, U, D, T; keys), one domain event (op E; body, as JSON), or keys that are
    to be projected again (op R), also where what is held is ahead of every change (op C).
    """

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


def _page(prev: str, cur: str, after: int, found: list[OutboxRow], *, more: bool = False) -> Page:
    """The page that `found` begins with; `more`: rows follow that are not in `found`."""
    rows, whole = _cut(found)
    upto = rows[-1].seq if rows else after
    return Page(prev, cur, after, upto, whole and not more, tuple(rows))


async def first_page(connection: Connection, prev: str) -> Page:
    """A new window since `prev` and its first page, in one statement."""
    cursor = await connection.execute(
        statement("outbox", "window"), {"prev": prev, "rows": FETCH_ROWS + 1}, binary=True
    )
    found = await cursor.fetchall()
    rows = [OutboxRow(*row[1:]) for row in found if row[1] is not None]
    return _page(prev, found[0][0], 0, rows[:FETCH_ROWS], more=len(rows) > FETCH_ROWS)


async def pages_after(connection: Connection, page: Page) -> AsyncGenerator[Page, None]:
    """The further pages of the window of `page`.

    Through a cursor, which finds and sorts the window once and not again for each page.
    """
    begin = {"prev": page.prev, "cur": page.cur, "after": page.upto, "upto": EVERYTHING}
    ahead: list[OutboxRow] = []
    more = True
    async with connection.transaction(), connection.cursor("outbox", binary=True) as cursor:
        await cursor.execute(statement("outbox", "page"), begin)
        while not page.last:
            while more and _cut(ahead)[1]:
                found = await cursor.fetchmany(FETCH_ROWS)
                more = len(found) == FETCH_ROWS
                ahead += [OutboxRow(*row) for row in found]
            page = _page(page.prev, page.cur, page.upto, ahead, more=more)
            ahead = ahead[len(page.rows) :]
            yield page


async def same_page(
    connection: Connection, prev: str, cur: str, after: int, upto: int, last: bool
) -> Page:
    """A page seen before, whatever the limits are by now."""
    cursor = await connection.execute(
        statement("outbox", "page"),
        {"prev": prev, "cur": cur, "after": after, "upto": upto},
        binary=True,
    )
    rows = tuple(OutboxRow(*row) for row in await cursor.fetchall())
    return Page(prev, cur, after, upto, last, rows)


async def touch(
    database: Database, table: str, keys: Sequence[str], clear: Collection[str] = ()
) -> None:
    """Note a change of `keys` of `table`, as if they had been written: all are projected again.

    Of those among `clear`, what stands in the way of every change is cleared before.
    """
    if keys:
        await database.rows(
            statement("outbox", "touch"),
            {
                "table": table,
                "keys": list(keys),
                "ops": ["C" if key in clear else "R" for key in keys],
            },
            timeout_s=database.statement_timeout_s,
        )


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
        await connection.execute(statement("outbox", "make_partition"), {"start": row[0]})
    if drop:
        await connection.execute(statement("outbox", "drop_partitions"))
