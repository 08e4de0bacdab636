"""Markdown: its text is as it was written; blocks and headings say where it may be cut. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from pyromark import Markdown, Options

from polyplane.domains.assistant.parsing.extract import (
    ITEM,
    PARAGRAPH,
    Extract,
    section,
    shortened,
)

_TITLE: Final = re.compile(r"^title:[ \t]*[\"']?([^\n]{1,300}?)[\"']?[ \t]*$", re.MULTILINE)
_PARSER: Final = Markdown(
    options=Options.ENABLE_TABLES
    | Options.ENABLE_FOOTNOTES
    | Options.ENABLE_STRIKETHROUGH
    | Options.ENABLE_YAML_STYLE_METADATA_BLOCKS
)
_FRONT: Final = {"MetadataBlock": "YamlStyle"}


def read_markdown(text: str) -> Extract:
    """What a Markdown file holds. Its title is that of its front matter, else its first heading."""
    extract, spots = Extract(text), _Spots(text)
    depth, level, place, words, is_headed = 0, 0, 0, list[str](), False
    for event, spot in _PARSER.events_with_range(text):
        if isinstance(event, str):
            if event == "Rule" and not depth:
                _cut(extract, spots.place(spot["start"]), PARAGRAPH)
                is_headed = False
            continue
        kind, tag = next(iter(event.items()))
        if kind == "Start":
            if not depth or (depth == 1 and tag == "Item"):
                level = _level(tag)
                place = spots.place(spot["start"])
                if not is_headed:
                    _cut(extract, place, section(level) if level else ITEM if depth else PARAGRAPH)
                is_headed = level > 0
                words = []
                if tag == _FRONT and (title := _TITLE.search(text, 0, spots.place(spot["end"]))):
                    extract.title = shortened(title[1])
            depth += 1
        elif kind == "End":
            depth -= 1
            if level and not depth:
                if heading := shortened("".join(words)):
                    extract.headings.append((place, level, heading))
                level = 0
        elif level and kind in ("Text", "Code"):
            words.append(str(tag))
    if not extract.title and extract.headings:
        extract.title = extract.headings[0][2]
    return extract


def _level(tag: Any) -> int:
    """The level of a heading; 0 of anything else."""
    heading = tag.get("Heading") if isinstance(tag, dict) else None
    return int(heading["level"][1:]) if heading else 0


def _cut(extract: Extract, place: int, strength: int) -> None:
    if place and (not extract.cuts or extract.cuts[-1][0] < place):
        extract.cuts.append((place, strength))


class _Spots:
    """Places in bytes of UTF-8, as the parser tells them, in characters; ascending ones fast."""

    def __init__(self, text: str) -> None:
        self._bytes = None if text.isascii() else text.encode()
        self._spot = self._place = 0

    def place(self, spot: int) -> int:
        """The character at the byte `spot`."""
        if self._bytes is None:
            return spot
        if spot < self._spot:
            return len(self._bytes[:spot].decode(errors="replace"))
        self._place += len(self._bytes[self._spot : spot].decode(errors="replace"))
        self._spot = spot
        return self._place
