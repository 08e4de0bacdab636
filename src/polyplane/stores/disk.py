"""Durability of a folder that an engine in this process writes to."""

from __future__ import annotations

import asyncio
import ctypes
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def sync(folder: Path) -> None:
    """Return when all written so far to the file system of `folder` survives a power cut.

    Blocks without holding the interpreter lock. OSError when the disk refuses.
    """
    if not hasattr(_libc, "syncfs"):  # not Linux
        os.sync()
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(handle) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(handle)


class SharedSync:
    """`sync` of one folder for many callers: all that come while one is at work share the next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def done(self) -> None:
        """Return when all written before this call survives a power cut. OSError as `sync`."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._now))
        await asyncio.shield(self._next)

    async def _after(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._now, self._next = self._next, None  # who comes from here on needs another one
        await asyncio.to_thread(sync, self._folder)
