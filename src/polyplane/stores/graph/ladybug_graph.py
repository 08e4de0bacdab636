"""A graph in Ladybug, a database in this process: one file, one process, no server.

A commit is on the disk when it returns. The gate is a look before the write, which is safe because
there is one writer: see `ladybug_writing`. What lies where: see `ladybug_tables`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from polyplane.errors import StoreDown
from polyplane.model.collection import Collection
from polyplane.model.graph import GraphView, Table
from polyplane.model.items import Held, Item, Stamp
from polyplane.model.scope import Scope
from polyplane.stores import disk
from polyplane.stores.graph import ladybug_cypher, ladybug_scan, ladybug_writing
from polyplane.stores.graph.asking import check_declared, check_properties
from polyplane.stores.graph.ladybug_custody import says_damaged
from polyplane.stores.graph.ladybug_lane import Lane
from polyplane.stores.graph.ladybug_reading import LadybugReading

_log = structlog.get_logger(__name__)

FILE: Final = "graph.lbug"
MAINTAIN_TIMEOUT_S: Final = 1800.0
INSPECT_TIMEOUT_S: Final = 60.0
"""A graph that takes longer to read is taken as it is."""
KEYS_MAX: Final = 1_000
"""Keys per look at what is held; for edges it is a look at all of them."""


async def connect(url: str, *, durable: bool = True, timeout_s: float = 30.0) -> LadybugStore:
    """Open (or create) the graph in the folder of `ladybug:///absolute` or `ladybug://relative`.

    `durable=False` leaves out the barrier, for data that may be lost. Raises StoreDown, and
    Misconfigured when another process has it open.
    """
    folder = Path(url.removeprefix("ladybug://")).absolute()
    return LadybugStore(await Lane.open(folder / FILE, timeout_s), durable=durable)


class LadybugStore(LadybugReading):
    """The graph store over Ladybug; made by `connect`."""

    multi_process = False

    def __init__(self, lane: Lane, *, durable: bool) -> None:
        super().__init__(lane)
        self.durable = durable

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._lane.path.parent

    async def ping(self) -> None:
        await self._lane.read(lambda session: session.rows("RETURN 1"), what="answer")

    async def barrier(self) -> None:
        """A commit has synced its log. What was loaded in bulk is folded in, and the folder synced,
        whose names may not be durable yet.
        """
        if self.durable:
            await self._lane.checkpoint(only_loose=True, timeout_s=MAINTAIN_TIMEOUT_S)
            try:
                await asyncio.to_thread(disk.sync, self.folder)
            except OSError as error:
                raise StoreDown(f"Ladybug's files are not on the disk: {error}") from error

    async def inspect(self) -> list[str]:
        """A file that is not as it was left is deleted, and so is one that was not left in order
        and that the engine cannot read.
        """
        damage = self._lane.damage
        if not damage and not self._lane.is_known:
            try:
                await self._lane.read(ladybug_scan.read_all, timeout_s=INSPECT_TIMEOUT_S)
            except StoreDown as error:
                damage = says_damaged(error)
        if not damage:
            return []
        _log.warning("store.damaged", engine="ladybug", what=damage)
        await self._lane.anew()
        return [f"{damage}; the graph is filled again."]

    async def close(self) -> None:
        await self._lane.close()

    async def prepare(self, collection: Collection) -> None:
        """Tables that are there with other columns or ends are dropped and made anew.

        Raises Misconfigured for names that cannot be.
        """
        check_declared(collection)
        await self._lane.write(
            lambda session: ladybug_writing.prepare(session, collection),
            what=f"create {collection.labelled}",
        )

    async def apply(
        self, collection: Collection, puts: Sequence[Item], drops: Sequence[str], position: int
    ) -> None:
        """Raises Refused, naming the property, when an item's are not of the declared types."""
        if not puts and not drops:
            return
        check_properties(collection, puts)
        await self._lane.write(
            lambda session: ladybug_writing.apply(session, collection, puts, drops, position),
            what=f"apply to {collection.labelled}",
        )

    async def scan(
        self, collection: Collection, *, after: str | None = None, batch_size: int = 10_000
    ) -> AsyncIterator[list[Stamp]]:
        """Sorted by the engine, so many at a time: not a snapshot of the whole."""
        is_last = False
        while not is_last:
            stamps, is_last = await self._lane.read(
                partial(ladybug_scan.page, collection=collection, after=after),
                what=f"scan {collection.labelled}",
            )
            for start in range(0, len(stamps), batch_size):
                yield stamps[start : start + batch_size]
            after = stamps[-1].key if stamps else after

    async def stamps(self, collection: Collection, keys: Sequence[str]) -> list[Stamp]:
        found: list[Stamp] = []
        for start in range(0, len(keys), KEYS_MAX):
            some = keys[start : start + KEYS_MAX]
            asked = partial(ladybug_scan.stamps, collection=collection, keys=some)
            found += await self._lane.read(asked)
        return found

    async def contents(self, collection: Collection, keys: Sequence[str]) -> list[Held]:
        found: list[Held] = []
        for start in range(0, len(keys), KEYS_MAX):
            some = keys[start : start + KEYS_MAX]
            asked = partial(ladybug_scan.contents, collection=collection, keys=some)
            found += await self._lane.read(asked)
        return found

    async def bury(self, collection: Collection, keys: Sequence[str], position: int) -> None:
        for start in range(0, len(keys), KEYS_MAX):
            some = keys[start : start + KEYS_MAX]
            await self._lane.write(
                partial(ladybug_writing.bury, collection=collection, keys=some, position=position),
                what=f"bury in {collection.labelled}",
            )

    async def maintain(self, collection: Collection, *, full: bool = False) -> None:
        """Fold the log into the database: of all collections, which it is about."""
        await self._lane.checkpoint(timeout_s=MAINTAIN_TIMEOUT_S)

    async def forget(self, collection: Collection) -> None:
        """With a collection of nodes go the relations that refer to it."""
        await self._lane.write(
            lambda session: ladybug_writing.forget(session, collection),
            what=f"delete {collection.labelled}",
        )

    async def cypher(
        self,
        view: GraphView,
        scope: Scope,
        text: str,
        parameters: Mapping[str, Any],
        *,
        limit: int = 1_000,
        timeout_s: float = 10.0,
    ) -> Table:
        statement = ladybug_cypher.checked(view, scope, text, limit)
        return await self._lane.read(
            lambda session: ladybug_cypher.asked(session, view, statement, parameters, limit),
            what="answer",
            timeout_s=timeout_s,
        )
