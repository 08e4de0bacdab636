"""The cursor of the outbox, under writers that overlap; and the naive ones, which this must catch.

Eight writers, 1 to 4 updates a transaction over few keys, savepoints, rollbacks, and transactions
that take their number early and sit idle. Each update says which one of its key it is, counted
under the row's lock, so that a reader can tell what it misses and what comes out of order.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, LiteralString

import psycopg
import pytest

import polyplane as pp
from polyplane.truth import outbox
from tests.conftest import PlaneOf
from tests.flow.things import Thing, ThingSearch, by_hand, connect

KEYS = 12
WRITERS = 8
Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Seen = tuple[str, int]
"""(key, the how many-eth update of it)."""
Read = Callable[[Connection], Awaitable[list[int]]]
"""What a cursor finds since the last call: sequence numbers of the outbox, in its order."""


@pytest.fixture
async def plane(plane_of: PlaneOf, monkeypatch: pytest.MonkeyPatch) -> pp.Plane:
    """A captured table, and a trigger that writes down which update each captured one is."""
    monkeypatch.setattr(outbox, "PAGE_ROWS", 5)
    monkeypatch.setattr(outbox, "FETCH_ROWS", 4)
    plane = await plane_of(models=[Thing], projections=[ThingSearch], flows=False)
    await by_hand(plane, "CREATE TABLE note (seq bigint, key text, version int)")
    await by_hand(
        plane,
        "CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO note SELECT currval('polyplane.outbox_seq_seq'), id::text, body::int"
        " FROM new_rows; RETURN NULL; END $$",
    )
    await by_hand(
        plane,  # by its name it fires after ours
        "CREATE TRIGGER witness AFTER UPDATE ON thing REFERENCING NEW TABLE AS new_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION witness()",
    )
    await by_hand(plane, f"INSERT INTO thing SELECT n, '0' FROM generate_series(1, {KEYS}) n")
    return plane


async def write(plane: pp.Plane, seed: int, turns: int) -> None:
    """One writer. Keys are locked in their order, or the writers would wait for each other."""
    chance = random.Random(seed)
    update = "UPDATE thing SET body = (body::int + 1)::text WHERE id = %s"
    async with await connect(plane) as connection:
        for _ in range(turns):
            keys = sorted(chance.sample(range(1, KEYS + 1), chance.randint(1, 4)))
            async with connection.transaction() as transaction:
                if chance.random() < 0.3:
                    await connection.execute("SELECT pg_current_xact_id()")
                    await asyncio.sleep(chance.random() * 0.05)  # numbered early, writing late
                for key in keys:
                    async with connection.transaction() as savepoint:
                        await connection.execute(update, [key])
                        if chance.random() < 0.15:
                            raise psycopg.Rollback(savepoint)
                    if chance.random() < 0.2:
                        await asyncio.sleep(chance.random() * 0.02)
                if chance.random() < 0.1:
                    raise psycopg.Rollback(transaction)


async def idle(plane: pp.Plane, key: int, pause_s: float) -> None:
    """A transaction with a number, a change, and nothing to do for long."""
    async with await connect(plane) as connection:
        await connection.execute("INSERT INTO thing VALUES (%s, '0')", [key])
        async with connection.transaction():
            await connection.execute("UPDATE thing SET body = '1' WHERE id = %s", [key])
            await asyncio.sleep(pause_s)


async def seen_by(plane: pp.Plane, read: Read) -> tuple[list[Seen], list[Seen]]:
    """(all updates that were committed, those the cursor found, in its order)."""
    work = [write(plane, seed, 25) for seed in range(WRITERS)]
    work += [idle(plane, KEYS + 1 + n, 1.5) for n in range(2)]
    writing = asyncio.gather(*work)
    found: list[int] = []
    async with await connect(plane) as connection:
        while not writing.done():
            found += await read(connection)
            await asyncio.sleep(0.003)
        await writing
        found += await read(connection)
    rows = await by_hand(plane, "SELECT seq, key, version FROM note ORDER BY seq")
    notes = {seq: (key, version) for seq, key, version in rows}
    return list(notes.values()), [notes[seq] for seq in found if seq in notes]


def inversions(seen: list[Seen]) -> int:
    """How often an older update of a key came after a newer one."""
    newest: dict[str, int] = {}
    count = 0
    for key, version in seen:
        count += version < newest.get(key, 0)
        newest[key] = max(version, newest.get(key, 0))
    return count


async def test_the_cursor_finds_everything_once_and_in_order(plane: pp.Plane) -> None:
    """By the difference of two snapshots, in pages."""
    prev = outbox.BEFORE_EVERYTHING
    windows = Counter[bool]()

    async def read(connection: Connection) -> list[int]:
        nonlocal prev
        page = await outbox.first_page(connection, prev)
        rows = list(page.rows)
        windows[page.last] += 1
        async for more in outbox.pages_after(connection, page):
            rows += more.rows
        prev = page.cur
        return [row.seq for row in rows]

    committed, found = await seen_by(plane, read)
    assert len(committed) > 200
    assert Counter(found) == Counter(committed)
    assert inversions(found) == 0
    assert windows[True] and windows[False]  # of one page, and of several


async def test_a_page_is_found_again_as_it_was(plane: pp.Plane) -> None:
    """Whatever was committed since."""
    writing = asyncio.gather(*(write(plane, seed, 12) for seed in range(WRITERS)))
    seen: list[outbox.Page] = []
    prev = outbox.BEFORE_EVERYTHING
    async with await connect(plane) as connection:
        while not writing.done():
            first = await outbox.first_page(connection, prev)
            seen += [first, *[page async for page in outbox.pages_after(connection, first)]]
            prev = first.cur
            await asyncio.sleep(0.01)
        await writing
        for page in seen:
            place = (page.prev, page.cur, page.after, page.upto, page.last)
            assert await outbox.same_page(connection, *place) == page
    assert len(seen) > 30


async def read_all(connection: Connection, query: LiteralString, *values: object) -> list[Any]:
    """The rows of a naive cursor's query."""
    cursor = await connection.execute(query, values)
    return await cursor.fetchall()


async def test_by_sequence_alone_late_commits_are_lost(plane: pp.Plane) -> None:
    """The negative control: this harness notices."""
    last = 0

    async def read(connection: Connection) -> list[int]:
        nonlocal last
        found = await read_all(
            connection, "SELECT seq FROM polyplane.outbox WHERE seq > %s ORDER BY seq", last
        )
        last = max([last, *(seq for (seq,) in found)])
        return [seq for (seq,) in found]

    committed, found = await seen_by(plane, read)
    assert len(committed) - len(found) > len(committed) / 100


async def test_by_transaction_below_the_horizon_order_is_lost(plane: pp.Plane) -> None:
    """The usual advice: everything once, but not in the order of the locks; and it stalls."""
    below = 0

    async def read(connection: Connection) -> list[int]:
        nonlocal below
        found = await read_all(
            connection,
            "SELECT seq, h::text::bigint FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS h)"
            " AS horizon LEFT JOIN polyplane.outbox o ON o.xid >= %s::text::xid8 AND o.xid < h"
            " ORDER BY o.xid, o.seq",
            str(below),
        )
        below = found[0][1]
        return [seq for seq, _ in found if seq is not None]

    committed, found = await seen_by(plane, read)
    assert Counter(found) == Counter(committed)
    assert inversions(found) > 0
