"""Merkle trees as RFC 6962 has them: one root over many leaves, and short proofs that one is in."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY = sha256(b"").digest()


def leaf(content: bytes) -> bytes:
    """The hash of one leaf; never that of a node."""
    return sha256(b"\0" + content).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over the hashes of leaves, in their order."""
    level = list(leaves) or [EMPTY]
    while len(level) > 1:
        level = _above(level)
    return level[0]


def proof(leaves: Sequence[bytes], index: int) -> list[str]:
    """What, with leaf `index`, gives the root: `L` or `R` (where it stands) and a hash, in hex."""
    level, steps = list(leaves), []
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            steps.append(("L" if beside < index else "R") + level[beside].hex())
        level, index = _above(level), index // 2
    return steps


def root_by(leaf_hash: bytes, steps: Sequence[str]) -> bytes:
    """The root that follows from a leaf and its proof. Raises ValueError for what is no proof."""
    found = leaf_hash
    for it in steps:
        beside = bytes.fromhex(it[1:])
        if it[:1] not in ("L", "R") or len(beside) != 32:
            raise ValueError("This is no proof.")
        found = _node(beside, found) if it[0] == "L" else _node(found, beside)
    return found


def _above(level: list[bytes]) -> list[bytes]:
    """The next level; what has nobody beside it goes up as it is."""
    pairs = [_node(level[n], level[n + 1]) for n in range(0, len(level) - 1, 2)]
    return pairs + level[len(pairs) * 2 :]


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()
