"""Rows that wait to be loaded in bulk, all at once. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import pyarrow as pa

WAITING_ROWS_MAX: Final = 400_000
WAITING_BYTES_MAX: Final = 1 << 26
"""So much that is to be loaded waits for more."""


class Waiting:
    """Rows of one collection that are to be loaded in bulk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = 0
        self._bytes = 0
        self._parts: dict[str, list[pa.Table]] = {}

    def add(self, parts: Mapping[str, pa.Table]) -> bool:
        """More of the same; whether it is enough now."""
        for target, rows in parts.items():
            self._parts.setdefault(target, []).append(rows)
            self.rows += rows.num_rows
            self._bytes += rows.nbytes
        return self.rows >= WAITING_ROWS_MAX or self._bytes >= WAITING_BYTES_MAX

    def parts(self) -> Iterator[tuple[str, pa.Table]]:
        """What to copy to, and the rows, in their order; nothing of what has none."""
        for target, some in self._parts.items():
            rows = pa.concat_tables(some)
            if rows.num_rows:
                yield target, rows
