"""Text cut into chunks, where its structure says. Pure.

A place is cut when what lies between the next better places on both sides is longer than a chunk
may be. So it depends on what is near it whether a place is cut, and not on the length of the text
before: a small edit changes few chunks. Of equally good places a digest of what follows tells which
is better; small pieces are then joined with a neighbour.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from heapq import heapify, heappop
from typing import TYPE_CHECKING, Final
from unicodedata import category
from zlib import crc32

from polyplane.domains.assistant.parsing.extract import (
    GRAPHEME,
    LEVELS_MAX,
    LINE,
    SENTENCE,
    WORD,
    Extract,
    section,
)
from polyplane.domains.assistant.parsing.parsed import Chunk, ChunkOptions

if TYPE_CHECKING:
    from semantic_text_splitter import TextSplitter

_LOOK: Final = 32
"""Characters after a place that make it better or worse than others of its kind."""
_SMALL: Final = 4
"""A piece shorter than this part of what is allowed is joined with a neighbour."""

# Each looks at a character a bounded number of times: long runs of spaces are one match.
_SENTENCE: Final = re.compile(r"(?<=[.!?…])[\"'”’)\]]{0,4}\s+|[。！？](?=[^。！？])")
_LINE: Final = re.compile(r"\n+")
_SPACE: Final = re.compile(r"\s+")
_FINER: Final = ((SENTENCE, _SENTENCE), (LINE, _LINE), (WORD, _SPACE))
_BASE: Final = 1 << 32
_NEAR: Final = 32
"""Characters before a place at which a run without spaces is cut at the latest."""


def chunks_of(extract: Extract, options: ChunkOptions) -> tuple[Chunk, ...]:
    """The chunks of a text, which cover it without gaps; none is longer than `options.size`."""
    text = extract.text
    limit = options.size - options.overlap
    if len(text) <= limit:
        pieces = [0] if text else []
    else:
        pieces = _joined(_cuts(text, _refined(text, extract.cuts, limit), limit), len(text), limit)
    paths = _paths(extract.headings)
    places = [place for place, _, _ in extract.headings]
    page_places = [place for place, _ in extract.pages]
    chunks = []
    for ordinal, begin in enumerate(pieces):
        end = pieces[ordinal + 1] if ordinal + 1 < len(pieces) else len(text)
        start = _overlapping(text, begin, options.overlap)
        page = bisect_right(page_places, begin)
        chunks.append(
            Chunk(
                ordinal,
                start,
                end,
                text[start:end],
                paths[bisect_right(places, begin)],
                extract.pages[page - 1][1] if page else None,
            )
        )
    return tuple(chunks)


def _paths(headings: Sequence[tuple[int, int, str]]) -> list[tuple[str, ...]]:
    """The headings above: of what stands before the first, and of what follows each."""
    paths: list[tuple[str, ...]] = [()]
    above = list[tuple[int, str]]()
    for _, level, words in headings:
        while above and above[-1][0] >= level:
            above.pop()
        above.append((level, words))
        paths.append(tuple(it for _, it in above))
    return paths


def _refined(text: str, cuts: Iterable[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """`cuts`, and finer ones within what is too long between them."""
    refined, before = list[tuple[int, int]](), 0
    for place, strength in cuts:
        if before < place < len(text):
            if place - before > limit:
                refined += _finer(text, before, place, limit)
            refined.append((place, strength))
            before = place
    if len(text) - before > limit:
        refined += _finer(text, before, len(text), limit)
    return refined


def _finer(text: str, start: int, end: int, limit: int, kind: int = 0) -> Iterator[tuple[int, int]]:
    """Places within what stands from `start` to `end`: between sentences, else lines, else words,
    else where one sign ends and another begins.
    """
    if kind == len(_FINER):
        near = min(_NEAR, limit // 4)
        # A place may be so much earlier, and the next not: they are still near enough.
        for place in range(start + limit - near, end, limit - near):
            yield _between_signs(text, place, near), GRAPHEME
        return
    strength, pattern = _FINER[kind]
    before = start
    for match in pattern.finditer(text, start, end):
        place = match.end()
        if before < place < end and not _is_joined(text[place]):
            if place - before > limit:
                yield from _finer(text, before, place, limit, kind + 1)
            yield place, strength
            before = place
    if end - before > limit:
        yield from _finer(text, before, end, limit, kind + 1)


def _between_signs(text: str, place: int, near: int) -> int:
    """A place at `place` or less than `near` before it, where no sign is cut in two, nor a word of
    a script that writes no spaces.
    """
    found = _splitter(near).chunk_indices(text[place - near : place + near])
    return place - near + found[1][0] if len(found) > 1 else place


@cache
def _splitter(size: int) -> TextSplitter:
    from semantic_text_splitter import TextSplitter  # large, and few files need it

    return TextSplitter(size, trim=False)


def _is_joined(char: str) -> bool:
    """Whether this character belongs to the sign of the one before."""
    if char < "\u0300":
        return False
    return (
        category(char) in ("Mn", "Me", "Mc")
        or char in "\u200c\u200d\uff9e\uff9f"
        or "\U0001f3fb" <= char <= "\U0001f3ff"
        or "\U000e0020" <= char <= "\U000e007f"
    )


def _cuts(text: str, places: Sequence[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """The places that are cut, with how good they are."""
    keys = [
        strength * _BASE + crc32(text[place : place + _LOOK].encode()) for place, strength in places
    ]
    ends, waiting = [len(text)] * len(keys), list[int]()
    starts = [0] * len(keys)
    for i, key in enumerate(keys):
        while waiting and keys[waiting[-1]] < key:
            ends[waiting.pop()] = places[i][0]
        starts[i] = places[waiting[-1]][0] if waiting else 0
        waiting.append(i)
    return [(places[i][0], key) for i, key in enumerate(keys) if ends[i] - starts[i] > limit]


def _joined(cuts: Sequence[tuple[int, int]], length: int, limit: int) -> list[int]:
    """Where pieces begin, once small ones are joined where they fit, at the worst places first."""
    starts = [0, *(place for place, _ in cuts)]
    before = list(range(-1, len(starts) - 1))
    after = list(range(1, len(starts) + 1))
    ends = [*starts[1:], length]
    waiting = [(key, i + 1) for i, (_, key) in enumerate(cuts)]
    heapify(waiting)
    gone = set[int]()
    small, headed = limit // _SMALL, section(LEVELS_MAX) * _BASE
    while waiting:
        key, i = heappop(waiting)
        left, right = before[i], after[i]
        sizes = starts[i] - starts[left], ends[i] - starts[i]
        # What stands under a heading goes to another section only when both are short.
        if sum(sizes) > limit or (max if key >= headed else min)(sizes) >= small:
            continue
        gone.add(i)
        ends[left], after[left] = ends[i], right
        if right < len(starts):
            before[right] = left
    return [start for i, start in enumerate(starts) if i not in gone]


def _overlapping(text: str, begin: int, overlap: int) -> int:
    """Where the chunk begins whose own text begins at `begin`: at a word, if one begins there."""
    start = max(begin - overlap, 0)
    if start in (0, begin):
        return start
    if (space := _SPACE.search(text, start, begin)) and space.end() < begin:
        start = space.end()
    while start < begin and _is_joined(text[start]):
        start += 1
    return start
