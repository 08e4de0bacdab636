"""The offline embedder: WordLlama's static token vectors, 256 dimensions, from its wheel."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import wordllama
from wordllama import WordLlama

from polyplane.errors import Misconfigured
from polyplane.stores.protocol import Spent

DIMENSIONS: Final = 256
_CHUNK_TEXTS: Final = 512
_BATCH_CHARACTERS: Final = 4_000
_LONGEST_TEXT: Final = 20_000

Vectors = np.ndarray[Any, np.dtype[np.float32]]


async def connect(url: str, **options: Any) -> WordLlamaEmbedder:
    """`wordllama://`: the model that ships in the package; nothing is downloaded."""
    if options:
        raise Misconfigured(f"wordllama has no option {min(options)!r}.")
    threads = ThreadPoolExecutor(1, thread_name_prefix="embedder")
    loop = asyncio.get_running_loop()
    model = await loop.run_in_executor(threads, _load)
    return WordLlamaEmbedder(model, threads)


def _load() -> Any:
    return WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


class WordLlamaEmbedder:
    """Mean of static token vectors: deterministic, fast, and blind to word order."""

    dimensions = DIMENSIONS
    costs = False

    def __init__(self, model: Any, threads: ThreadPoolExecutor) -> None:
        self.identity = f"wordllama-{version('wordllama')}-{DIMENSIONS}"
        self.spent = Spent()
        self._model = model
        self._threads = threads

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32, shape (len(texts), 256).

        Only the first 20,000 characters of a text count. A text without any known token gets the
        first unit vector, so that its similarity to everything is defined.
        """
        loop = asyncio.get_running_loop()
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        cut = [text[:_LONGEST_TEXT] or " " for text in texts]
        order = sorted(range(len(cut)), key=lambda i: len(cut[i]))
        for start in range(0, len(order), _CHUNK_TEXTS):
            piece = order[start : start + _CHUNK_TEXTS]
            vectors[piece] = await loop.run_in_executor(
                self._threads, self._embed, [cut[i] for i in piece]
            )
        return vectors

    def _embed(self, texts: list[str]) -> Vectors:
        """Of texts in order of length. The model pads each batch to its longest text, so equal
        lengths together and fewer of the longer ones keep it fast and small."""
        together = _BATCH_CHARACTERS // len(texts[-1])
        vectors: Vectors = self._model.embed(texts, norm=False, batch_size=min(64, together + 1))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        empty = ~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0)
        vectors[empty] = np.eye(1, DIMENSIONS, dtype=np.float32)
        lengths[empty] = 1
        vectors /= lengths
        return vectors

    async def close(self) -> None:
        """Let the thread end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
