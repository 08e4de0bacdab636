"""One verify of several things: its bookmark, and how far it is for whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from polyplane.errors import Conflict, NotFound, NotSettled
from polyplane.model.blob import Blob
from polyplane.model.drift import BlobPart, Drift, Far, Mended, Part, RequestPart, StreamPart
from polyplane.model.projection import Projection
from polyplane.model.stream import Stream
from polyplane.reconcile.blobs import prove_blobs
from polyplane.reconcile.bookmark import Bookmark, Mark
from polyplane.reconcile.prove import prove
from polyplane.reconcile.repair import repair
from polyplane.reconcile.requests import mend_requests, prove_requests
from polyplane.reconcile.streams import prove_stream
from polyplane.runtime.declared import Declared
from polyplane.runtime.keeping import sides
from polyplane.runtime.opening import Open
from polyplane.runtime.proof import JournalOfStream
from polyplane.runtime.request_proof import ChangesOfFeed
from polyplane.runtime.requests import RequestCache
from polyplane.runtime.uploads import ready_store
from polyplane.steps import step
from polyplane.truth.blobs import rows_of
from polyplane.truth.database import in_our_words

BLOBS: Final = "blobs"
"""What the proof of files is called beside those of projections and streams."""
REQUESTS: Final = "requests"
"""What the proof of the request cache is called."""
BOOKMARK_NAME: Final = "verify.bookmark"
"""The file in a home that an operator's verify keeps, so that it can be resumed."""

Tell = Callable[[Far], None]


@dataclass(frozen=True, slots=True)
class Proving:
    """What is to be proven, and how thoroughly (see `Plane.verify`)."""

    names: Sequence[str]
    streams: Sequence[type[Stream]] = ()
    deep: bool = False
    sample: int | None = None
    seed: int = 0
    timeout_s: float = 60.0
    bookmark: Path | None = None
    resume: bool = False
    blobs: bool = False
    requests: bool = False

    async def run(self, opened: Open, tell: Tell | None = None) -> Drift:
        """Prove one after the other."""
        with _told(opened, tell) as heard, self._kept(opened) as bookmark:
            parts = tuple([await self._part(opened, it, bookmark, heard) for it in self.names])
            streams = tuple([await self._stream(opened, it, heard) for it in self.streams])
            blobs = (await self._blobs(opened, heard),) if self.blobs else ()
            requests = (await self._requests(opened, heard),) if self.requests else ()
        return Drift.of(parts, streams, blobs, requests)

    async def _part(self, opened: Open, name: str, bookmark: Bookmark | None, tell: Tell) -> Part:
        target = opened.generations.target(name)
        truth, store = sides(opened, target, self.timeout_s)
        mark: Mark | None = None
        if bookmark is not None:
            mark = bookmark.of(
                name,
                collection=store.collection.target,
                definition=truth.definition,
                epoch=opened.epoch,
            )
        with in_our_words():
            about = await truth.about()
            tell(Far(name, 0, self.sample or about, "rows"))
            return await prove(
                name,
                truth,
                store,
                deep=self.deep,
                sample=self.sample,
                seed=self.seed,
                progress=lambda rows: tell(Far(name, rows, about, "rows")),
                deep_progress=lambda items: tell(Far(name, items, about, "contents")),
                mark=mark,
            )

    async def _stream(self, opened: Open, stream: type[Stream], tell: Tell) -> StreamPart:
        store = opened.stores.series
        assert store is not None
        name, _ = opened.feed.subjects.stream(stream.name)
        tell(Far(stream.name, 0, None, "partitions"))
        return await prove_stream(
            stream,
            JournalOfStream(name, opened.journal, opened.feed, opened.epoch),
            store,
            told=lambda done, of: tell(Far(stream.name, done, of, "partitions")),
        )

    async def _blobs(self, opened: Open, tell: Tell) -> BlobPart:
        store = await ready_store(opened)
        rows = rows_of(opened.database, store.bucket)
        tell(Far(BLOBS, 0, None, "rows"))
        return await prove_blobs(
            rows, store, deep=self.deep, told=lambda done: tell(Far(BLOBS, done, None, "rows"))
        )

    async def _requests(self, opened: Open, tell: Tell) -> RequestPart:
        if opened.requests is None:
            raise NotFound("This plane has no request cache.")
        store = opened.requests.store
        tell(Far(REQUESTS, 0, None, "entries"))
        changes = ChangesOfFeed(opened, store, self.timeout_s)
        return await prove_requests(
            store, changes, lambda done: tell(Far(REQUESTS, done, None, "entries"))
        )

    @contextmanager
    def _kept(self, opened: Open) -> Iterator[Bookmark | None]:
        """The bookmark, if one is to be kept; gone when the block ends well.

        Of two at once only the first keeps one.
        """
        path, asked = self.bookmark, {"projections": list(self.names), "deep": self.deep}
        if path is None or self.sample is not None or path in opened.bookmarks:
            if self.resume:
                raise Conflict(
                    "A sample cannot be resumed." if self.sample else "A verify is at work already."
                )
            yield None
            return
        opened.bookmarks.add(path)
        try:
            found = Bookmark.found(path, asked) if self.resume else None
            bookmark = found or Bookmark.begun(path, asked)
            yield bookmark
            bookmark.drop()
        finally:
            opened.bookmarks.discard(path)


