"""Where seals are kept outside the database: a file of the home, and the object store."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from polyplane.flow.sealing import SealPlace, behind
from polyplane.model.blob import NOT_BLOBS
from polyplane.model.scope import Scope
from polyplane.security.sealing import Seal
from polyplane.stores.object_protocol import ObjectStore
from polyplane.truth.audit import Trail

FILE_NAME: Final = "audit.seals"
OBJECTS: Final = f"{NOT_BLOBS}audit/"
_TAIL_BYTES: Final = 1 << 20
"""More than the longest line: 10,000 rows with as many gaps between them."""
_PAGE_LINES: Final = 1_000


class SealFile(SealPlace):
    """A file that is only ever added to, a seal a line, each durable before it counts."""

    every_s = 0.0

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    async def last(self, trail: Trail) -> int:
        found = await asyncio.to_thread(self._last)
        if found is None:
            return 0
        await behind(trail, self.name, found)
        return found.number

    async def add(self, trail: Trail, seals: Sequence[Seal]) -> None:
        await asyncio.to_thread(self._add, seals)

    def _last(self) -> Seal | None:
        if not self._path.exists():
            return None
        with self._locked() as file:
            return _last_of(file)

    def _add(self, seals: Sequence[Seal]) -> None:
        with self._locked() as file:
            known = _last_of(file)  # another process may have been here
            number = known.number if known else 0
            text = "".join(f"{it.line}\n" for it in seals if it.number > number)
            os.write(file, text.encode())
            os.fsync(file)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, open, with what was written by halves taken away again; for us alone."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = os.fstat(file).st_size
            tail = os.pread(file, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
            if tail and not tail.endswith(b"\n"):
                os.ftruncate(file, size - len(tail) + tail.rfind(b"\n") + 1)
            yield file
        finally:
            os.close(file)


def _last_of(file: int) -> Seal | None:
    size = os.fstat(file).st_size
    tail = os.pread(file, _TAIL_BYTES, max(0, size - _TAIL_BYTES)).splitlines()
    return Seal.parse(tail[-1]) if tail else None


async def seals_in(path: Path) -> AsyncIterator[list[bytes]]:
    """The lines of such a file, page by page; nothing when there is none."""
    if not path.exists():
        return
    with path.open("rb") as file:
        while lines := await asyncio.to_thread(
            lambda: [line for _, line in zip(range(_PAGE_LINES), file, strict=False)]
        ):
            yield [line for line in lines if line.endswith(b"\n")]  # else it is being written


class SealObjects(SealPlace):
    """Objects `<first>-<last>.jsonl` in a bucket that keeps every version."""

    name = "objects"
    every_s = 60.0

    def __init__(self, store: Callable[[], Awaitable[ObjectStore]]) -> None:
        self._store = store

    async def last(self, trail: Trail) -> int:
        return await trail.exported(self.name)

    async def add(self, trail: Trail, seals: Sequence[Seal]) -> None:
        store = await self._store()
        key = f"{OBJECTS}{seals[0].number:012d}-{seals[-1].number:012d}.jsonl"
        lines = "".join(f"{it.line}\n" for it in seals)
        await store.put(key, lines.encode(), content_type="application/jsonl")
        # Killed before this, the same seals come again in another object, which harms nobody.
        await trail.note_exported(self.name, seals[-1].number)


async def seals_among(
    ready: Callable[[], Awaitable[ObjectStore]],
) -> AsyncIterator[list[bytes]]:
    """The lines of all such objects, in the order of their first seals."""
    store = await ready()
    keys: list[str] = []
    async for page in store.every(after=OBJECTS):
        keys += [it.key for it in page if it.key.startswith(OBJECTS) and not it.gone]
        if any(not it.key.startswith(OBJECTS) for it in page):
            break
    for key in sorted(set(keys)):
        pieces = [piece async for piece in store.read(Scope.everything, key)]
        yield b"".join(pieces).splitlines()
