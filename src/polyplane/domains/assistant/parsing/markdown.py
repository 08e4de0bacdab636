"""Markdown: its text is as it was written; blocks and headings say where it may be cut. Pure."""

from __future__ import annotations

import re
from functools import cache
from itertools import accumulate
from typing import Final

from markdown_it import MarkdownIt

from polyplane.domains.assistant.parsing.extract import (
    ITEM,
    PARAGRAPH,
    Extract,
    section,
    shortened,
)

# Each of these looks at a character a bounded number of times, whatever the text.
_FRONT: Final = re.compile(r"\A---[ \t]*\n(?:[^\n]{0,500}\n){0,100}?(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_TITLE: Final = re.compile(r"^title:[ \t]*[\"']?([^\n]{1,300}?)[\"']?[ \t]*$", re.MULTILINE)
_LINK: Final = re.compile(r"!?\[([^\[\]]*)\](?:\([^()\s]*(?: \"[^\"()]*\")?\)|\[[^\[\]]*\])")
_NO_TEXT: Final = re.compile(r"<[^<>]*>|(?<!\w)[*_]{1,3}|[*_]{1,3}(?!\w)|`+|\{#[\w-]+\}")


def read_markdown(text: str) -> Extract:
    """What a Markdown file holds. Its title is that of its front matter, else its first heading."""
    extract = Extract(text)
    front = _FRONT.match(text)
    base = front.end() if front else 0
    if front and (title := _TITLE.search(front[0])):
        extract.title = shortened(title[1])
    body = text[base:]
    lines = list(accumulate((len(line) + 1 for line in body.split("\n")), initial=base))
    is_headed, waiting = False, 0
    for token in _parser().parse(body):
        if token.type == "inline":
            if waiting:
                words = shortened(_words(token.content))
                if words:
                    extract.headings.append((place, waiting, words))
                waiting = 0
            continue
        if token.map is None or token.nesting < 0 or token.level > 1:
            continue
        if token.level and token.type != "list_item_open":
            continue
        place = lines[token.map[0]]
        is_heading = token.type == "heading_open" and not token.level
        waiting = int(token.tag[1:]) if is_heading else 0
        strength = section(waiting) if is_heading else ITEM if token.level else PARAGRAPH
        if place and not is_headed and (not extract.cuts or extract.cuts[-1][0] < place):
            extract.cuts.append((place, strength))
        is_headed = is_heading
    if not extract.title and extract.headings:
        extract.title = extract.headings[0][2]
    return extract


def _words(heading: str) -> str:
    return _NO_TEXT.sub("", _LINK.sub(r"\1", heading))


@cache
def _parser() -> MarkdownIt:
    # What is within a paragraph is not parsed: that can take time by the square of its length.
    return MarkdownIt("commonmark").enable("table").disable("inline")
