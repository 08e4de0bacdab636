"""What writers write down themselves, and what truth may therefore be. Pure but for the file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.crash.declared import COUNTERS

Write = tuple[int, int, int | None]
"""(first key, last key, their new version); no version: they are deleted."""


class Journal:
    """A file of lines, appended one by one: nobody who is killed takes back what is in it."""

    def __init__(self, path: Path, *, synced: bool = False) -> None:
        """`synced`: each line is on the disk before its writer goes on."""
        self._path = path
        self._file = path.open("a", buffering=1)
        self._synced = synced

    def note(self, **entry: Any) -> None:
        """Write one line."""
        self._file.write(json.dumps(entry) + "\n")
        if self._synced:
            os.fsync(self._file.fileno())

    def begun(self, tx: int, writes: Sequence[Write], counts: Sequence[int] = ()) -> None:
        """What a transaction is about to do, counters it will count up included."""
        self.note(tx=tx, writes=writes, counts=counts)

    def ended(self, tx: int, how: str) -> None:
        """`ok`, `no` (surely nothing happened), or `unknown`."""
        self.note(tx=tx, end=how)

    def entries(self) -> list[dict[str, Any]]:
        """All lines; a last one that was cut short by a kill is none."""
        return list(read(self._path))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal."""
    if path.exists():
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


class Expected:
    """What truth may be, by the writers' journals."""

    def __init__(self) -> None:
        self.may_be: dict[int, set[int | None]] = {}
        self.counted: dict[int, int] = {}
        self.perhaps_counted: dict[int, int] = {}
        self.acknowledged = 0
        self.unknown = 0
        self.transactions: dict[int, bool] = {}
        """Of the writer whose transactions emit an event: number -> acknowledged."""

    def take(self, entries: Iterable[dict[str, Any]]) -> None:
        """Add one writer's journal. Its transactions came one after the other."""
        begun: dict[str, Any] | None = None
        for entry in entries:
            if "writes" in entry:
                self._end(begun, "unknown")
                begun = entry
            elif "end" in entry:
                self._end(begun, entry["end"])
                begun = None
        self._end(begun, "unknown")

    def _end(self, begun: dict[str, Any] | None, how: str) -> None:
        if begun is None or how == "no":
            return
        sure = how == "ok"
        self.acknowledged += sure
        self.unknown += not sure
        self.transactions[begun["tx"]] = sure
        for key in begun["counts"]:
            counts = self.counted if sure else self.perhaps_counted
            counts[key] = counts.get(key, 0) + 1
        after: dict[int, int | None] = {}
        for first, last, version in begun["writes"]:
            after |= dict.fromkeys(range(first, last + 1), version)
        for key, version in after.items():
            if sure:
                self.may_be[key] = {version}
            else:
                self.may_be.setdefault(key, {None}).add(version)

    def lost(self, rows: dict[int, int]) -> list[int]:
        """Keys of `rows` (key -> version) that no longer show what was acknowledged."""
        wrong = [key for key, versions in self.may_be.items() if rows.get(key) not in versions]
        return wrong + [key for key, least in self.counted.items() if rows.get(key, 0) < least]

    def phantoms(self, rows: dict[int, int]) -> list[int]:
        """Keys of `rows` that nobody wrote, and counters that nobody counted so far."""
        strange = [key for key in rows if key >= COUNTERS and key not in self.may_be]
        for key in range(COUNTERS):
            most = self.counted.get(key, 0) + self.perhaps_counted.get(key, 0)
            if rows.get(key, 0) > most:
                strange.append(key)
        return strange
