"""Source code: its text is as it was written; it is cut before definitions. Pure.

A definition is a line that begins like one in most languages. Nothing is parsed: what is nested or
broken does no harm, and no language is left out.
"""

from __future__ import annotations

import re
from typing import Final

from polyplane.domains.assistant.parsing.extract import (
    ITEM,
    PARAGRAPH,
    Extract,
    section,
    shortened,
)

_DEFINITION: Final = re.compile(
    r"[ \t]{0,12}(?:(?:export|default|public|private|protected|internal|static|final|abstract|"
    r"async|override|pub(?:\([\w:]{1,20}\))?|unsafe|extern|const|sealed|open|partial|inline|data|"
    r"case)[ \t]+){0,6}"
    r"(?P<kind>def|class|fn|func|fun|function|struct|enum|interface|impl|trait|module|namespace|"
    r"object|record|protocol|extension|type|sub|"
    r"CREATE[ \t]+(?:OR[ \t]+REPLACE[ \t]+)?[A-Z]{3,20})\b"
    r"[ \t]*(?:\([^()\n]{0,100}\)[ \t]*)?(?P<name>[\w.:$\"]{1,120})?"
)
_BEFORE: Final = re.compile(r"[ \t]*(?:@|#|//|/\*|\*|--|'''|\"\"\"|;;)")
_CALL: Final = re.compile(
    r"[A-Za-z_][\w \t*&:<>,~]{0,200}[ \t*&](?P<name>[\w:~]{1,120})\([^;]{0,300}$"
)
LINE_MAX: Final = 500
ABOVE_MAX: Final = 50
"""Lines of comments and decorators that are looked at above a definition."""


def read_code(text: str) -> Extract:
    """What source code holds. Headings are the names of what is defined; a file has no title."""
    extract, place, before = Extract(text), 0, ""
    run = list[tuple[int, str]]()
    """The lines of comments and decorators right above."""
    for line in text.split("\n"):
        found = _definition(line)
        start = run[0][0] if run else place
        if found is not None:
            level, name = found
            _cut(extract, start, section(level))
            if name:
                extract.headings.append((start, level, shortened(name)))
        elif line.strip() and not before.strip() and not run:
            _cut(extract, place, ITEM if line[0].isspace() else PARAGRAPH)
        is_above = bool(_BEFORE.match(line)) and found is None
        run = [*run, (place, line)] if is_above and len(run) < ABOVE_MAX else []
        place += len(line) + 1
        before = line
    return extract


def _cut(extract: Extract, place: int, strength: int) -> None:
    while extract.cuts and extract.cuts[-1][0] >= place:
        strength = max(strength, extract.cuts.pop()[1])
    if place:
        extract.cuts.append((place, strength))


def _definition(line: str) -> tuple[int, str] | None:
    """The level and the name of what a line defines, or None."""
    if len(line) > LINE_MAX or not line.strip():
        return None
    found = _DEFINITION.match(line)
    if found is None:
        # In C and its like a definition has no word of its own, but it is not indented.
        found = None if line[0].isspace() or "=" in line else _CALL.match(line)
        return (1, found["name"]) if found else None
    indent = len(line) - len(line.lstrip())
    if indent and found["kind"] in ("type", "case", "object", "data"):
        return None
    return min(1 + (indent + 3) // 4, 4), (found["name"] or "").rstrip(":")
