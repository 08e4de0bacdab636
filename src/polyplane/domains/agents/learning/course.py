"""How learning goes: files are read one by one, and what is new goes to truth in packs."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import polyplane as pp
from polyplane.domains.agents.learning.findings import Findings
from polyplane.domains.agents.learning.keeping import Kept, known_files, take, totals
from polyplane.domains.agents.learning.merging import LearnedFile
from polyplane.domains.agents.learning.python_source import Unlearnable
from polyplane.domains.agents.learning.reading import Read, Skipped, Walk, walks

PACK_ROWS: Final = 20_000
"""Concepts and relations that are held in memory and written in one transaction, about."""
PACK_FILES: Final = 500
SKIPPED_MAX: Final = 1_000
"""Files told of by name; the rest are counted."""
TELL_S: Final = 0.5

Tell = Callable[[str], None]


class Knowledge(Protocol):
    """Where what is learned goes to."""

    async def known(self, path: str) -> Mapping[str, str]:
        """Path -> digest of the files that are known at `path` and below."""
        ...

    async def take(self, files: Sequence[LearnedFile]) -> Kept:
        """Learn these files, in one transaction."""
        ...

    async def totals(self) -> tuple[int, int]:
        """How many concepts and relations there are."""
        ...


@dataclass(slots=True)
class LearnReport:
    """What a run saw and did: `files` were there, of which `changed` were learned anew, `removed`
    are gone and `skipped` could not be learned (`skipped_files` names the first 1,000). `concepts`
    and `relations` are all there are now; `touched` counts the rows written, by table and verb.
    """

    files: int = 0
    changed: int = 0
    removed: int = 0
    skipped: int = 0
    skipped_files: list[Skipped] = field(default_factory=list)
    concepts: int = 0
    relations: int = 0
    touched: dict[str, int] = field(default_factory=dict)
    duration_s: float = 0.0
    token: pp.Token | None = None
    """Of the last write: wait for it by `plane.settled`."""

    def add(self, kept: Kept) -> None:
        """Count what a pack has written."""
        for name, rows in kept.touched.items():
            self.touched[name] = self.touched.get(name, 0) + rows
        self.token = kept.token or self.token


class InTruth:
    """Knowledge of a caller, in the plane's own truth."""

    def __init__(self, plane: pp.Plane, caller: pp.Caller) -> None:
        self._plane = plane
        self._caller = caller

    async def known(self, path: str) -> Mapping[str, str]:
        """See `Knowledge`."""
        return await known_files(self._plane, self._caller, path)

    async def take(self, files: Sequence[LearnedFile]) -> Kept:
        """See `Knowledge`."""
        return await take(self._plane, self._caller, files)

    async def totals(self) -> tuple[int, int]:
        """See `Knowledge`."""
        return await totals(self._plane, self._caller)


async def learn(
    plane: pp.Plane,
    caller: pp.Caller,
    paths: Sequence[str | Path] = (),
    *,
    tell: Tell | None = None,
) -> LearnReport:
    """Learn the Python, Markdown and text files at `paths` and below; without paths the standard
    library. Files that are known and have not changed are not touched, what was learned from files
    that are gone is forgotten.

    What cannot be learned is told of in the report and by `tell`, and stops nothing; what was known
    of such a file stays. Raises NotFound for a path where nothing is, nor was.
    """
    return await learn_into(InTruth(plane, caller), paths, tell=tell)


async def learn_into(
    knowledge: Knowledge, paths: Sequence[str | Path] = (), *, tell: Tell | None = None
) -> LearnReport:
    """As `learn`, wherever the knowledge is."""
    began_s, report = time.monotonic(), LearnReport()
    for walk in walks([Path(it) for it in paths]):
        await _learn_one(knowledge, walk, report, tell or (lambda _: None))
    report.concepts, report.relations = await knowledge.totals()
    report.duration_s = round(time.monotonic() - began_s, 3)
    return report


async def _learn_one(knowledge: Knowledge, walk: Walk, report: LearnReport, tell: Tell) -> None:
    known = await knowledge.known(str(walk.root))
    if not known and not walk.root.exists():
        raise pp.NotFound(f"There is nothing at {walk.root}.", field="path")
    pack = _Pack(knowledge, report)
    try:
        await _read(walk, known, pack, report, tell)
        for path in known:
            if not walk.is_kept(path):
                await pack.add(LearnedFile(path))
                report.removed += 1
        await pack.end()
    finally:
        await pack.cancel()
    report.files += len(walk.seen)
    report.skipped += len(walk.skipped)
    report.skipped_files += walk.skipped[: SKIPPED_MAX - len(report.skipped_files)]
    for skipped in walk.skipped[:SKIPPED_MAX]:
        tell(f"Not learned: {skipped.path}: {skipped.why}.")


async def _read(
    walk: Walk, known: Mapping[str, str], pack: _Pack, report: LearnReport, tell: Tell
) -> None:
    """Read what is there, and take along what has changed."""
    told_s, files = time.monotonic(), walk.files()
    while (read := await asyncio.to_thread(next, files, None)) is not None:
        if known.get(read.path) != read.digest:
            found = await asyncio.to_thread(_found, read, walk)
            if found is not None:
                await pack.add(LearnedFile(read.path, read.digest, found))
                report.changed += 1
        if time.monotonic() - told_s > TELL_S:
            told_s = time.monotonic()
            tell(f"{len(walk.seen):,} files seen, {report.changed:,} learned ...")


def _found(read: Read, walk: Walk) -> Findings | None:
    # A tree of a million nodes has no cycles, and to look for them again and again takes a third of
    # the time.
    was_on = gc.isenabled()
    gc.disable()
    try:
        return read.find()
    except Unlearnable as error:
        walk.skip(read.path, str(error))
        return None
    finally:
        if was_on:
            gc.enable()


class _Pack:
    """Files on their way: one pack is filled while the one before is written."""

    def __init__(self, knowledge: Knowledge, report: LearnReport) -> None:
        self._knowledge = knowledge
        self._report = report
        self._files: list[LearnedFile] = []
        self._rows = 0
        self._sending: asyncio.Task[Kept] | None = None

    async def add(self, file: LearnedFile) -> None:
        """Take a file along. Raises what became of the pack before."""
        self._files.append(file)
        if file.found is not None:
            self._rows += len(file.found.views) + len(file.found.relations)
        if self._rows >= PACK_ROWS or len(self._files) >= PACK_FILES:
            await self._send()

    async def end(self) -> None:
        """Return when all is written."""
        await self._send()
        await self._sent()

    async def cancel(self) -> None:
        """Write nothing more."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])

    async def _send(self) -> None:
        await self._sent()
        if self._files:
            self._sending = asyncio.create_task(self._taken(self._files))
            self._files, self._rows = [], 0

    async def _sent(self) -> None:
        if self._sending is not None:
            sending, self._sending = self._sending, None
            self._report.add(await sending)

    async def _taken(self, files: Sequence[LearnedFile]) -> Kept:
        return await self._knowledge.take(files)
