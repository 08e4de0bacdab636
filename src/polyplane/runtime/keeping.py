"""What keeps each collection that this code derives: projectors and rebuilds, until its end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Final

import structlog

from polyplane.errors import PolyplaneError
from polyplane.flow.backfill import backfill
from polyplane.flow.projector import Projector, Target
from polyplane.flow.rebuild import Rebuild
from polyplane.model.drift import Part
from polyplane.reconcile.verify import Progress, StoreSide, verify
from polyplane.runtime.ends import collection_of, is_used, labelled, needed
from polyplane.runtime.generations import RECENT_S, REFRESH_S
from polyplane.runtime.opening import Open
from polyplane.runtime.proof import TruthOfTarget
from polyplane.truth.collections import CollectionRow

_log = structlog.get_logger(__name__)

PROVE_TIMEOUT_S: Final = 120.0


class Keeper:
    """Starts and ends the tasks of each generation as the journal says. `run` until cancelled."""

    def __init__(self, opened: Open, *, keep_s: float) -> None:
        self._opened = opened
        self._keep_s = keep_s

    async def run(self) -> None:
        """Look at least every REFRESH_S, and at once when this process has changed something."""
        generations = self._opened.generations
        while True:
            generations.changed.clear()
            try:
                await generations.refresh()
                if not self._opened.is_worker:
                    await generations.follow()
                await self.adjust()
                if not self._opened.is_worker:
                    names = generations.own.keys()
                    await give_up(self._opened, names, older_than_s=self._keep_s)
                    await drop(self._opened, names, older_than_s=self._keep_s)
            except PolyplaneError as error:
                _log.warning("keeper.waiting", error=error.message)
            try:
                async with asyncio.timeout(REFRESH_S):
                    await generations.changed.wait()
            except TimeoutError:
                continue

    def reads(self) -> list[tuple[str, str]]:
        """(collection, table) of all that is kept."""
        generations = self._opened.generations
        return [
            (row.name, generations.own[row.projection].source.captured.name)
            for row in generations.kept(self._keep_s)
        ]

    async def adjust(self) -> None:
        """Let exactly those tasks run that the generations need; a worker only projects."""
        opened = self._opened
        may_fill = not opened.is_worker
        kept = {
            row.name: row for row in opened.generations.kept(self._keep_s) if row.filled or may_fill
        }
        for name, projector in list(opened.projectors.items()):
            # It is to be filled anew: this process, or another, has found that it must be.
            row = kept.get(name)
            if row is None or projector.is_lost or (projector.is_running and not row.filled):
                await _leave(opened, name)
        for name in [name for name in opened.rebuilds if not _is_built(kept.get(name))]:
            del opened.rebuilds[name]
            await opened.crew.end(f"rebuild {name}")
        for row in kept.values():
            target = await opened.generations.prepared(row)
            is_due = row.filled or row.state == "active"
            if row.name not in opened.projectors and is_due:
                self._project(target, row)
            if row.name not in opened.rebuilds and _is_built(row) and may_fill:
                rebuild = self._rebuild(target)
                opened.rebuilds[row.name] = rebuild
                opened.crew.add(f"rebuild {row.name}", rebuild.run)

    def _project(self, target: Target, row: CollectionRow) -> None:
        opened = self._opened
        projector = Projector(
            target,
            opened.truth.projector,
            opened.journal,
            opened.feed,
            opened.feed.subjects,
            epoch=opened.epoch,
            tenure=opened.tenure,
        )
        if opened.tenure is not None:
            opened.tenure.join(row.name)
        opened.projectors[row.name] = projector
        run = projector.run if row.filled else partial(_fill_and_project, opened, projector)
        opened.crew.add(f"projector {row.name}", run)

    def _rebuild(self, target: Target) -> Rebuild:
        opened = self._opened
        return Rebuild(
            target,
            opened.truth.projector,
            opened.journal,
            opened.feed,
            opened.feed.subjects,
            epoch=opened.epoch,
            prove=self._prove,
            refresh=opened.generations.refresh,
            grace_s=2 * REFRESH_S,
        )

    async def _prove(self, target: Target, progress: Progress) -> Part:
        truth, store = sides(self._opened, target, PROVE_TIMEOUT_S)
        return await verify(target.name, truth, store, progress=progress)


def sides(opened: Open, target: Target, timeout_s: float) -> tuple[TruthOfTarget, StoreSide]:
    """What truth says and what the store holds of a collection, to compare."""
    truth = TruthOfTarget(
        target,
        opened.truth.projector,
        opened.journal,
        opened.feed,
        opened.feed.subjects.changes,
        epoch=lambda: opened.epoch,
        timeout_s=timeout_s,
    )
    return truth, StoreSide(target.store, target.collection)


async def prune(opened: Open, names: Collection[str]) -> list[str]:
    """Drop what was retired of these projections; the names of the collections.

    Edges go with their nodes: those between what was retired are between nothing that is read.
    """
    await opened.generations.refresh()
    names = [*opened.generations.ends.edges(names), *names]
    if await give_up(opened, names):
        await asyncio.sleep(RECENT_S)  # until whoever applies to them has stopped
        await opened.generations.refresh()
    return await drop(opened, names)


async def give_up(opened: Open, names: Collection[str], *, older_than_s: float = 0.0) -> bool:
    """Keep up no more what was retired so long ago, of these projections; whether there was any.

    What was read a moment ago stays: readers in other processes may not have heard yet. So do
    nodes that edges are between which stay.
    """
    given_up: set[str] = set()
    age_s = max(older_than_s, RECENT_S)
    while rows := [
        row
        for row in _retired(opened, names, age_s)
        if row.filled
        and row.name not in given_up
        and row.name not in needed(opened.generations.every)
    ]:
        for row in rows:
            await opened.journal.collections.give_up(row.name)
            await _leave(opened, row.name)
            given_up.add(row.name)
        await opened.generations.refresh()
    return bool(given_up)


async def drop(opened: Open, names: Collection[str], *, older_than_s: float = 0.0) -> list[str]:
    """Delete the collections of these projections that were given up so long ago; their names.

    Not before every process knows, and applies nothing to them any more. Those that were found
    wrong say so until then; the others need not wait so long. Nodes go after what is between them.
    """
    dropped: list[str] = []
    while rows := [
        row
        for row in _retired(opened, names, RECENT_S)
        if not row.filled
        and (not row.error or (row.age_s or 0.0) >= older_than_s)
        and row.name not in dropped
        and not is_used(row, opened.generations.every)
    ]:
        for row in rows:
            store = opened.generations.own[row.projection].store
            await store.forget(collection_of(row))
            await opened.journal.collections.forget(row.name)
            await opened.journal.dead.unpark(row.name, None)
            _log.info("generation.dropped", collection=row.name)
            dropped.append(row.name)
        await opened.generations.refresh()
    return dropped


def _retired(opened: Open, names: Collection[str], age_s: float) -> list[CollectionRow]:
    return [
        row
        for row in opened.generations.rows
        if row.projection in names and row.state == "retired" and (row.age_s or 0.0) >= age_s
    ]


async def _leave(opened: Open, name: str) -> None:
    """Project to the collection `name` no more."""
    await opened.crew.end(f"projector {name}")
    opened.projectors.pop(name, None)
    if opened.tenure is not None:
        opened.tenure.leave(name)


def _is_built(row: CollectionRow | None) -> bool:
    return row is not None and row.state == "building"


async def _fill_and_project(opened: Open, projector: Projector) -> None:
    """Backfill a collection that was never filled, then follow the changes.

    Edges after what they are between: then no stub has to stand for it.
    """
    name = projector.target.collection.target
    rows = {row.name: row for row in await opened.journal.collections.rows()}
    if name not in rows or not rows[name].filled:
        labels = projector.target.collection.ends
        while not all(it.filled for it in labelled(labels, list(rows.values()))):
            await asyncio.sleep(REFRESH_S / 4)
            rows = {row.name: row for row in await opened.journal.collections.rows()}
        await backfill(
            projector.target,
            opened.truth.projector,
            opened.journal,
            opened.feed,
            opened.feed.subjects,
            epoch=opened.epoch,
            progress=projector.filling,
        )
    await projector.run()
