"""Digests of what truth and a store have, key by key, that can be written down and gone on with.

A hash cannot be saved half way. So the lines of a bucket are digested in segments of SEGMENT, each
digest beginning with that of the segment before it: what it comes to depends on the lines and
their order, and neither on how they came in batches nor on how often one stopped between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, Self

from polyplane.model.key import BUCKETS, bucket_of

SEGMENT: Final = 256
"""Lines of a segment: what waits for its end is saved as text, so it is kept small."""


class Sums:
    """Digests of lines in key order, one for each bucket of keys."""

    def __init__(self) -> None:
        self._chains = [b""] * BUCKETS
        self._waiting: list[list[str]] = [[] for _ in range(BUCKETS)]

    def add(self, lines: Sequence[Sequence[str]]) -> None:
        """Go on with what each bucket has more."""
        for bucket, more in enumerate(lines):
            waiting = self._waiting[bucket]
            waiting += more
            if len(waiting) >= SEGMENT:
                self._close(bucket)

    def _close(self, bucket: int) -> None:
        """Digest the segments that are whole."""
        waiting = self._waiting[bucket]
        whole = len(waiting) - len(waiting) % SEGMENT
        for start in range(0, whole, SEGMENT):
            segment = waiting[start : start + SEGMENT]
            self._chains[bucket] = _chained(self._chains[bucket], segment)
        del waiting[:whole]

    def digests(self) -> tuple[str, ...]:
        """Of each bucket up to here, in hexadecimal."""
        return tuple(map(_ended, self._chains, self._waiting))

    def copy(self) -> Self:
        """The same, to go on otherwise."""
        return type(self).of_state(self.state())

    def state(self) -> dict[str, Any]:
        """As plain values, as JSON has them."""
        return {
            "chains": [chain.hex() for chain in self._chains],
            "waiting": [list(lines) for lines in self._waiting],
        }

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Self:
        """What `state` was taken of."""
        found = cls()
        found._chains = [bytes.fromhex(chain) for chain in state["chains"]]
        found._waiting = [list(lines) for lines in state["waiting"]]
        return found


def _chained(chain: bytes, lines: Sequence[str]) -> bytes:
    found = blake2b(chain, digest_size=16)
    found.update("".join(lines).encode())
    return found.digest()


def _ended(chain: bytes, lines: Sequence[str]) -> str:
    return _chained(chain, lines).hex()


def lines_of(pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """What is digested of keys and digests, for each bucket."""
    lines: list[list[str]] = [[] for _ in range(BUCKETS)]
    for key, found in pairs:
        lines[bucket_of(key)].append(f"{key}\0{found}\0")
    return lines
