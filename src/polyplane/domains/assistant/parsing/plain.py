"""Plain text, reStructuredText, tables and records: their text is as it was written. Pure."""

from __future__ import annotations

import csv
import re
from typing import Final

from polyplane.domains.assistant.parsing.extract import (
    LINE,
    PARAGRAPH,
    VALUE_MAX,
    Extract,
    section,
    shortened,
)

_UNDERLINE: Final = re.compile(r"([=\-~^\"'*+#`:._])\1{2,}[ \t]*")
HEADING_LINE_MAX: Final = 120
COLUMNS_MAX: Final = 100


def read_text(text: str) -> Extract:
    """What plain text or reStructuredText holds: paragraphs between empty lines; a line that is
    underlined is a heading, whose level follows from the order in which kinds of line come first.
    """
    extract, kinds = Extract(text), ""
    place, start, lines, is_headed = 0, 0, list[str](), False
    for line in [*text.split("\n"), ""]:
        if line.strip():
            if not lines:
                start = place
            lines.append(line)
        elif lines:
            found = _heading(lines)
            if found is None:
                strength = PARAGRAPH
            else:
                sign, words = found
                kinds += sign if sign not in kinds else ""
                level = kinds.index(sign) + 1
                strength = section(level)
                extract.headings.append((start, level, shortened(words)))
            if start and not is_headed:
                extract.cuts.append((start, strength))
            is_headed = found is not None and len(lines) <= 3
            lines = []
        place += len(line) + 1
    if extract.headings:
        extract.title = extract.headings[0][2]
    return extract


def _heading(lines: list[str]) -> tuple[str, str] | None:
    """The sign a paragraph's heading is underlined with, and the heading; None when it has none."""
    if len(lines) >= 3 and (over := _UNDERLINE.fullmatch(lines[0])) and lines[2][0] == over[1]:
        words, under = lines[1], _UNDERLINE.fullmatch(lines[2])
        sign = over[1].upper() if under else ""
        return (f"{sign}", words) if under and len(words) <= HEADING_LINE_MAX else None
    if len(lines) < 2 or len(lines[0]) > HEADING_LINE_MAX:
        return None
    under = _UNDERLINE.fullmatch(lines[1])
    if under is None or _UNDERLINE.fullmatch(lines[0]) or len(lines[1]) < len(lines[0]) // 2:
        return None
    return under[1], lines[0]


def read_records(text: str) -> Extract:
    """What JSON, YAML, XML as text, logs and the like hold: lines."""
    extract, place = Extract(text), 0
    for line in text.split("\n"):
        if place and line:
            is_outer = not line[0].isspace()
            extract.cuts.append((place, PARAGRAPH if is_outer else LINE))
        place += len(line) + 1
    return extract


def read_table(text: str) -> Extract:
    """What comma- or tab-separated values hold: rows. The first names the columns."""
    extract = read_records(text)
    first = text[: VALUE_MAX * 8].split("\n", 1)[0]
    sign = max("\t,;|", key=first.count)
    try:
        columns = next(csv.reader([first], delimiter=sign), [])
    except csv.Error:
        columns = []
    extract.metadata["columns"] = [shortened(it) for it in columns[:COLUMNS_MAX]]
    return extract
