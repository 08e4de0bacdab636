"""Connections in autocommit, kept out of the pool for whoever comes next.

To take a connection from SQLAlchemy's asynchronous pool and to give it back costs more of the
processor than a short statement does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

KEPT_MAX: Final = 3
"""They count as taken from the pool; the others are for sessions."""
KEPT_S: Final = 1800.0


@dataclass(slots=True)
class Lent:
    """A connection that was taken from the pool, and its driver's own."""

    pooled: AsyncConnection
    driver: psycopg.AsyncConnection[Any]
    since: float

    async def back(self) -> None:
        """To the pool, or closed when something is still under way on it."""
        if self.driver.pgconn.transaction_status != TransactionStatus.IDLE:
            await self.pooled.invalidate()
        await self.pooled.close()


class Lender:
    """Lends connections of `engine`, which is in autocommit and has `connections` at most.

    Two of these at least are never kept: who needs one of the pool would wait for ever.
    """

    def __init__(self, engine: AsyncEngine, connections: int) -> None:
        self._engine = engine
        self._kept_max = max(0, min(KEPT_MAX, connections - 2))
        self._kept: list[Lent] = []
        self._taking: set[asyncio.Task[Lent]] = set()
        self._is_closed = False

    @property
    def kept(self) -> int:
        """How many are out of the pool, and idle."""
        return len(self._kept)

    async def lend(self) -> Lent:
        """One that was kept, else one of the pool. Raises what the pool and the driver raise."""
        while self._kept:
            lent = self._kept.pop()
            is_idle = lent.driver.pgconn.transaction_status == TransactionStatus.IDLE
            if is_idle and monotonic() - lent.since < KEPT_S:
                return lent
            await lent.back()
        # Who is cancelled while SQLAlchemy takes a connection from its pool loses that connection.
        taking = asyncio.create_task(self._from_pool())
        self._taking.add(taking)
        taking.add_done_callback(self._taking.discard)
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._unwanted)
            raise

    async def _from_pool(self) -> Lent:
        pooled = await self._engine.connect()
        try:
            driver = (await pooled.get_raw_connection()).driver_connection
            assert isinstance(driver, psycopg.AsyncConnection)
        except BaseException:
            await pooled.close()
            raise
        return Lent(pooled, driver, monotonic())

    def _unwanted(self, taking: asyncio.Task[Lent]) -> None:
        """Keep what came when nobody waited for it any more."""
        if not taking.cancelled() and taking.exception() is None:
            self._kept.append(taking.result())

    async def take(self, lent: Lent) -> None:
        """Take one back, whatever became of it; to be called once, also when cancelled."""
        status = lent.driver.pgconn.transaction_status
        has_room = len(self._kept) < self._kept_max and not self._is_closed
        if status == TransactionStatus.IDLE and has_room:
            self._kept.append(lent)
            return
        given = [lent]
        if status == TransactionStatus.UNKNOWN:  # it is broken, and so are, most likely, the others
            given += self._kept
            self._kept.clear()
        await asyncio.shield(asyncio.gather(*(it.back() for it in given)))

    async def close(self) -> None:
        """Give all that is kept back, and keep none any more."""
        self._is_closed = True
        if self._taking:
            await asyncio.wait(self._taking)
        while self._kept:
            await self._kept.pop().back()
