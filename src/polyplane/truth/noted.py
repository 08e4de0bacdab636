"""A transaction of truth whose last statement notes that it was made: both, or neither."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg
from sqlalchemy.ext.asyncio import AsyncSession

from polyplane.errors import Fenced, TruthDown
from polyplane.steps import step
from polyplane.truth.database import Database, in_our_words
from polyplane.truth.sagas import Note, is_fenced
from polyplane.truth.session import Write, constraints_in_our_words, refusal

_WHO: Final = (
    "SELECT set_config('polyplane.actor', %(actor)s, true),"
    " set_config('polyplane.tenant', %(tenant)s, true)"
)

Work = Callable[[Write], Awaitable[Note]]


async def write_noted(
    database: Database, work: Work, *, actor: str, tenant: str, epoch: int
) -> tuple[Any, ...]:
    """Do `work` and note what it returns, in one transaction; the row that the note gives.

    The first statement goes with BEGIN and the last with COMMIT, in one round trip each. Raises
    Fenced when the note is refused; what `work` raises; what `write` raises besides.
    """
    with in_our_words(), constraints_in_our_words():
        async with AsyncSession(database.engine, expire_on_commit=False) as session:
            pooled = await (await session.connection()).get_raw_connection()
            driver = pooled.driver_connection
            assert isinstance(driver, psycopg.AsyncConnection)
            async with driver.pipeline():
                await driver.execute(_WHO, {"actor": actor, "tenant": tenant})
            tx = Write(session, actor=actor, tenant=tenant, epoch=epoch)
            note = await work(tx)
            await tx.send()
            step("saga.local_done")
            row = await _commit(driver, note)
            await session.commit()  # it has nothing left to do but to know
    for call in tx.afterwards:
        call()
    return row


async def _commit(driver: psycopg.AsyncConnection[Any], note: Note) -> tuple[Any, ...]:
    try:
        async with driver.pipeline():
            cursor = await driver.execute(note.statement, note.parameters)
            await driver.commit()
        row = await cursor.fetchone()
    except psycopg.Error as error:
        if is_fenced(error):
            raise Fenced("Another process has this saga.") from error
        refused = refusal(error)
        if refused is None:
            raise
        raise refused from error
    if row is None:
        raise TruthDown("PostgreSQL has not said whether it was stored.")
    return tuple(row)
