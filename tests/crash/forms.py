"""Transformations under kills: what they make of what, and how that is judged past the plane."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

import psycopg
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import transform
from polyplane.flow import transform_runner, transforming
from polyplane.truth import transforms

LEASE_S: Final = 1.0
"""Who dies is not waited for as long as in life."""
PAGE_ROWS: Final = 40
_APART: Final = 1_000_000
"""From there on are the keys of rows that are written while it runs."""


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Letter(Base):
    """The source, which others write to meanwhile."""

    __tablename__ = "letter"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]


class Mail(Base):
    """What is made of it."""

    __tablename__ = "mail"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]
    length: Mapped[int]


class Account(Base):
    """Counted up in place: it would show if a row were taken twice, or not at all."""

    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    amount: Mapped[int]
    note: Mapped[int] = mapped_column(server_default="0")


class ToMail(transform.Transformation[Letter, Mail]):
    """Some rows come to nothing, and some cannot be."""

    def apply(self, row: Letter, /) -> Mail | None:
        """The body, the other way round."""
        if row.body.startswith("skip"):
            return None
        if row.body.startswith("bad"):
            raise ValueError("It is bad.")
        return Mail(body=row.body[::-1], length=len(row.body))


class Count(transform.Transformation[Account, Account]):
    """One more, each time."""

    def apply(self, row: Account, /) -> Account | None:
        """The number only."""
        return Account(amount=row.amount + 1)


APPLICATION: Final = pp.Application(
    name="forms", models=[Letter, Mail, Account], transformations=[ToMail, Count]
)


def hurried() -> None:
    """Short leases and small pages, so that much can happen in a short time."""
    for module in (transforms, transform_runner):
        vars(module)["LEASE_S"] = LEASE_S
    vars(transforming).update(FIRST_ROWS=PAGE_ROWS, MOST_ROWS=PAGE_ROWS)


async def fill(url: str, rows: int) -> None:
    """Both sources, numbered from 1 on."""
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=10) as connection:
        await connection.execute(
            "INSERT INTO letter SELECT n, CASE n %% 50 WHEN 7 THEN 'skip' WHEN 8 THEN 'bad'"
            " ELSE 'letter' END || n FROM generate_series(1, %s) AS n",
            [rows],
        )
        await connection.execute(
            "INSERT INTO account SELECT n, n FROM generate_series(1, %s) AS n", [rows]
        )


async def keep_writing(url: str, rows: int, chance: random.Random) -> None:
    """Insert, change, move and delete letters, and lock accounts, until cancelled."""
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=10)
    async with connection:
        n = _APART
        while True:
            n += 1
            key = chance.choice((chance.randint(1, rows), chance.randint(_APART, n)))
            word = chance.choice(("late", "late", "late", "skip", "bad"))
            for statement, given in (
                ("INSERT INTO letter VALUES (%s, %s)", (n, f"{word}{n}")),
                ("UPDATE letter SET body = %s WHERE id = %s", (f"{word}{n}", key)),
                ("DELETE FROM letter WHERE id = %s AND id %% 5 = 0", (key,)),
                ("UPDATE account SET note = note + 1 WHERE id = %s", (key,)),
            ):
                await connection.execute(statement.encode(), given)
            await asyncio.sleep(chance.random() * 0.02)


async def begin_after_a_day(url: str) -> bool:
    """Have what was done run as if its process had been away for a day, into an empty target: what
    was deleted meanwhile nobody could tell. False when it never ran.
    """
    connection = await psycopg.AsyncConnection.connect(url, connect_timeout=10)
    async with connection:
        await connection.execute("TRUNCATE mail")
        cursor = await connection.execute(
            "UPDATE polyplane.transformation SET state = 'running', phase = 'rows', after = NULL,"
            " ended_at = NULL, wake_at = now(), looked_at = '2000-01-01' WHERE name = 'to_mail'"
        )
        return cursor.rowcount == 1


async def faults(url: str, rounds: int) -> list[str]:
    """What is wrong, after so many rounds and with nobody writing any more."""
    wrong: list[str] = []
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=10) as connection:
        for what, statement in (
            (
                "letters that are no mail, or another one",
                "SELECT count(*) FROM (SELECT id, reverse(body), length(body) FROM letter"
                " WHERE body !~ '^(skip|bad)' EXCEPT SELECT id, body, length FROM mail) AS d",
            ),
            (
                # The mail of a row that has become bad stays as it was.
                "mail of no letter",
                "SELECT count(*) FROM mail m WHERE NOT EXISTS (SELECT FROM letter l"
                " WHERE l.id = m.id AND (l.body ~ '^bad' OR reverse(l.body) = m.body))",
            ),
            (
                "bad rows that are no dead letters, or letters of what is not bad",
                "SELECT count(*) FROM (SELECT id::text FROM letter WHERE body ~ '^bad') AS l (key)"
                " FULL JOIN polyplane.transformation_dead d ON d.key = l.key AND d.name = 'to_mail'"
                " WHERE l.key IS NULL OR d.key IS NULL",
            ),
            (
                "accounts that were counted too often or too seldom",
                f"SELECT count(*) FROM account WHERE amount <> id + {rounds:d}",
            ),
        ):
            cursor = await connection.execute(statement.encode())
            found: Any = await cursor.fetchone()
            if found[0]:
                wrong.append(f"{found[0]} {what}")
    return wrong
