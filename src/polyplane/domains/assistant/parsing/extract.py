"""What a reader hands to the chunker: text, and where it may be cut. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from polyplane.domains.assistant.parsing.parsed import Failure

# How good a place is to cut: a cut is made at the best there is.
GRAPHEME: Final = 0
WORD: Final = 1
LINE: Final = 2
SENTENCE: Final = 3
ITEM: Final = 4
PARAGRAPH: Final = 5
PAGE: Final = 6
_SECTION: Final = 13
LEVELS_MAX: Final = 6

HEADING_MAX: Final = 200
TITLE_MAX: Final = 300
VALUE_MAX: Final = 500

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_DIRECTION: Final = re.compile("[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")


class Refused(Exception):
    """Raised by a reader: the file cannot be read, for a reason that people understand."""

    def __init__(self, code: Failure, reason: str) -> None:
        super().__init__(reason)
        self.code: Failure = code
        self.reason = reason


def section(level: int) -> int:
    """How good it is to cut before a heading of `level`, 1 for the outermost."""
    return _SECTION - min(max(level, 1), LEVELS_MAX)


@dataclass(slots=True)
class Extract:
    """The text of a file. All places are in characters, and in ascending order.

    `cuts` are (place, how good), `headings` (place, level, text), `pages` (place, number).
    """

    text: str
    title: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    cuts: list[tuple[int, int]] = field(default_factory=list)
    headings: list[tuple[int, int, str]] = field(default_factory=list)
    pages: list[tuple[int, int]] = field(default_factory=list)


class Draft:
    """Text that is put together block by block, with an empty line between two."""

    def __init__(self, characters_max: int) -> None:
        self.extract = Extract("")
        self._parts: list[str] = []
        self._length = 0
        self._left = characters_max
        self._is_headed = False
        """Whether the block before is a heading: what follows stays with it."""

    def __len__(self) -> int:
        return self._length

    def block(self, text: str, strength: int = PARAGRAPH) -> None:
        """Add a paragraph, an item, a table's row. Raises Refused when all is too much."""
        if text := text.strip("\n"):
            self._add(text, strength)
            self._is_headed = False

    def heading(self, level: int, text: str) -> None:
        """Add a heading; the outermost have level 1."""
        text = " ".join(text.split())
        if text:
            place = self._add(text, section(level))
            self.extract.headings.append((place, level, shortened(text)))
            self._is_headed = True

    def page(self, number: int) -> None:
        """What follows is on the page `number`."""
        place = self._length + (2 if self._parts else 0)
        if self.extract.pages and self.extract.pages[-1][0] == place:
            self.extract.pages.pop()
        self.extract.pages.append((place, number))

    def done(self) -> Extract:
        """All of it."""
        self.extract.text = "".join(self._parts)
        return self.extract

    def _add(self, text: str, strength: int) -> int:
        text = clean(text)
        if self._parts:
            self._parts.append("\n\n")
            self._length += 2
        place = self._length
        self._left -= len(text) + 2
        if self._left < 0:
            raise Refused("too_large", "it holds more text than is read of one file")
        if place and not self._is_headed:
            self.extract.cuts.append((place, strength))
        self._parts.append(text)
        self._length += len(text)
        return place


def clean(text: str) -> str:
    """`text` as PostgreSQL stores it and people see it: lines end in one way, no NUL, no half of a
    surrogate pair.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def shortened(text: str, length: int = HEADING_MAX) -> str:
    """`text` on one line of at most `length` characters."""
    line = " ".join(clean(text[: 8 * length]).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def directions(text: str) -> int:
    """How many signs that turn the direction of writing are in it: what is seen may be in another
    order than what is stored. They are kept.
    """
    return 0 if text.isascii() else len(_DIRECTION.findall(text))
