"""Where documents are read, once for each plane: the processes that parse, and contents on the way.

A content that has just come is kept in memory for who is going to read it, as long as there is
room; everybody else gets it from the object store.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import polyplane as pp
from polyplane.domains.assistant.parsing.parsed import ChunkOptions, Limits
from polyplane.domains.assistant.parsing.pool import Parsers

CONTENT_BYTES_MAX: Final = 48 << 20
"""Of contents kept in memory."""
GROUPS_AT_ONCE: Final = 3
"""Groups of documents that are read at the same time, which bounds the memory they take."""
PROCESSES: Final = 2
_ROOM: Final = "assistant.room"


class Contents:
    """Contents by their SHA-256; the oldest go first."""

    def __init__(self, bytes_max: int = CONTENT_BYTES_MAX) -> None:
        self._max = bytes_max
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def keep(self, sha256: str, content: bytes) -> None:
        """Keep one, unless it is there."""
        if sha256 in self._held or len(content) > self._max:
            return
        self._held[sha256] = content
        self._bytes += len(content)
        while self._bytes > self._max:
            self._bytes -= len(self._held.popitem(last=False)[1])

    def take(self, sha256: str) -> bytes | None:
        """Give one away, if it is there."""
        found = self._held.pop(sha256, None)
        self._bytes -= len(found or b"")
        return found


@dataclass(slots=True)
class Room:
    """What reading takes."""

    parsers: Parsers
    options: ChunkOptions
    contents: Contents = field(default_factory=Contents)
    groups: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(GROUPS_AT_ONCE))


def options_of(plane: pp.Plane) -> ChunkOptions:
    """How the plane cuts texts: its settings `chunk_size` and `chunk_overlap`."""
    try:
        return ChunkOptions(plane.settings.chunk_size, plane.settings.chunk_overlap)
    except ValueError as error:
        raise pp.Misconfigured(
            f"Documents cannot be cut so: {error}.", fix="Set chunk_size and chunk_overlap."
        ) from error


LIMITS: Final = Limits()
"""What reading one file may cost."""


async def room_of(plane: pp.Plane) -> Room:
    """The room of an open plane; its processes start when the first file comes, and end with it."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Room]:
        options = options_of(plane)
        async with Parsers(processes=PROCESSES, options=options, limits=LIMITS) as parsers:
            yield Room(parsers, options)

    return await plane.kept(_ROOM, opened)
