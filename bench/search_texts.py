"""Texts to search in: documentation that comes with the standard library and with botocore."""

from __future__ import annotations

import gzip
import html
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import botocore
import orjson

CHUNK: Final = 600
"""Characters of a chunk, about; that of the assistant's documents are as long."""
_CHUNK_MIN: Final = 80
_DOCSTRING: Final = re.compile(r'"""(.{80,}?)"""', re.DOTALL)
_MARKUP: Final = re.compile(r"<[^>]+>")
_SPACES: Final = re.compile(r"\s+")
_SENTENCE: Final = re.compile(r"(?<=[.!?:])\s+")
_WORD: Final = re.compile(r"[A-Za-z]{4,}")


def texts(count: int) -> list[str]:
    """`count` different chunks, the same each time. ValueError when there are not so many."""
    found: dict[str, None] = {}
    for chunk in _chunks():
        found[chunk] = None
        if len(found) == count:
            return list(found)
    raise ValueError(f"There are only {len(found)} chunks to be had.")


def questions(chunks: list[str], count: int, seed: int = 8) -> list[str]:
    """What somebody may look for: a few words that stand together in some chunk."""
    dice = random.Random(seed)
    made: list[str] = []
    while len(made) < count:
        known = _WORD.findall(dice.choice(chunks))
        if len(known) >= 12:
            first = dice.randrange(len(known) - 8)
            some = known[first : first + 8]
            made.append(" ".join(word.lower() for word in some[:: dice.choice((1, 2))]))
    return made


def _chunks() -> Iterator[str]:
    for path in sorted(Path(sys.modules["os"].__file__ or "").parent.glob("*.py")):
        for docstring in _DOCSTRING.findall(path.read_text(errors="replace")):
            yield from _cut(f"{path.stem}. {docstring}")
    for path in sorted(Path(botocore.__file__).parent.glob("data/*/*/service-2.json.gz")):
        for text in _documented(orjson.loads(gzip.decompress(path.read_bytes()))):
            yield from _cut(text)


def _documented(service: dict[str, Any]) -> Iterator[str]:
    """What a description of a service says of its operations and of what they take and give."""
    name = service["metadata"].get("serviceId", "")
    for title, operation in service["operations"].items():
        if said := operation.get("documentation"):
            yield f"{name} {title}. {said}"
    for title, shape in service["shapes"].items():
        said = [shape.get("documentation", "")]
        for member, each in shape.get("members", {}).items():
            said.append(f"{member}: {each.get('documentation', '')}")
        yield f"{name} {title}. {' '.join(said)}"


def _cut(text: str) -> Iterator[str]:
    """Chunks of whole sentences."""
    plain = _SPACES.sub(" ", html.unescape(_MARKUP.sub(" ", text))).strip()
    chunk = ""
    for sentence in _SENTENCE.split(plain):
        if chunk and len(chunk) + len(sentence) > CHUNK:
            if len(chunk) >= _CHUNK_MIN:
                yield chunk
            chunk = ""
        chunk = f"{chunk} {sentence[: 2 * CHUNK]}".strip()
    if len(chunk) >= _CHUNK_MIN:
        yield chunk
