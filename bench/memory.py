"""How much memory a process takes while it works."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psutil

MIB: Final = 2**20
_LOOK_S: Final = 0.02


@contextmanager
def watched() -> Iterator[list[float]]:
    """Growths of this process's resident memory, in MiB, seen until the block ends."""
    process, growth, done = psutil.Process(), [0.0], threading.Event()
    before = process.memory_info().rss

    def look() -> None:
        while not done.wait(_LOOK_S):
            growth.append((process.memory_info().rss - before) / MIB)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield growth
    finally:
        done.set()
        thread.join()
