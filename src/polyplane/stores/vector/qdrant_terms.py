"""What a text is found by in Qdrant: a sparse vector of its terms, weighed as BM25 does. Pure.

The server multiplies with how rare a term is (`Modifier.IDF`); how often a text says it, and how
long the text is, is in the weights we store.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from hashlib import blake2b
from math import isclose
from typing import Any, Final

from qdrant_client import models

from polyplane.model.terms import asked, terms

NAME: Final = "_terms"
PARAMS: Final = models.SparseVectorParams(modifier=models.Modifier.IDF)
K1: Final = 1.2
B: Final = 0.75
TERMS_USUAL: Final = 128
"""How long a text usually is: a chunk. The server does not know the average."""
_KNOWN: Final = 65_536


def weighed(text: str, language: str) -> models.SparseVector:
    """The terms of a text and their weights; none for a text without any."""
    found = terms(text, language)
    length = K1 * (1 - B + B * len(found) / TERMS_USUAL)
    weights: dict[int, float] = {}
    for term, times in Counter(found).items():
        weight = times * (K1 + 1) / (times + length)
        number = _number(term)
        weights[number] = weights.get(number, 0.0) + weight
    return models.SparseVector(indices=list(weights), values=list(weights.values()))


def asked_for(question: str, language: str) -> models.SparseVector:
    """The terms of a question, each as weighty as the others."""
    numbers = list(dict.fromkeys(map(_number, asked(question, language))))
    return models.SparseVector(indices=numbers, values=[1.0] * len(numbers))


def is_of(held: Any, text: str, language: str) -> bool:
    """Whether this is what `text` is found by; a server keeps numbers of 32 bits."""
    wanted = weighed(text, language)
    if held is None:
        return not wanted.indices
    kept = dict(zip(held.indices, held.values, strict=True))
    return kept.keys() == set(wanted.indices) and all(
        isclose(kept[number], weight, rel_tol=1e-5)
        for number, weight in zip(wanted.indices, wanted.values, strict=True)
    )


@lru_cache(maxsize=_KNOWN)
def _number(term: str) -> int:
    """A term as a number of 32 bits: of a million terms some hundred share one with another."""
    return int.from_bytes(blake2b(term.encode(), digest_size=4).digest(), "big")
