"""When the interpreter looks for garbage."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

COLLECT_EVERY_S: Final = 10.0


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for cycles meanwhile: for work that makes none, and does not wait.

    What a batch makes lives just long enough to be taken for old, so that all that is old is gone
    through again and again: a third of the time of `verify`.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def seldom_collected() -> Iterator[Callable[[], None]]:
    """As `uncollected`, for work in batches that waits, and may take long.

    Gives what is to be called between batches: it searches, when that is COLLECT_EVERY_S ago.
    Automatic searches were a third of what projecting takes of the processor. Work that stands
    still, or that nobody ends, keeps them off for as long at most.
    """
    if not gc.isenabled():  # another work sees to it; or somebody wants it off
        yield lambda: None
        return
    loop = asyncio.get_running_loop()
    searched_at = loop.time()
    with uncollected():
        limit = loop.call_later(COLLECT_EVERY_S, gc.enable)

        def between() -> None:
            nonlocal searched_at, limit
            if loop.time() - searched_at >= COLLECT_EVERY_S:
                gc.collect()
                searched_at = loop.time()
                limit.cancel()
                limit = loop.call_later(COLLECT_EVERY_S, gc.enable)
                gc.disable()

        try:
            yield between
        finally:
            limit.cancel()
