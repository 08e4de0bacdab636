"""Durability of a folder that an engine in this process writes to."""

from __future__ import annotations

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
