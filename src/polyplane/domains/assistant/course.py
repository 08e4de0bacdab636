"""How a folder is ingested: files are looked at one by one, what is news goes in by batches.

Some batches are read while the next one is found, but never many: neither they nor what is on its
way to be read grow with the folder.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import polyplane as pp
from polyplane.domains.assistant.arrivals import (
    ARRIVAL_BYTES_MAX,
    Arrival,
    Failure,
    Known,
    Outcome,
    Taken,
    Work,
)
from polyplane.domains.assistant.keeping import known_below, take
from polyplane.domains.assistant.processing import work_of
from polyplane.domains.assistant.projections import DocumentChunks, ProcessedDocuments
from polyplane.domains.assistant.removing import remove
from polyplane.domains.assistant.walking import IGNORED, Found, Walk, read

BATCH: Final = 200
"""Documents of one transaction."""
LOOKED_AT: Final = 2_000
"""Files that are compared with what is known at a time."""
WORKS_AT_ONCE: Final = 4
FAILURES_MAX: Final = 1_000
"""Failures told of by name; the rest are counted."""
REMOVED_AT_ONCE: Final = 500
WORK_TIMEOUT_S: Final = 3_600.0
WAIT_S: Final = 5.0
SETTLE_TIMEOUT_S: Final = 600.0

Tell = Callable[["IngestReport"], None]
"""Hears how far it is, now and then."""


class Library(Protocol):
    """Where documents go to."""

    async def known(self, below: str) -> Mapping[str, Known]:
        """What is known of files whose names begin with `below`."""
        ...

    async def take(self, arrivals: Sequence[Arrival], *, again: bool) -> Taken:
        """Take these in, in one transaction."""
        ...

    async def work(self, work: UUID, wait_s: float) -> Work:
        """How far a reading is."""
        ...

    async def remove(self, ids: Sequence[UUID]) -> int:
        """Remove documents; how many there were."""
        ...

    async def settled(self, timeout_s: float) -> None:
        """Return when the vector store shows all that is read by now."""
        ...


@dataclass(slots=True)
class IngestReport:
    """What a run saw and did, in files: `new`, `changed` and `again` ones were taken in, of which
    `ready` are read and `failed` cannot be (`failures` names the first 1,000); `skipped` ones could
    not be taken, `still_failed` ones are unchanged and could not be read before. `gone` are
    documents whose file is no more there, `removed` those of them that were removed. Chunks are
    counted by what was done with them (see `Work`). `is_settled`: the vector store shows all of it.
    """

    files: int = 0
    bytes: int = 0
    new: int = 0
    changed: int = 0
    again: int = 0
    unchanged: int = 0
    skipped: int = 0
    still_failed: int = 0
    ready: int = 0
    failed: int = 0
    gone: int = 0
    removed: int = 0
    chunks_new: int = 0
    chunks_moved: int = 0
    chunks_same: int = 0
    chunks_gone: int = 0
    is_whole: bool = False
    """Whether all of the folder was looked at, and what was taken in is read."""
    is_settled: bool = False
    duration_s: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    @property
    def taken(self) -> int:
        """How many were taken in, and acknowledged."""
        return self.new + self.changed + self.again

    @property
    def is_clean(self) -> bool:
        """Whether nothing failed, and nothing is left to do."""
        return self.is_whole and not (self.failed or self.skipped or self.still_failed)

    def fail(self, failure: Failure) -> None:
        """Note one by name, as long as there is room."""
        if len(self.failures) < FAILURES_MAX:
            self.failures.append(failure)

    def add(self, work: Work) -> None:
        """Count what a reading has done."""
        self.ready += work.ready
        self.failed += len(work.failures)
        for name in ("chunks_new", "chunks_moved", "chunks_same", "chunks_gone"):
            setattr(self, name, getattr(self, name) + getattr(work, name))
        for it in work.failures:
            self.fail(it)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files of a folder, and what of them: `check` reads all of them, whatever their stamps
    say; `again` has known contents read anew; `remove_gone` removes documents without a file.
    """

    globs: Sequence[str] = ()
    ignore: Sequence[str] = IGNORED
    check: bool = False
    again: bool = False
    remove_gone: bool = False
    settle: bool = True


