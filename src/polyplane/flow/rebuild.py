"""A collection built beside the one that is read: filled, followed, proven, then switched to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal
from uuid import uuid4

import structlog

from polyplane.errors import Fenced, NotSettled
from polyplane.feed.protocol import Feed, Subjects
from polyplane.flow.backfill import backfill
from polyplane.flow.projector import Target
from polyplane.flow.settling import caught_up
from polyplane.model.drift import Part
from polyplane.steps import step
from polyplane.truth.database import Database
from polyplane.truth.journal import Journal

_log = structlog.get_logger(__name__)

Phase = Literal["waiting", "filling", "proving", "switching"]

LEASE_TTL_S: Final = 5.0
CATCH_UP_S: Final = 60.0


class Rebuild:
    """Brings one generation up, from wherever an earlier attempt was left.

    One process at a time, by a lease; that two do the same would only be a waste. `prove` compares
    the collection with truth and tells how many rows it has compared; `refresh` makes this process
    see what the journal knows; other processes do within `grace_s`.
    """

    def __init__(
        self,
        target: Target,
        database: Database,
        journal: Journal,
        feed: Feed,
        subjects: Subjects,
        *,
        epoch: int,
        prove: Callable[[Target, Callable[[int], None]], Awaitable[Part]],
        refresh: Callable[[], Awaitable[None]],
        grace_s: float,
    ) -> None:
        self.target = target
        self._database = database
        self._journal = journal
        self._feed = feed
        self._subjects = subjects
        self._epoch = epoch
        self._prove = prove
        self._refresh = refresh
        self._grace_s = grace_s
        self._lease = f"rebuild {target.name}"
        self._holder = uuid4()
        self.rows = self.of_rows = 0
        self.phase: Phase = "waiting"

    async def run(self) -> None:
        """Return when the collection is read, or given up; raises what engines raise."""
        while not await self._has_lease():
            await asyncio.sleep(LEASE_TTL_S / 3)
        keeping = asyncio.create_task(self._keep_lease())
        building = asyncio.create_task(self._build())
        try:
            done, _ = await asyncio.wait((keeping, building), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (keeping, building):
                task.cancel()
            await asyncio.wait((keeping, building))
            await self._journal.release(self._lease, self._holder)

    async def _build(self) -> None:
        name = self.target.collection.target
        rows = {row.name: row for row in await self._journal.collections.rows()}
        if name not in rows or rows[name].state != "building":
            return
        if not rows[name].begun:
            await self._emptied()
        if not rows[name].filled:
            self.phase = "filling"
            await backfill(
                self.target,
                self._database,
                self._journal,
                self._feed,
                self._subjects,
                epoch=self._epoch,
                progress=self._filled,
            )
            await self._refresh()  # from now on it follows the changes
        step("rebuild.filled")
        self.phase = "proving"
        await self._caught_up()
        part = await self._prove(self.target, self._compared)
        if wrong := [f"{len(found)} {kind}" for kind, found in _found(part) if found]:
            error = f"It does not equal truth: {', '.join(wrong)}."
            _log.error("rebuild.given_up", collection=name, error=error)
            await self._journal.collections.give_up(name, error)
            await self._refresh()
            return
        if not await self._journal.collections.proven(name):
            return
        step("rebuild.proven")
        await self._refresh()
        await self._switch(name)

    async def _emptied(self) -> None:
        """Forget what is there under the name: it is of a truth that was put back since."""
        store, collection = self.target.store, self.target.collection
        async for stamps in store.scan(collection, batch_size=1):
            if stamps:
                break
        else:
            return
        await store.forget(collection)
        await store.prepare(collection)

    async def _switch(self, name: str) -> None:
        """Move the readers, in such a way that none sees less than it has seen.

        A write counts as settled in each collection that may be read. For as long as a process may
        not know yet that this is one of them, what it calls settled may be missing here. So wait
        that long, and then for what was committed until then.
        """
        self.phase = "switching"
        await asyncio.sleep(self._grace_s)
        await self._caught_up()
        await self._journal.collections.switch(name)
        step("rebuild.switched")
        _log.info("rebuild.switched", collection=name)
        await self._refresh()

    async def _caught_up(self) -> None:
        reads = [(self.target.collection.target, self.target.source.captured.name)]
        while True:
            try:
                await caught_up(
                    self._journal, lambda: self._epoch, lambda: reads, timeout_s=CATCH_UP_S
                )
                return
            except NotSettled as error:
                _log.warning("rebuild.behind", collection=reads[0][0], error=error.message)

    def _filled(self, rows: int, of_rows: int) -> None:
        self.rows, self.of_rows = rows, of_rows

    def _compared(self, rows: int) -> None:
        self.rows = rows
        self.of_rows = max(rows, self.of_rows)

    async def _has_lease(self) -> bool:
        fence = await self._journal.lease(self._lease, self._holder, LEASE_TTL_S, self._epoch)
        return fence is not None

    async def _keep_lease(self) -> None:
        while await self._has_lease():
            await asyncio.sleep(LEASE_TTL_S / 3)
        raise Fenced(f"Another process builds {self.target.collection.target}.")


def _found(part: Part) -> list[tuple[str, tuple[str, ...]]]:
    return [("missing", part.missing), ("stale", part.stale), ("extra", part.extra)]
