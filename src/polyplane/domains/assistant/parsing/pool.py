"""A pool of processes that read files: none can harm, hang or outlive the one that asks."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from polyplane.domains.assistant.parsing.parsed import (
    ChunkOptions,
    Limits,
    Parsed,
    Source,
    Unreadable,
)


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
        self._processes = processes
        self._options = options or ChunkOptions()
        self._limits = limits or Limits()

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
        """End the processes. Files still being read come back as Unreadable."""

    async def read(self, sources: Sequence[Source]) -> list[Parsed | Unreadable]:
        """What each file says, in the order asked. One that goes wrong stops no other.

        Give many small files at once: they are read in one exchange. May be called by many tasks.
        """
        return [Unreadable("unsupported", "not read yet") for _ in sources]