ALL: Final = Wanted()


class InTruth:
    """The documents of a caller's tenant, on the plane itself."""

    def __init__(self, plane: pp.Plane, caller: pp.Caller) -> None:
        self._plane = plane
        self._caller = caller

    async def known(self, below: str) -> Mapping[str, Known]:
        """See `Library`."""
        found: dict[str, Known] = {}
        after = ""
        while page := await known_below(self._plane, self._caller, "folder", below, after=after):
            found |= page
            after = max(page)
        return found

    async def take(self, arrivals: Sequence[Arrival], *, again: bool) -> Taken:
        """See `Library`."""
        return await take(self._plane, self._caller, arrivals, again=again)

    async def work(self, work: UUID, wait_s: float) -> Work:
        """See `Library`."""
        return await work_of(self._plane, self._caller, work, wait_s=wait_s)

    async def remove(self, ids: Sequence[UUID]) -> int:
        """See `Library`."""
        return (await remove(self._plane, self._caller, ids))[0]

    async def settled(self, timeout_s: float) -> None:
        """See `Library`."""
        await self._plane.caught_up(ProcessedDocuments, DocumentChunks, timeout_s=timeout_s)


async def ingest(
    plane: pp.Plane,
    caller: pp.Caller,
    paths: Sequence[str | Path],
    wanted: Wanted = ALL,
    *,
    tell: Tell | None = None,
) -> IngestReport:
    """Take in the files at `paths` and below, as documents of the caller's tenant that belong to
    nobody in it, and wait until they are read and found.

    A file whose size, times and inode are those it was read with is not read again; one with the
    content that is known changes nothing. What fails is told of, and stops nothing. Raises NotFound
    for a path where nothing is, nor was.
    """
    return await ingest_into(InTruth(plane, caller), paths, wanted, tell=tell)


async def ingest_into(
    library: Library,
    paths: Sequence[str | Path],
    wanted: Wanted = ALL,
    *,
    tell: Tell | None = None,
    report: IngestReport | None = None,
) -> IngestReport:
    """As `ingest`, wherever the documents are. Given a `report`, that is kept up to date: who is
    interrupted finds in it what was acknowledged.
    """
    began_s, report = time.monotonic(), report if report is not None else IngestReport()
    course = _Course(library, wanted, report, tell or (lambda _: None), began_s)
    try:
        for path in paths:
            await course.walk(Walk(Path(path).absolute(), wanted.globs, wanted.ignore))
        await course.end()
        report.is_whole = True
        if wanted.settle:
            await library.settled(SETTLE_TIMEOUT_S)
            report.is_settled = True
    finally:
        await course.cancel()
        report.duration_s = round(time.monotonic() - began_s, 3)
    return report


