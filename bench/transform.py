"""(t) A transformation of 200,000 rows, against a loop written by hand without any journal.

The loop reads pages by keyset, makes the same rows by the same function, and inserts each page with
one statement and one commit: what somebody writes who runs it once and watches it. And what one
INSERT ... SELECT needs, where SQL can say it. All write to tables that are captured.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Final

import psycopg
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from bench.figures import Figure, rates, ratio
from bench.ground import Ground, Size, connect, execute
from polyplane import transform

ROWS: Final = 200_000
PAGE_ROWS: Final = 2_000
RATIO_MIN: Final = 0.5


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Before(Base):
    """As it was."""

    __tablename__ = "before"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    amount: Mapped[int]
    note: Mapped[str | None]


class After(Base):
    """As it is to be."""

    __tablename__ = "after"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    first: Mapped[str]
    last: Mapped[str]
    cents: Mapped[int]
    note: Mapped[str | None]


class Split(transform.Transformation[Before, After]):
    """Names are split, amounts are cents."""

    def apply(self, row: Before, /) -> After | None:
        """See there."""
        first, last = row.name.split(" ", 1)
        return After(first=first, last=last, cents=row.amount * 100, note=row.note)


class InCents(transform.Transformation[Before, Before]):
    """The same table, in place."""

    def apply(self, row: Before, /) -> Before | None:
        """One column."""
        return Before(amount=row.amount * 100)


_FILL: Final = (
    "INSERT INTO before SELECT n, 'Ada Lovelace ' || n, n %% 1000, md5(n::text)"
    " FROM generate_series(1, {}) AS n"
)
_IN_SQL: Final = (
    "INSERT INTO after SELECT id, split_part(name, ' ', 1), substr(name, strpos(name, ' ') + 1),"
    " amount * 100, note FROM before"
)
_SAME: Final = (
    "SELECT count(*), count(*) FILTER (WHERE a.first || ' ' || a.last = b.name"
    " AND a.cents = b.amount * 100 AND a.note = b.note) FROM before b JOIN after a USING (id)"
)


async def measure(ground: Ground, size: Size) -> Sequence[Figure]:
    """In turn, each on an empty target."""
    url, rows = await ground.database(), size.scaled(ROWS)
    ours, looped, in_sql, in_place = [], [], [], []
    application = pp.Application(
        name="bench",
        models=[Before, After],
        follows=[After],
        transformations=[Split, InCents],
    )
    async with ground.plane(url, applications=[application]) as plane:
        await execute(url, [_FILL.format(rows).replace("%%", "%"), "ANALYZE before"])
        for _ in range(size.runs):
            for seconds, work in ((looped, _loop), (in_sql, _sql)):
                await _emptied(ground, url)
                started = perf_counter()
                await work(url)
                seconds.append(perf_counter() - started)
                await _check(url, rows)
            await _emptied(ground, url)
            started = perf_counter()
            done = await plane.transformations.run(Split, anew=True)
            ours.append(perf_counter() - started)
            assert (done.read, done.dead) == (rows, 0), done
            await _check(url, rows)
            await ground.calm()
            started = perf_counter()
            assert (await plane.transformations.run(InCents, anew=True)).written == rows
            in_place.append(perf_counter() - started)
            await execute(url, ["UPDATE before SET amount = id % 1000"])
    by_loop = rates("rows, a loop by hand", "rows/s", rows, looped)
    by_us = rates("rows transformed", "rows/s", rows, ours)
    return [
        by_us,
        by_loop,
        ratio("transformed / loop", by_us, by_loop, required=RATIO_MIN),
        rates("rows transformed in place", "rows/s", rows, in_place),
        rates("rows, INSERT ... SELECT", "rows/s", rows, in_sql),
    ]


async def _emptied(ground: Ground, url: str) -> None:
    await execute(url, ["TRUNCATE after"])
    await ground.calm()


async def _loop(url: str) -> None:
    """Page by page, by hand."""
    after = 0
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=10) as connection:
        while True:
            cursor = await connection.execute(
                "SELECT id, name, amount, note FROM before WHERE id > %s ORDER BY id LIMIT %s",
                (after, PAGE_ROWS),
            )
            found = await cursor.fetchall()
            if not found:
                return
            made = []
            for key, name, amount, note in found:
                first, last = name.split(" ", 1)
                made.append((key, first, last, amount * 100, note))
            async with connection.cursor() as writing:
                await writing.executemany(
                    "INSERT INTO after (id, first, last, cents, note) VALUES (%s, %s, %s, %s, %s)",
                    made,
                )
            await connection.commit()
            after = found[-1][0]


async def _sql(url: str) -> None:
    await execute(url, [_IN_SQL])


async def _check(url: str, rows: int) -> None:
    async with await connect(url) as connection:
        cursor = await connection.execute(_SAME)
        assert await cursor.fetchone() == (rows, rows)
