"""Places for requests at work: so many, fewer when they take too long, and some that wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

PLACE: Final = "polyplane.place"
"""Where a request's scope has its place."""
SHARE_MIN: Final = 8
"""There are never fewer places than an eighth of them."""
_LOOKS: Final = 2
"""Patience comes in parts, so that one turn of the loop that takes long does not end all of it."""
_SHRINK: Final = 0.8
_SHRINK_EVERY_S: Final = 0.1


class Places:
    """`at_work` of them at most; so many may wait for one in their order, each for `patience_s`.

    What is done at the same time by one processor is done later the more there is of it. So there
    are fewer places as long as somebody waits for one and those at work take more than `target_s`,
    and more again when they do not.
    """

    def __init__(
        self,
        at_work: int,
        waiting: int,
        *,
        patience_s: float,
        target_s: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._most = at_work
        self._least = max(1, at_work // SHARE_MIN)
        self._limit = float(at_work)
        self._taken = 0
        self._coming = 0
        self._waiting_max = waiting
        self._patience_s = patience_s
        self._target_s = target_s
        self._clock = clock
        self._shrunk_at = clock()
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """How many may be taken at the moment."""
        return int(self._limit)

    def expect(self) -> bool:
        """Whether one more that has just come will have a place, or may wait for one.

        For who asks before `take`: what came in the same turn of the loop is counted with it.
        """
        room = max(0, self.limit - self._taken) + self._waiting_max - len(self._queue)
        if self._coming >= room:
            return False
        if not self._coming:
            asyncio.get_running_loop().call_soon(self._all_came)
        self._coming += 1
        return True

    def _all_came(self) -> None:
        self._coming = 0

    async def take(self) -> Place | None:
        """A place, or None: at once when too many wait already, else when it took too long."""
        if self._taken < self.limit:
            self._taken += 1
            return self._place()
        if len(self._queue) >= self._waiting_max:
            return None
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            for _ in range(_LOOKS):
                await asyncio.wait([turn], timeout=self._patience_s / _LOOKS)
                if turn.done():
                    return self._place()
        except BaseException:
            if turn.done():
                self._free()  # it was given to who has just gone away
            else:
                self._queue.remove(turn)
            raise
        self._queue.remove(turn)
        return None

    def _place(self) -> Place:
        since = self._clock()
        return Place(lambda: self._left(self._clock() - since))

    def _left(self, took_s: float) -> None:
        """Somebody has left: have fewer places, or more; give one to who has waited longest."""
        if took_s <= self._target_s:
            self._limit = min(self._most, self._limit + 1 / self._limit)
        elif self._queue and self._clock() - self._shrunk_at >= _SHRINK_EVERY_S:
            self._shrunk_at = self._clock()
            self._limit = max(self._least, self._limit * _SHRINK)
        self._free()

    def _free(self) -> None:
        self._taken -= 1
        while self._queue and self._taken < self.limit:
            self._taken += 1
            self._queue.popleft().set_result(None)


class Place:
    """A place that was taken, to be left once; more often does no harm."""

    def __init__(self, left: Callable[[], None]) -> None:
        self._left: Callable[[], None] | None = left

    def leave(self) -> None:
        """Let somebody else have it."""
        left, self._left = self._left, None
        if left is not None:
            left()


def leave_place(scope: Mapping[str, Any]) -> None:
    """What this request does from now on takes long, and little work: it needs no place for it."""
    place = scope.get(PLACE)
    if place is not None:
        place.leave()
