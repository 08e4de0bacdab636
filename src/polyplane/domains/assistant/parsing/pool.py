"""A pool of processes that read files: none can harm, hang or outlive the one that asks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Final, NamedTuple, Self

import polyplane as pp
from polyplane.domains.assistant.parsing.files import content_at, too_large
from polyplane.domains.assistant.parsing.parsed import (
    ChunkOptions,
    Limits,
    Parsed,
    Source,
    Unreadable,
)
from polyplane.domains.assistant.parsing.reader import Death, Reader

BATCH_FILES: Final = 64
BATCH_BYTES: Final = 4 << 20
"""Files and bytes of one exchange; a larger file goes by itself."""
READER_FILES: Final = 20_000
"""Files that one process reads before another takes its place."""
_AGAIN: Final = frozenset({"crashed", "memory"})
"""What may come of the files that a process has read before."""
_LIBRARIES: Final = (
    *("charset_normalizer", "docx", "lxml", "puremagic", "pypdfium2", "pyromark"),
    *("selectolax", "semantic_text_splitter", "striprtf"),
)


class _File(NamedTuple):
    """A file on its way: which of those asked for, and what is sent of it."""

    number: int
    name: str
    media_type: str | None
    content: bytes


class Parsers:
    """Reads files in child processes, which start when the first file comes.

    `async with Parsers() as parsers: results = await parsers.read([(name, None, content)])`
    """

    def __init__(
        self,
        *,
        processes: int = 2,
        options: ChunkOptions | None = None,
        limits: Limits | None = None,
    ) -> None:
        if processes < 1:
            raise ValueError("at least one process must read")
        self._processes = processes
        self._options = options or ChunkOptions()
        self._limits = limits or Limits()
        self._free: asyncio.LifoQueue[Reader | None] = asyncio.LifoQueue()
        for _ in range(processes):
            self._free.put_nowait(None)
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the processes, when what is being read is read. Nothing more is read after."""
        self._is_closed = True
        readers = [await self._free.get() for _ in range(self._processes)]
        try:
            for reader in filter(None, readers):
                await reader.end()
        finally:
            for _ in readers:
                self._free.put_nowait(None)

    async def read(self, sources: Sequence[Source]) -> list[Parsed | Unreadable]:
        """What each file says, in the order asked. One that goes wrong stops no other.

        Give many small files at once: they are read in one exchange. May be called by many tasks.
        Raises Misconfigured when the libraries are not installed, Unavailable when no process comes
        up.
        """
        results: list[Parsed | Unreadable | None] = [None] * len(sources)
        waiting = deque(enumerate(sources))
        fair = -(-len(sources) // self._processes)
        works = [
            asyncio.create_task(self._work(waiting, min(fair, BATCH_FILES), results))
            for _ in range(min(self._processes, len(sources)))
        ]
        try:
            await asyncio.gather(*works)
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
        return [it or Unreadable("crashed", "nobody has read it") for it in results]

    async def _work(
        self,
        waiting: deque[tuple[int, Source]],
        files_max: int,
        results: list[Parsed | Unreadable | None],
    ) -> None:
        while waiting:
            files = deque(await asyncio.to_thread(self._taken, waiting, files_max, results))
            reader = await self._free.get()
            try:
                while files:
                    if reader is None or not reader.is_alive or reader.files >= READER_FILES:
                        if reader is not None:
                            await reader.end()
                        reader = None
                        reader = await self._started()
                    await self._exchange(reader, files, results)
            except BaseException:
                # Nobody knows how far it is: it says what we would take for another file's.
                if reader is not None:
                    await reader.end()
                raise
            finally:
                self._free.put_nowait(reader)

    async def _exchange(
        self, reader: Reader, files: deque[_File], results: list[Parsed | Unreadable | None]
    ) -> None:
        """Have `files` read, and take those that are done off them. A file with which the process
        ended is read once more, first in another; else what became of it is its own failure.
        """
        reader.ask([file[1:] for file in files])
        while files:
            is_first = not reader.files
            try:
                result = await reader.answer()
            except Death as death:
                result = death.failure
            if isinstance(result, Unreadable) and result.code in _AGAIN:
                await reader.end()
                if is_first:
                    results[files.popleft().number] = result
                return
            results[files.popleft().number] = result
            if not reader.is_alive:
                return

    def _taken(
        self,
        waiting: deque[tuple[int, Source]],
        files_max: int,
        results: list[Parsed | Unreadable | None],
    ) -> list[_File]:
        """The next batch, as many files as are read in one exchange."""
        files, left = list[_File](), BATCH_BYTES
        while len(files) < files_max and left > 0:
            try:
                index, (name, media_type, source) = waiting.popleft()
            except IndexError:  # another took the last
                break
            limit = self._limits.file_bytes
            content = source if isinstance(source, bytes) else content_at(source, limit)
            if isinstance(content, bytes) and len(content) > limit:
                content = too_large(limit)
            if isinstance(content, Unreadable):
                results[index] = content
            else:
                files.append(_File(index, name, media_type, content))
                left -= len(content)
        return files

    async def _started(self) -> Reader:
        """Another process. Raises Misconfigured, Unavailable."""
        if self._is_closed:
            raise pp.Unavailable("Documents are not read any more: this is being closed.")
        if missing := [it for it in _LIBRARIES if find_spec(it) is None]:
            raise pp.Misconfigured(
                f"Documents cannot be read without {', '.join(missing)}.",
                fix="Run: pip install 'polyplane[documents]'",
            )
        try:
            return await Reader.start(self._options, self._limits)
        except (Death, OSError) as error:
            raise pp.Unavailable(f"No process that reads documents comes up: {error}.") from error