def chosen(wanted: Sequence[Any], declared: Declared, opened: Open, sample: int | None) -> Proving:
    """What of all that is `declared` is `wanted`; all of it, if nothing is."""
    if wanted:
        return Proving(
            [it.name for it in wanted if issubclass(it, Projection)],
            [it for it in declared.streams if it in wanted],
            sample=sample,
            blobs=Blob in wanted,
            requests=RequestCache in wanted,
        )
    whole = not sample
    return Proving(
        list(opened.generations.own),
        declared.streams if whole else (),
        sample=sample,
        blobs=whole and opened.stores.objects is not None,
        requests=whole and opened.requests is not None,
    )


def mendable(declared: Declared, opened: Open) -> tuple[type[Any], ...]:
    """All that a repair can do something about."""
    blobs = [Blob] if opened.stores.objects is not None else []
    requests = [RequestCache] if opened.requests is not None else []
    return (*declared.projections, *blobs, *requests)


async def current(opened: Open, names: Sequence[str], timeout_s: float) -> float:
    """Wait until readers read what this code derives; the seconds that are left."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            await opened.generations.current(names)
    except TimeoutError:
        old = [it for it, reading in opened.generations.readings.items() if not reading.derived]
        raise NotSettled(
            f"Readers of {', '.join(old)} still read what other code derived.",
            fix="See: polyplane projections list",
        ) from None
    return deadline - loop.time()


@contextmanager
def _told(opened: Open, tell: Tell | None) -> Iterator[Tell]:
    """Who hears how far it is: `tell`, and `opened.proofs` for whoever looks there."""
    run = uuid4().hex

    def heard(far: Far) -> None:
        opened.proofs[run] = far
        if tell is not None:
            tell(far)

    try:
        yield heard
    finally:
        opened.proofs.pop(run, None)


async def mend(opened: Open, found: Drift, timeout_s: float) -> Mended:
    """Mend what drifts in the parts of `found`, and look at those keys again.

    Of blobs only what is known of them is mended: whose object is lost or damaged, and whose not.
    """
    left = []
    for blobs in found.blobs:
        rows = rows_of(opened.database, blobs.bucket)
        for ids, fault in ((blobs.lost, "lost"), (blobs.damaged, "damaged"), (blobs.whole, "")):
            await rows.mark([UUID(it) for it in ids], fault)
        step("blob.marked")
    for part in found.parts:
        target = opened.generations.target(part.projection)
        with in_our_words():
            left.append(await repair(part, *sides(opened, target, timeout_s)))
    requests = found.requests
    if opened.requests is not None and any(part.stale for part in requests):
        store = opened.requests.store
        changes = ChangesOfFeed(opened, store, timeout_s)
        requests = tuple([await mend_requests(store, changes, part) for part in requests])
    return Mended(found, Drift.of(tuple(left), blobs=found.blobs, requests=requests))
