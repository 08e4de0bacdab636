"""The embedder of tests: `deterministic://64` makes 64 numbers of each text, by hashing its words.

The same text gives the same vector on every machine and in every release; texts that share words
are near each other. It knows nothing of what words mean: it is no embedder to search with.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from polyplane.errors import Misconfigured
from polyplane.stores.protocol import Spent

DIMENSIONS_MAX: Final = 65_536
_WORDS_KEPT: Final = 4_096

Vectors = np.ndarray[Any, np.dtype[np.float32]]


async def connect(url: str, **options: Any) -> HashEmbedder:
    """`deterministic://<dimensions>`, from 2. Raises Misconfigured for anything else."""
    if options:
        raise Misconfigured(f"deterministic:// has no option {min(options)!r}.")
    asked = urlsplit(url).netloc
    if not asked.isdecimal() or not 2 <= int(asked) <= DIMENSIONS_MAX:
        raise Misconfigured(
            "The deterministic embedder's URL names its dimensions.", fix="deterministic://64"
        )
    return HashEmbedder(int(asked))


class HashEmbedder:
    """Sums of the directions of a text's words."""

    costs = False

    def __init__(self, dimensions: int) -> None:
        self.identity = f"deterministic-1-{dimensions}"
        self.dimensions = dimensions
        self.spent = Spent()
        self._direction = lru_cache(_WORDS_KEPT)(self._of_word)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32, shape (len(texts), dimensions). No word: the first unit vector."""
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in text.casefold().split():
                vector += self._direction(word)
            # Exact so far, in whatever order machines add: whole 128ths, and their squares.
            if length := np.sqrt(np.square(vector, dtype=np.float64).sum()):
                vector /= length
            else:
                vector[0] = 1
        return vectors

    async def close(self) -> None:
        """Nothing is open."""

    def _of_word(self, word: str) -> Vectors:
        """Numbers from -1 to 1 in whole 128ths."""
        count, found = -(-self.dimensions // 64), b""
        for block in range(count):
            salt = block.to_bytes(4, "little")
            found += blake2b(word.encode("utf-8", "surrogatepass"), salt=salt).digest()
        numbers = np.frombuffer(found, dtype=np.int8)[: self.dimensions]
        return numbers.astype(np.float32) / np.float32(128)
