"""What is found in Markdown and in plain text: headings, and the terms under them. Pure.

A heading holds those below it (`contains`) and covers the terms of its section; two terms of one
paragraph occur with each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from polyplane.domains.agents.learning.findings import Findings, shortened
from polyplane.domains.agents.learning.terms import key_of, terms_of

UNITS_MAX: Final = 20_000
"""Paragraphs of one file; the rest is not looked at."""
UNIT_TERMS_MAX: Final = 12
"""Terms of one paragraph that are paired: its first ones."""
HEADINGS_MAX: Final = 1_000

# Each of these looks at a character a bounded number of times, whatever the text.
_NUMBER: Final = re.compile(r"^(?:(?:chapter|section) )?\d+(?:[.):]\d+)*[.):]?\s+", re.IGNORECASE)
_LINK: Final = re.compile(r"!?\[([^\[\]]*)\](?:\([^()\s]*(?: \"[^\"()]*\")?\)|\[[^\[\]]*\])")
_NO_TEXT: Final = re.compile(r"<[^<>]*>|\bhttps?://\S+|(?<!\w)[*_]{1,3}|[*_]{1,3}(?!\w)|`+")
_UNDERLINE: Final = re.compile(r"^([=\-~^\"'*+#`])\1{2,}\s*$")


@dataclass(slots=True)
class Section:
    """A heading (none before the first) and the paragraphs under it."""

    heading: str = ""
    level: int = 0
    paragraphs: list[str] = field(default_factory=list)


def found_in_markdown(title: str, text: str) -> Findings:
    """What is found in a Markdown file; its first heading is its title, else `title`."""
    return _found(title, list(markdown_sections(text)))


def found_in_text(title: str, text: str) -> Findings:
    """What is found in plain text; a line that is underlined is a heading."""
    return _found(title, list(text_sections(text)))


def markdown_sections(text: str) -> Iterator[Section]:
    """The sections of a Markdown file, in order. Code and addresses are no text."""
    # What is within a paragraph is not parsed: that can take time by the square of its length.
    tokens = MarkdownIt("commonmark").enable("table").disable("inline").parse(text)
    section, is_heading, left = Section(), False, UNITS_MAX
    for token in tokens:
        if token.type == "heading_open":
            yield section
            section, is_heading = Section(level=int(token.tag[1:])), True
        elif token.type == "heading_close":
            is_heading = False
        elif token.type == "inline" and left:
            words = " ".join(_words(token).split())
            if is_heading:
                section.heading = words
            elif words:
                section.paragraphs.append(words)
                left -= 1
    yield section


def _words(token: Token) -> str:
    """The text of a paragraph, without links' addresses, emphasis and tags."""
    return _NO_TEXT.sub(" ", _LINK.sub(r"\1", token.content))


def text_sections(text: str) -> Iterator[Section]:
    """The sections of plain text: paragraphs between empty lines, under lines that are underlined,
    whose level follows from the order in which the kinds of line come first.
    """
    section, kinds, paragraph, left = Section(), "", list[str](), UNITS_MAX
    for line in [*text.splitlines(), ""]:
        if len(paragraph) == 1 and _UNDERLINE.match(line) and len(paragraph[0]) <= 200:
            kinds += line[0] if line[0] not in kinds else ""
            yield section
            section = Section(paragraph.pop(), kinds.index(line[0]) + 1)
        elif line.strip():
            paragraph.append(line.strip())
        elif paragraph:
            if left:
                section.paragraphs.append(" ".join(paragraph))
                left -= 1
            paragraph = []
    yield section


def _found(title: str, sections: list[Section]) -> Findings:
    headed = [it for it in sections if it.heading]
    found = Findings(shortened(headed[0].heading if headed else title, 500) or title, "text")
    terms = iter(terms_of([it for section in sections for it in section.paragraphs]))
    above: list[tuple[int, str]] = []
    left = HEADINGS_MAX
    for section in sections:
        heading = ""
        if section.heading and left:
            left -= 1
            heading = _headed(found, section, above)
        for _ in section.paragraphs:
            there = next(terms)
            for term in there:
                found.define(term, "term")
                found.relate(heading, term, "covers")
            for one, other in combinations(sorted(there[:UNIT_TERMS_MAX]), 2):
                found.relate(one, other, "occurs with")
    return found


def _headed(found: Findings, section: Section, above: list[tuple[int, str]]) -> str:
    """See the heading of a section, below those `above`; its name, or nothing."""
    name = key_of(_NUMBER.sub("", section.heading))
    summary = section.paragraphs[0] if section.paragraphs else None
    if not found.define(name, "heading", summary):
        return ""
    while above and above[-1][0] >= section.level:
        above.pop()
    if above:
        found.relate(above[-1][1], name, "contains")
    above.append((section.level, name))
    return name
