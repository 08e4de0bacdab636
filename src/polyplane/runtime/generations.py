"""Which generation of each projection's collection is read, and which ones this code derives.

A projection has one active collection, which every reader reads. Another definition (a raised
version, another embedder) or an operator's wish gives it a further generation, which is built
beside the active one and takes its place once it is proven. The journal knows; what this process
knows of it is at most REFRESH_S old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final

import structlog

from polyplane.errors import (
    Conflict,
    NotFound,
    NotSettled,
    PolyplaneError,
    Unavailable,
)
from polyplane.flow.projector import Target
from polyplane.model.collection import Collection
from polyplane.runtime.declared import Declared
from polyplane.runtime.targets import Stores, target_of
from polyplane.steps import step
from polyplane.stores.protocol import Embedder
from polyplane.truth.collections import CollectionRow
from polyplane.truth.journal import Journal

_log = structlog.get_logger(__name__)

REFRESH_S: Final = 1.0
RECENT_S: Final = 3 * REFRESH_S
"""Readers of another process may still be at what was switched from so long ago."""
_POLL_S: Final = 0.05

OpenEmbedder = Callable[[str], Awaitable[Embedder]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What readers of a projection read now.

    `embedder` turns their texts into its vectors. `derived` says whether it is what this code
    derives, or of an earlier definition, or a later one.
    """

    collection: Collection
    embedder: Embedder | None
    derived: bool
    filled: bool = True
    """Whether it holds all of truth; not when it is new, or was found lost or damaged."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Readers of `projection` went from the collection `before` to `collection`."""

    projection: str
    collection: str
    before: str
    duration_s: float