class _Course:
    """One run: what it has seen, and the readings that are under way."""

    def __init__(
        self, library: Library, wanted: Wanted, report: IngestReport, tell: Tell, began_s: float
    ) -> None:
        self._library = library
        self._wanted = wanted
        self._report = report
        self._tell = tell
        self._began_s = began_s
        self._works: set[asyncio.Task[None]] = set()

    async def walk(self, walk: Walk) -> None:
        """Take in the files of one folder."""
        known = await self._library.known(walk.below)
        if not known and not walk.root.exists():
            raise pp.NotFound(f"There is nothing at {walk.root}.", field="path")
        left = set(known)
        if walk.root.exists():
            files = walk.files()
            while some := await asyncio.to_thread(_some, files):
                left.difference_update(it.name for it in some)
                await self._look(some, known)
        for name, why in walk.problems:
            self._report.skipped += 1
            self._report.fail(Failure(name, "unreachable", why))
            # What cannot be looked into is not gone.
            left = {it for it in left if it != name and not it.startswith(f"{name.rstrip('/')}/")}
        self._report.gone += len(left)
        if self._wanted.remove_gone:
            ids = [known[name].id for name in sorted(left)]
            for start in range(0, len(ids), REMOVED_AT_ONCE):
                some_ids = ids[start : start + REMOVED_AT_ONCE]
                self._report.removed += await self._library.remove(some_ids)

    async def _look(self, some: Sequence[Found], known: Mapping[str, Known]) -> None:
        """Of some files, read those that may have changed, and take them in."""
        news = [it for it in some if not self._is_known(it, known.get(it.name))]
        self._report.files += len(some)
        self._report.bytes += sum(it.size for it in some)
        for it in some:
            if self._is_known(it, was := known.get(it.name)) and was is not None:
                self._left(was)
        self._told()
        reading = _batches(news)
        while batch := await asyncio.to_thread(next, reading, None):
            await self._take(batch, known)

    def _left(self, known: Known) -> None:
        self._report.unchanged += 1
        self._report.still_failed += known.state == "failed"

    def _is_known(self, it: Found, known: Known | None) -> bool:
        """Whether a file need not be read."""
        if known is None or self._wanted.check or self._wanted.again:
            return False
        return known.file_stamp == it.stamp and known.is_current

    async def _take(self, batch: Sequence[Arrival], known: Mapping[str, Known]) -> None:
        arrivals = []
        for it in batch:
            was = known.get(it.name)
            if was is not None and not self._wanted.again and _is_same(it, was):
                self._left(was)  # read for nothing, as it was asked
                continue
            arrivals.append(it)
            if it.content is None:
                self._report.fail(Failure(it.name, it.code, it.reason))
        if not arrivals:
            return
        while len(self._works) >= WORKS_AT_ONCE:
            await self._one_work()
        taken = await self._library.take(arrivals, again=self._wanted.again)
        for landed, it in zip(taken.landed, arrivals, strict=True):
            outcome = Outcome.SKIPPED if it.content is None else landed.outcome
            if outcome is Outcome.UNCHANGED and (was := known.get(it.name)) is not None:
                self._left(was)
                continue
            setattr(self._report, outcome, getattr(self._report, outcome) + 1)
        if taken.work is not None:
            self._works.add(asyncio.create_task(self._follow(taken.work)))
        self._told()

    async def _follow(self, work: UUID) -> None:
        """Wait until some documents are read, and count what was done."""
        deadline_s = time.monotonic() + WORK_TIMEOUT_S
        while time.monotonic() < deadline_s:
            found = await self._library.work(work, WAIT_S)
            if found.is_over:
                self._report.add(found)
                self._told()
                return
        raise pp.NotSettled(
            f"Documents were not read within {WORK_TIMEOUT_S:g} s.",
            fix=f"It goes on. See: polyplane sagas show {work}",
        )

    async def _one_work(self) -> None:
        done, self._works = await asyncio.wait(self._works, return_when=asyncio.FIRST_COMPLETED)
        for it in done:
            it.result()

    async def end(self) -> None:
        """Return when all that was taken in is read."""
        while self._works:
            await self._one_work()

    async def cancel(self) -> None:
        """Wait for nothing more; what was taken in is read all the same."""
        for it in self._works:
            it.cancel()
        if self._works:
            await asyncio.wait(self._works)

    def _told(self) -> None:
        self._report.duration_s = round(time.monotonic() - self._began_s, 3)
        self._tell(self._report)


def _is_same(it: Arrival, known: Known) -> bool:
    same = (it.sha256, it.file_stamp) == (known.sha256, known.file_stamp)
    return same and known.is_current


def _some(files: Iterator[Found]) -> list[Found]:
    return [*islice(files, LOOKED_AT)]


def _batches(news: Sequence[Found]) -> Iterator[list[Arrival]]:
    """The files, read; so many at a time as go into one transaction."""
    batch: list[Arrival] = []
    size = 0
    for found in news:
        it = read(found)
        held = len(it.content or b"")
        if batch and (len(batch) == BATCH or size + held > ARRIVAL_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(it)
        size += held
    if batch:
        yield batch


def as_json(report: IngestReport) -> dict[str, Any]:
    """What programs are told."""
    told = {name: getattr(report, name) for name in IngestReport.__dataclass_fields__}
    told["failures"] = [
        {"name": it.name, "code": it.code, "reason": it.reason} for it in report.failures
    ]
    return told
