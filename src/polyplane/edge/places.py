"""Places for requests at work: so many, and so many that wait for a moment."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

PLACE: Final = "polyplane.place"
"""Where a request's scope has its place."""


class Places:
    """`at_work` of them; so many may wait for one in their order, for `patience_s` seconds each."""

    def __init__(self, at_work: int, waiting: int, patience_s: float) -> None:
        self._free = at_work
        self._waiting_max = waiting
        self._patience_s = patience_s
        self._queue: deque[asyncio.Future[None]] = deque()
        self.refused = 0

    async def take(self) -> Place | None:
        """A place, or None: at once when too many wait already, else when it took too long."""
        if self._free:
            self._free -= 1
            return Place(self)
        if len(self._queue) >= self._waiting_max:
            self.refused += 1
            return None
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(self._patience_s):
                await turn
        except TimeoutError:
            if not self._came(turn):
                self.refused += 1
                return None
        except BaseException:
            if self._came(turn):
                self.free()  # it was given to who has just gone away
            raise
        return Place(self)

    def _came(self, turn: asyncio.Future[None]) -> bool:
        """Whether a place was given to who does not wait any more; else it is given none."""
        if turn.done() and not turn.cancelled():
            return True
        with suppress(ValueError):  # `free` has passed it over already
            self._queue.remove(turn)
        return False

    def free(self) -> None:
        """Give one place to who has waited longest, if anybody does."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Place:
    """A place that was taken, to be left once; more often does no harm."""

    def __init__(self, places: Places) -> None:
        self._places: Places | None = places

    def leave(self) -> None:
        """Let somebody else have it."""
        places, self._places = self._places, None
        if places is not None:
            places.free()


def leave_place(scope: Mapping[str, Any]) -> None:
    """What this request does from now on takes long, and little work: it needs no place for it."""
    place = scope.get(PLACE)
    if place is not None:
        place.leave()
