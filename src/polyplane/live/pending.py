"""What a follower has not been told yet: the latest of each thing, within bounds. Pure.

A follower that reads slowly costs no more than these bounds, and is told what it missed: topics,
not single things. Whatever is given out says where the follower stands afterwards, and holds all
that happened up to there: so that whoever goes on from a position has lost nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from polyplane.model.live import Batch, FeedPosition, Update

UPDATES_MAX: Final = 2_000
BYTES_MAX: Final = 1 << 20
"""Of events, about: the only ones that are large."""


class Pending:
    """The updates of one follower that wait to be given out."""

    def __init__(
        self,
        position: FeedPosition,
        *,
        updates_max: int = UPDATES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.position = position
        self._updates_max = updates_max
        self._bytes_max = bytes_max
        self._updates: dict[tuple[str, str], tuple[Update, int]] = {}
        self._bytes = 0
        self._lagged: dict[str, None] = {}
        self._reset = ""

    def __len__(self) -> int:
        return len(self._updates)

    @property
    def has_any(self) -> bool:
        """Whether there is anything to be told."""
        return bool(self._updates or self._lagged or self._reset)

    def put(self, update: Update, size: int = 0) -> None:
        """Note one, in the place of an earlier one of the same. `size`: its bytes, of an event."""
        if update.topic in self._lagged:
            return
        self._drop(update.one)
        while len(self._updates) >= self._updates_max or self._bytes + size > self._bytes_max:
            victim = self._largest(update.topic, size)
            self.lag(victim)
            if victim == update.topic:
                return
        self._updates[update.one] = (update, size)
        self._bytes += size

    def put_before(self, updates: Sequence[tuple[Update, int]]) -> None:
        """Note what happened before all that is here; what is here of the same is the later one."""
        later, self._updates, self._bytes = self._updates, {}, 0
        for update, size in updates:
            if update.one not in later:
                self.put(update, size)
        for update, size in later.values():
            self.put(update, size)

    def lag(self, topic: str) -> None:
        """Leave out what is there of `topic`, and what comes until that is told."""
        for one in [one for one, (it, _) in self._updates.items() if it.topic == topic]:
            self._drop(one)
        self._lagged[topic] = None

    def reset(self, why: str, position: FeedPosition) -> None:
        """Forget everything: the follower begins anew at `position`."""
        self._updates.clear()
        self._lagged.clear()
        self._bytes = 0
        self._reset, self.position = why, position

    def take(self) -> Batch:
        """All of it, once."""
        updates = tuple(it for it, _ in self._updates.values())
        batch = Batch(self.position, updates, tuple(self._lagged), self._reset)
        self._updates.clear()
        self._lagged.clear()
        self._bytes, self._reset = 0, ""
        return batch

    def _largest(self, topic: str, size: int) -> str:
        """The topic that takes most of what there is too much of: others are not to suffer."""
        is_bytes = self._bytes + size > self._bytes_max
        taken = Counter({topic: size if is_bytes else 1})
        for update, each in self._updates.values():
            taken[update.topic] += each if is_bytes else 1
        return taken.most_common(1)[0][0]

    def _drop(self, one: tuple[str, str]) -> None:
        _, size = self._updates.pop(one, (None, 0))
        self._bytes -= size
