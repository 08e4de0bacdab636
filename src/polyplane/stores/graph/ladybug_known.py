"""What the thread that writes to Ladybug knows of a table without looking. Pure.

Nobody else writes, so what was seen empty holds what was put there since, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

WHOLE_MAX: Final = 4_000_000
"""So many keys of a table are kept in mind (32 MB), to say that others are not there."""
THERE_MAX: Final = 200_000
"""So many keys of a table are kept in mind (about 20 MB), to say that they are there."""


class Known:
    """Keys of one table. Made anew with the process, and after every error."""

    def __init__(self, *, is_empty: bool) -> None:
        """`is_empty`: the table was seen to be so just now."""
        self._is_whole = is_empty
        self._count = 0
        self._sorted: list[npt.NDArray[np.int64]] = []
        self._there: set[str] = set()

    def perhaps(self, keys: Sequence[str]) -> list[str]:
        """Those that may be there; all others are certainly not."""
        if not self._is_whole:
            return list(keys)
        if not self._sorted or not keys:
            return []
        hashes = _hashed(keys)
        found = np.zeros(len(keys), dtype=bool)
        for some in self._sorted:
            at = np.searchsorted(some, hashes)
            at[at == len(some)] = 0
            found |= some[at] == hashes
        return [key for key, is_found in zip(keys, found.tolist(), strict=True) if is_found]

    def lacking(self, keys: Iterable[str]) -> list[str]:
        """Those of which it is not certain that they are there."""
        return [key for key in keys if key not in self._there]

    def found(self, keys: Iterable[str]) -> None:
        """They are there."""
        self._there.update(keys)
        if len(self._there) > THERE_MAX:
            self._there.clear()

    def put(self, keys: Sequence[str]) -> None:
        """They are there now, and were not before."""
        if not self._is_whole or not keys:
            return
        self._count += len(keys)
        if self._count > WHOLE_MAX:
            self._is_whole = False
            self._sorted.clear()
            return
        made = np.sort(_hashed(keys))
        while self._sorted and len(self._sorted[-1]) <= len(made):
            # Two runs in order: a stable sort merges them.
            made = np.sort(np.concatenate([self._sorted.pop(), made]), kind="stable")
        self._sorted.append(made)


def _hashed(keys: Sequence[str]) -> npt.NDArray[np.int64]:
    """Two keys may share one: then the second is looked for, and not found."""
    return np.fromiter(map(hash, keys), np.int64, len(keys))
