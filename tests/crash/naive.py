"""What people build first, in the place of the gate, the fence and the cursor.

The ring must notice each of them; else it would not notice when ours broke either.
"""

from __future__ import annotations

from typing import Any

from polyplane.feed.jetstream import JetStream
from polyplane.feed.protocol import Ack, Outgoing
from polyplane.stores.vector import lance, lance_upkeep
from polyplane.truth import outbox
from polyplane.truth.database import Connection
from polyplane.truth.outbox import OutboxRow, Page

NEWER = """
SELECT pg_current_snapshot()::text, seq, tbl, op::text, keys, body::text, at
FROM (SELECT) one LEFT JOIN polyplane.outbox o ON o.seq > %s ORDER BY seq
"""


def take(what: str) -> None:
    """Put the naive `gate`, `fence` or `cursor` in place, in this process; nothing for ""."""
    if what:
        {"gate": _gate, "fence": _fence, "cursor": _cursor}[what]()


def _gate() -> None:
    """The last one to write wins."""
    merge = lance_upkeep.merge

    async def last_wins(table: Any, rows: Any, where: str, **options: Any) -> None:
        await merge(table, rows, "source.position > 0", **options)

    lance.__dict__["merge"] = last_wins


def _fence() -> None:
    """Who believes to be the leader publishes."""

    async def publish(
        self: JetStream, last: int, last_id: str, stream: str, message: Outgoing
    ) -> Ack:
        ack = await self._js.publish(message.subject, message.body, stream=stream)
        return Ack(last + 1 if ack.seq else 0, False)

    JetStream._publish_after = publish  # type: ignore[method-assign]


def _cursor() -> None:
    """`seq > last`, where last is the highest number seen so far."""
    last = 0

    async def first_page(connection: Connection, prev: str) -> Page:
        nonlocal last
        cursor = await connection.execute(NEWER, [last])
        found = await cursor.fetchall()
        rows = tuple(OutboxRow(*row[1:]) for row in found if row[1] is not None)
        last = max([last, *(row.seq for row in rows)])
        return Page(prev, found[0][0], 0, last, True, rows)

    outbox.first_page = first_page
