"""Whether what a reader sees ever goes back: pure, fed by whoever reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyplane.flow.packing import Place
from tests.crash.raw import Held

EXAMPLES_MAX = 20


class Watch:
    """Remembers what was seen last, and writes down every step back."""

    def __init__(self) -> None:
        self.inversions = 0
        self.repeated = 0
        self.examples: list[str] = []
        self._items: dict[tuple[str, str], tuple[int, int]] = {}
        self._pages: dict[str, Place] = {}
        self._events: set[tuple[int, int]] = set()
        self.transactions: set[int] = set()

    def items(self, store: str, held: Mapping[str, Held]) -> None:
        """A look at a whole store: positions and row versions of a key only grow."""
        for key, item in held.items():
            if not key.isdigit():  # damage, which a repair is to mend
                continue
            position, version = self._items.get((store, key), (0, 0))
            now = version if item.version is None else item.version
            if item.position < position or now < version:
                self._wrong(f"{store} {key}: {position}/{version} then {item.position}/{now}")
            self._items[store, key] = (max(position, item.position), max(version, now))

    def message(self, stream: str, place: Place, *, gap: bool) -> None:
        """The next message of a stream; `gap`: what was before it has been wiped."""
        last, self._pages[stream] = self._pages.get(stream), place
        if last is None or last.epoch < place.epoch:
            return
        if (place.epoch, place.prev, place.cur, place.after) == (
            last.epoch,
            last.prev,
            last.cur,
            last.after,
        ):
            fits = place.index == last.index + 1 or (gap and place.index > last.index)
        else:
            begins = place.index == 0 or gap
            ended = last.completes_page or gap
            same = (place.prev, place.cur) == (last.prev, last.cur) and place.after >= last.upto
            later = age(place.prev) >= age(last.cur)
            fits = begins and ended and (same or later or (gap and age(place.cur) > age(last.cur)))
            fits = fits and place.epoch == last.epoch
        if not fits:
            self._wrong(f"{stream}: {last} then {place}")

    def event(self, epoch: int, tx: int) -> None:
        """A domain event; in one epoch each comes once."""
        if (epoch, tx) in self._events:
            self.repeated += 1
        self._events.add((epoch, tx))
        self.transactions.add(tx)

    def _wrong(self, what: str) -> None:
        self.inversions += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(what)

    def report(self) -> dict[str, Any]:
        """All of it so far."""
        return {
            "inversions": self.inversions,
            "repeated": self.repeated,
            "examples": self.examples,
            "transactions": sorted(self.transactions),
            "items": len(self._items),
        }


def age(snapshot: str) -> tuple[int, int, int]:
    """What a later snapshot has more of: xmax, xmin, and fewer transactions in progress."""
    xmin, xmax, running = snapshot.split(":")
    return int(xmax), int(xmin), -len(running.split(",")) if running else 0
