"""Which generation of each projection's collection is read, and which ones this code derives.

A projection has one active collection, which every reader reads. Another definition (a raised
version, another embedder) or an operator's wish gives it a further generation, which is built
beside the active one and takes its place once it is proven. The journal knows; what this process
knows of it is at most REFRESH_S old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection as AnyOf, Iterable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final

import structlog

from polyplane.errors import (
    Conflict,
    NotFound,
    NotSettled,
    Unavailable,
)
from polyplane.flow.projector import Target
from polyplane.model.collection import Collection
from polyplane.runtime.declared import Declared
from polyplane.runtime.embedders import Embedders
from polyplane.runtime.ends import (
    Ends,
    collection_of,
    labelled,
    named_by,
    needed,
    nodes_first,
    of_state,
)
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

Telling = Callable[[str, int], None]
"""Hears how far a rebuild is: (phase, rows)."""
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
    ends: tuple[Collection, ...] = ()
    """Of edges: the nodes that they are between, which must be filled, too."""


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
    the collection that verify compares: the active one, or the one that will be. `every` are the
    rows of the journal, `rows` those of this code's projections.
    """

    def __init__(
        self, declared: Declared, stores: Stores, journal: Journal, open_embedder: OpenEmbedder
    ) -> None:
        self.own = {it.name: target_of(it, stores) for it in nodes_first(declared.projections)}
        self.targets: dict[str, Target] = {}
        self.readings: dict[str, Reading] = {}
        self.rows: list[CollectionRow] = []
        self.changed = asyncio.Event()
        self.every: list[CollectionRow] = []
        self.ends = Ends(declared.projections, self._is_own)
        self._versions = {it.name: it.version for it in declared.projections}
        self._stores = stores
        self._journal = journal
        self._embedders = Embedders(open_embedder)
        self._prepared: dict[str, Target] = {}

    # What there is

    async def refresh(self) -> None:
        """Learn what the journal knows; readers that ask from now on read what is active.

        Of a projection whose store is down, what was known of it stays.
        """
        self.every = found = await self._journal.collections.rows()
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
        active, building = of_state(rows, "active"), of_state(rows, "building")
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
            collection, embedder = collection_of(active), await self._embedders.of(active)
        own, ends = self._is_own(active), labelled(named_by(active), self.every)
        filled = active.filled and all(it.filled for it in ends)
        between = tuple(map(collection_of, ends))
        self.readings[name] = Reading(collection, embedder, own, filled, between)

    async def prepared(self, row: CollectionRow) -> Target:
        """The target of a generation that this code derives, ready to be applied to."""
        if (found := self._prepared.get(row.name)) is None:
            own = self.own[row.projection]
            collection = replace(own.collection, generation=row.generation, ends=named_by(row))
            found = replace(own, collection=collection)
            await self.prepare(found)
            self._prepared[row.name] = found
        return found

    async def prepare(self, target: Target) -> None:
        """Have its store prepare a collection; of edges also what they are between."""
        for end in labelled(target.collection.ends, self.every):
            await target.store.prepare(collection_of(end))
        await target.store.prepare(target.collection)

    def _is_own(self, row: CollectionRow) -> bool:
        return row.definition == self.own[row.projection].deriver.definition

    def kept(self, keep_s: float) -> list[CollectionRow]:
        """The generations that this code keeps equal to truth, or fills."""
        ends = needed(self.every)
        return [
            row
            for row in self.rows
            if self._is_own(row)
            and (
                row.state in ("active", "building")
                or (row.filled and row.name in ends)
                or (row.filled and row.age_s is not None and row.age_s < keep_s)
            )
        ]

    def reads(self, names: Sequence[str] = ()) -> list[tuple[str, str]]:
        """(collection, table) of all that readers of these projections may be at, or of all's.

        Who reads edges reads what they are between.
        """
        wanted = {*names, *(end for name in names for end in self.ends.of(name))}
        edges = [row for row in self.rows if named_by(row) and self._may_be_read(row, ())]
        labels = {label for row in edges for label in named_by(row)}
        ends = {row.name for row in labelled(labels, self.rows)} if labels else ()
        return [
            (row.name, self.own[row.projection].source.captured.name)
            for row in self.rows
            if (not names or row.projection in wanted) and self._may_be_read(row, ends)
        ]

    def _may_be_read(self, row: CollectionRow, ends: AnyOf[str]) -> bool:
        if row.state == "retired":
            is_recent = (row.age_s or RECENT_S) < RECENT_S or row.name in ends
            return self._is_own(row) and row.filled and is_recent
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
        return of_state([row for row in self.rows if row.projection == projection], state)

    # What there is to be

    async def declare(self, reachable: Callable[[str], Awaitable[bool]]) -> None:
        """Note a generation for each projection whose active one is of another definition.

        That is the first one, or one to be built beside it; or one that was read before, while it
        can follow the changes from where it stands (`reachable`). A cache is right while empty:
        its new generation is read at once. What newer code derives is left to it.
        """
        rows = await self._journal.collections.rows()
        for row in rows:
            stays = row.state != "retired" or not row.filled or row.name in needed(rows)
            if not stays and not await reachable(row.name):
                await self._journal.collections.give_up(row.name, "Changes for it are gone.")
        rows = await self._journal.collections.rows()
        for name, own in self.own.items():
            mine = [row for row in rows if row.projection == name]
            active, building = of_state(mine, "active"), of_state(mine, "building")
            if active is None:
                await self._declare(own, mine, "active")
            elif self._is_own(active) or (building and self._is_own(building)):
                continue
            elif max(it.version for it in (active, building) if it) > self._versions[name]:
                _log.warning("generation.newer", projection=name, version=active.version)
            elif own.collection.kind == "cache":
                await self._declare(own, mine, "active")
            elif self.ends.of(name):
                continue  # first their nodes are read: see `follow`
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

    async def follow(self) -> None:
        """Note a generation for edges that are not between the nodes that are read by now.

        They follow when their nodes are switched, or were raised with them, one after the other;
        what was found unequal to truth is not tried again by itself.
        """
        for name in self.ends.edges():
            mine = [row for row in self.every if row.projection == name]
            is_newer = any(
                row.version > self._versions[name] for row in mine if row.state != "retired"
            )
            if is_newer or not self.ends.is_due(name, self.every):
                continue
            if known := self._earlier(mine):
                await self._journal.collections.build_again(name, known.name)
            else:
                await self._declare(self.own[name], mine, "building")
            await self.refresh()

    def _earlier(self, rows: Sequence[CollectionRow]) -> CollectionRow | None:
        """The last one that was read before, if this code derives it; of edges, if they are between
        what is read.
        """
        found = [
            it
            for it in rows
            if it.state == "retired"
            and it.filled
            and self._is_own(it)
            and self.ends.fits(it.projection, it, self.every)
        ]
        return found[-1] if found else None

    async def _declare(self, own: Target, rows: Sequence[CollectionRow], state: str) -> None:
        generation = max((row.generation for row in rows), default=0) + 1
        collection = replace(own.collection, generation=generation)
        if collection.table or generation > 1:  # another projection may have been called so
            known = await self._journal.collections.rows()
            taken = {row.name for row in known if row.projection != own.name}
            while collection.target in taken:
                generation += 1
                collection = replace(collection, generation=generation)
        if self.ends.of(own.name):
            every = await self._journal.collections.rows()
            collection = replace(collection, ends=self.ends.for_new(own.name, every))
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
            if self.ends.of(projection) and self.ends.read(projection, self.every) is None:
                raise Conflict(
                    f"The nodes of {projection} are built, or other code derives them.",
                    fix="Wait until they are read: polyplane projections list",
                )
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
        """Return when readers read the collection `name`, and edges between what is in it have
        followed; `tell` is called now and then.

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
                    edges = self.ends.edges([projection]) if row.state == "active" else ()
                    if row.state == "active" and all(
                        self.ends.have_followed(it, self.every) for it in edges
                    ):
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
        await self._embedders.close()


def _states(rows: Iterable[CollectionRow]) -> list[tuple[str, str, bool, bool]]:
    return [(row.name, row.state, row.filled, row.proven) for row in rows]