class Generations:
    """What this process knows of the collections of the declared projections.

    `own` is projection -> what this code derives, whatever the generation; `targets` the same, with
    the collection that verify compares: the active one, or the one that will be.
    """

    def __init__(
        self, declared: Declared, stores: Stores, journal: Journal, open_embedder: OpenEmbedder
    ) -> None:
        self.own = {it.name: target_of(it, stores) for it in declared.projections}
        self.targets: dict[str, Target] = {}
        self.readings: dict[str, Reading] = {}
        self.rows: list[CollectionRow] = []
        self.changed = asyncio.Event()
        self._versions = {it.name: it.version for it in declared.projections}
        self._stores = stores
        self._journal = journal
        self._open_embedder = open_embedder
        self._embedders: dict[str, Embedder | None] = {}
        self._prepared: dict[str, Target] = {}

    # What there is

    async def refresh(self) -> None:
        """Learn what the journal knows; readers that ask from now on read what is active.

        Of a projection whose store is down, what was known of it stays.
        """
        found = await self._journal.collections.rows()
        rows: list[CollectionRow] = []
        for name in self.own:
            mine = [row for row in found if row.projection == name]
            try:
                await self._see(name, mine)
            except Unavailable as error:
                if name not in self.readings:
                    raise
                _log.warning("generation.unprepared", projection=name, error=error.message)
                mine = [row for row in self.rows if row.projection == name]
            rows += mine
        if _states(rows) != _states(self.rows):
            self.changed.set()
        self.rows = rows

    async def _see(self, name: str, rows: Sequence[CollectionRow]) -> None:
        active, building = _of_state(rows, "active"), _of_state(rows, "building")
        if active is None:
            raise NotFound(f"{name} has no collection.", fix="Open the plane with flows first.")
        mine = next((it for it in (active, building) if it and self._is_own(it)), None)
        if mine is None:
            self.targets.pop(name, None)
        else:
            self.targets[name] = await self.prepared(mine)
        if self._is_own(active):
            collection = self.targets[name].collection
            embedder = self._stores.embedder
        else:
            collection, embedder = await self._foreign(active)
        own = self._is_own(active)
        self.readings[name] = Reading(collection, embedder, own, active.filled)

    async def _foreign(self, row: CollectionRow) -> tuple[Collection, Embedder | None]:
        """A collection as its row describes it, and what embedded its texts, if that opens."""
        url = row.shape["embedder"]
        if url and url not in self._embedders:
            try:
                found = await self._open_embedder(url)
                # Another release of the same model may embed otherwise.
                same = row.definition.endswith(f"/{found.identity}")
                self._embedders[url] = found if same else None
            except PolyplaneError as error:
                _log.warning("generation.no_embedder", collection=row.name, error=error.message)
                self._embedders[url] = None
        return collection_of(row), self._embedders.get(url)

    async def prepared(self, row: CollectionRow) -> Target:
        """The target of a generation that this code derives, ready to be applied to."""
        if (found := self._prepared.get(row.name)) is None:
            own = self.own[row.projection]
            found = replace(own, collection=replace(own.collection, generation=row.generation))
            await found.store.prepare(found.collection)
            self._prepared[row.name] = found
        return found

    def _is_own(self, row: CollectionRow) -> bool:
        return row.definition == self.own[row.projection].deriver.definition

    def kept(self, keep_s: float) -> list[CollectionRow]:
        """The generations that this code keeps equal to truth, or fills."""
        return [
            row
            for row in self.rows
            if self._is_own(row)
            and (
                row.state in ("active", "building")
                or (row.filled and row.age_s is not None and row.age_s < keep_s)
            )
        ]

    def reads(self, names: Sequence[str] = ()) -> list[tuple[str, str]]:
        """(collection, table) of all that readers of these projections may be at, or of all's."""
        return [
            (row.name, self.own[row.projection].source.captured.name)
            for row in self.rows
            if (not names or row.projection in names) and self._may_be_read(row)
        ]

    def _may_be_read(self, row: CollectionRow) -> bool:
        if row.state == "retired":
            return self._is_own(row) and row.filled and (row.age_s or RECENT_S) < RECENT_S
        return row.state == "active" or (row.filled and row.proven)

    def target(self, projection: str) -> Target:
        """What this code derives; Conflict when that is neither read nor being built."""
        if (found := self.targets.get(projection)) is None:
            raise Conflict(
                f"Readers of {projection} read what other code derives.",
                fix=f"Run that code, or go back: polyplane rebuild {projection} --rollback",
            )
        return found

    def row(self, projection: str, state: str) -> CollectionRow | None:
        """The collection of `projection` in this state."""
        return _of_state([row for row in self.rows if row.projection == projection], state)

    # What there is to be

    async def declare(self, reachable: Callable[[str], Awaitable[bool]]) -> None:
        """Note a generation for each projection whose active one is of another definition.

        That is the first one, or one to be built beside it; or one that was read before, while it
        can follow the changes from where it stands (`reachable`). A cache is right while empty:
        its new generation is read at once. What newer code derives is left to it.
        """
        for row in await self._journal.collections.rows():
            if row.state == "retired" and row.filled and not await reachable(row.name):
                await self._journal.collections.give_up(row.name, "Changes for it are gone.")
        rows = await self._journal.collections.rows()
        for name, own in self.own.items():
            mine = [row for row in rows if row.projection == name]
            active, building = _of_state(mine, "active"), _of_state(mine, "building")
            if active is None:
                await self._declare(own, mine, "active")
            elif self._is_own(active) or (building and self._is_own(building)):
                continue
            elif max(it.version for it in (active, building) if it) > self._versions[name]:
                _log.warning("generation.newer", projection=name, version=active.version)
            elif own.collection.kind == "cache":
                await self._declare(own, mine, "active")
            elif known := self._earlier(mine):
                await self._journal.collections.build_again(name, known.name)
            else:
                await self._declare(own, mine, "building")
        await self.refresh()

    async def first(self) -> None:
        """Note the first generation of projections that have none; leave the rest as it is."""
        rows = await self._journal.collections.rows()
        for name in self.own.keys() - {row.projection for row in rows}:
            await self._declare(self.own[name], [], "active")
        await self.refresh()

    def _earlier(self, rows: Sequence[CollectionRow]) -> CollectionRow | None:
        """The last one that was read before, if this code derives it."""
        found = [it for it in rows if it.state == "retired" and it.filled and self._is_own(it)]
        return found[-1] if found else None

    async def _declare(self, own: Target, rows: Sequence[CollectionRow], state: str) -> None:
        generation = max((row.generation for row in rows), default=0) + 1
        collection = replace(own.collection, generation=generation)
        embeds = own.collection.kind == "vector" and self._stores.embedder is not None
        await self._journal.collections.declare(
            collection.target,
            own.name,
            generation,
            version=self._versions[own.name],
            definition=own.deriver.definition,
            shape={
                **collection.shape(),
                "embedder": self._stores.embedder_url if embeds else "",
            },
            state=state,
        )
        step("rebuild.declared")
        _log.info("generation.declared", collection=collection.target, state=state)

    async def begin(self, projection: str) -> str:
        """Declare a further generation of what is active; the collection that is being built."""
        await self.refresh()
        if (building := self.row(projection, "building")) is None:
            own = self.own[projection]
            rows = [row for row in self.rows if row.projection == projection]
            await self._declare(own, rows, "building")
            await self.refresh()
            building = self.row(projection, "building")
        if building is None or not self._is_own(building):
            raise Conflict(f"{projection} is being built by other code.", fix="Wait until it is.")
        return building.name

    async def begin_back(self, projection: str) -> str:
        """Make the generation that was read before the one that is to be read again; its name."""
        await self.refresh()
        rows = [row for row in self.rows if row.projection == projection]
        known = self._earlier(rows)
        if known is None:
            raise Conflict(
                f"There is no earlier collection of {projection} that this code derives.",
                fix="Run the code (or set the embedder) of the version to go back to.",
            )
        await self._journal.collections.build_again(projection, known.name)
        await self.refresh()
        return known.name

    async def switched(
        self, projection: str, name: str, *, timeout_s: float, tell: Callable[[], None]
    ) -> Rebuilt:
        """Return when readers read the collection `name`; `tell` is called now and then.

        Raises Conflict when it was given up, saying why; NotSettled after `timeout_s`.
        """
        started, before = perf_counter(), self.readings[projection].collection.target
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self.refresh()
                    tell()
                    row = next((row for row in self.rows if row.name == name), None)
                    if row is None or row.state == "retired":
                        why = row.error if row and row.error else "Something else took its place."
                        raise Conflict(f"{name} was not switched to. {why}")
                    if row.state == "active":
                        return Rebuilt(projection, name, before, perf_counter() - started)
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise NotSettled(
                f"{name} is not built within {timeout_s:g} s; it goes on.",
                fix="See: polyplane projections list",
            ) from None

    async def current(self, names: Sequence[str]) -> None:
        """Return when readers read what this code derives, for these projections or for all.

        The caller bounds the time.
        """
        while not all(self.readings[name].derived for name in names or self.own):
            await asyncio.sleep(_POLL_S)
            await self.refresh()

    async def close(self) -> None:
        """Let go of the embedders of earlier definitions."""
        for embedder in self._embedders.values():
            if embedder is not None:
                await embedder.close()
        self._embedders.clear()


def collection_of(row: CollectionRow) -> Collection:
    """The collection as it was declared, by whatever code."""
    shape = {name: value for name, value in row.shape.items() if name != "embedder"}
    return Collection.of_shape(row.projection, row.generation, shape)


def _of_state(rows: Iterable[CollectionRow], state: str) -> CollectionRow | None:
    return next((row for row in rows if row.state == state), None)


def _states(rows: Iterable[CollectionRow]) -> list[tuple[str, str, bool, bool]]:
    return [(row.name, row.state, row.filled, row.proven) for row in rows]
