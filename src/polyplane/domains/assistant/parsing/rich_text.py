"""RTF: its text, in paragraphs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from striprtf.striprtf import rtf_to_text

from polyplane.domains.assistant.parsing.extract import Draft, Extract, Refused

_EMPTY: Final = re.compile(r"\n+")
DEPTH_MAX: Final = 1_000
_READ: Final[Callable[..., str]] = rtf_to_text


def read_rtf(content: bytes, characters_max: int) -> Extract:
    """What an RTF file says. Raises Refused."""
    if not content.rstrip(b"\0\r\n\t ").endswith(b"}"):
        raise Refused("damaged", "it ends before its last group does")
    if content.count(b"{") > DEPTH_MAX and _depth(content) > DEPTH_MAX:
        raise Refused("too_deep", f"more than {DEPTH_MAX:,} groups in each other")
    draft, read = Draft(characters_max), _READ
    for paragraph in _EMPTY.split(read(content.decode("cp1252", "replace"), errors="replace")):
        draft.block(paragraph)
    return draft.done()


def _depth(content: bytes) -> int:
    depth = deepest = 0
    for match in re.finditer(rb"(?<!\\)[{}]", content):
        depth += 1 if match[0] == b"{" else -1
        deepest = max(deepest, depth)
    return deepest
