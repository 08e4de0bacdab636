"""Transactions of truth whose last statement notes that they were made: both, or neither."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import psycopg
from sqlalchemy.ext.asyncio import AsyncSession

from polyplane.errors import Fenced, TruthDown
from polyplane.model.caller import Caller
from polyplane.steps import step
from polyplane.truth.context import SET, settings_of
from polyplane.truth.database import Database, in_our_words
from polyplane.truth.sagas import Note, is_fenced
from polyplane.truth.session import Write, constraints_in_our_words, refusal, writing

Work = Callable[[Write], Awaitable[Note]]


class Desk:
    """A connection on which one transaction follows the other, for one caller.

    What begins a transaction and what ends one cost no round trip of their own: BEGIN goes with who
    it is for, or with the end of the one before; COMMIT with the note.
    """

    def __init__(self, database: Database, *, caller: Caller) -> None:
        self._database = database
        self._caller = caller
        self._who = settings_of(caller)
        self._stack = AsyncExitStack()
        self._session: AsyncSession | None = None
        self._driver: psycopg.AsyncConnection[Any] | None = None
        self._has_begun = False

    async def write(self, work: Work, *, epoch: int, more: bool = False) -> tuple[Any, ...]:
        """Do `work` and note what it returns, in one transaction; the row that the note gives.

        With `more` the next one is begun, too. Raises Fenced when the note is refused; what `work`
        raises; what `write` raises besides. Then the desk is to be closed.
        """
        with in_our_words(), constraints_in_our_words():
            session, driver = await self._begin()
            tx = Write(session, caller=self._caller, epoch=epoch)
            note = await work(tx)
            await tx.send()
            step("saga.local_done")
            row = await self._commit(driver, note, more)
            session.expunge_all()  # what the next one reads, it reads anew
        for call in tx.afterwards:
            call()
        return row

    async def close(self) -> None:
        """Give the connection back; a transaction that was only begun is gone."""
        with in_our_words():
            await self._stack.aclose()
        self._session, self._driver, self._has_begun = None, None, False

    async def _begin(self) -> tuple[AsyncSession, psycopg.AsyncConnection[Any]]:
        if self._session is None or self._driver is None:
            lent = await self._database.lender.lend()
            self._stack.push_async_callback(self._database.lender.take, lent)
            all_of_it = await lent.pooled.begin()
            self._stack.push_async_callback(all_of_it.rollback)  # what was not committed
            # It does not know of the transactions, which are begun and ended past it.
            session = writing(
                lent.pooled,
                join_transaction_mode="rollback_only",
                **self._database.session_of(self._caller),
            )
            await self._stack.enter_async_context(session)
            self._session, self._driver = session, lent.driver
        if not self._has_begun:
            async with self._driver.pipeline():
                await self._driver.execute("BEGIN", prepare=False)
                await self._driver.execute(SET, self._who)
            self._has_begun = True
        return self._session, self._driver

    async def _commit(
        self, driver: psycopg.AsyncConnection[Any], note: Note, more: bool
    ) -> tuple[Any, ...]:
        self._has_begun = False
        try:
            async with driver.pipeline():
                cursor, others = driver.cursor(), driver.cursor()
                await cursor.execute(note.statement, note.parameters)
                await others.execute("COMMIT AND CHAIN" if more else "COMMIT", prepare=False)
                if more:
                    await others.execute(SET, self._who)
            row = await cursor.fetchone()
        except psycopg.Error as error:
            if is_fenced(error):
                raise Fenced("Another process has this saga.") from error
            refused = refusal(error)
            if refused is None:
                raise
            raise refused from error
        self._has_begun = more
        if row is None:
            raise TruthDown("PostgreSQL has not said whether it was stored.")
        return tuple(row)


async def write_noted(
    database: Database, work: Work, *, caller: Caller, epoch: int
) -> tuple[Any, ...]:
    """One transaction as a `Desk` makes it."""
    desk = Desk(database, caller=caller)
    try:
        return await desk.write(work, epoch=epoch)
    finally:
        await desk.close()
