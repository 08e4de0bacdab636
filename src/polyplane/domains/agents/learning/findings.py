"""What is found in one file, and the ids of what becomes of it. Pure.

Every id is made of the tenant and of what it stands for, so that the same is found again under the
same id: by the next run, in another file, from another folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal
from uuid import UUID, uuid5

Family = Literal["python", "text"]
"""Whose names they are: `json` of Python is another concept than `json` in prose."""

VERSION: Final = 1
"""Raise it when something else is found in the same text: then all is learned anew."""
NAME_MAX: Final = 500
SUMMARY_MAX: Final = 300

_SPACE: Final = UUID("4e2d6d0c-4f7b-5c39-9b1e-6f0a5a3a7f11")

CATEGORIES: Final = ("module", "class", "function", "heading", "term")
"""What a concept can be where it is found, the one that tells most first."""
MENTIONED: Final = "name"
"""What a concept is that is only mentioned."""

WEIGHTS: Final[Mapping[str, float]] = {
    "inherits": 3.0,
    "contains": 2.0,
    "covers": 1.0,
    "imports": 1.0,
    "calls": 1.0,
    "occurs with": 0.5,
}
"""How much it says to see a relation of this type once."""


@dataclass(frozen=True, slots=True)
class View:
    """What a concept is in one file. `category` is None where it is mentioned and no more."""

    category: str | None = None
    summary: str | None = None


@dataclass(slots=True)
class Findings:
    """What one file holds: concepts by name, relations by (source, target, type), and how often
    each is seen. Both ends of a relation are among the concepts.
    """

    title: str
    family: Family
    views: dict[str, View] = field(default_factory=dict)
    mentions: dict[str, int] = field(default_factory=dict)
    relations: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def define(self, name: str, category: str, summary: str | None = None) -> bool:
        """See what `name` is; what tells most counts, then the first. Whether it is one to keep."""
        if not self.mention(name):
            return False
        known = self.views[name].category
        if known is None or CATEGORIES.index(category) < CATEGORIES.index(known):
            self.views[name] = View(category, shortened(summary) if summary else None)
        return True

    def mention(self, name: str, times: int = 1) -> bool:
        """See `name`. Whether it is one to keep."""
        if not 0 < len(name) <= NAME_MAX:
            return False
        self.views.setdefault(name, View())
        self.mentions[name] = self.mentions.get(name, 0) + times
        return True

    def relate(self, source: str, target: str, kind: str, times: int = 1) -> None:
        """See that `source` relates to `target`, both seen before. Nothing relates to itself."""
        if source != target and source in self.views and target in self.views:
            known = (source, target, kind)
            self.relations[known] = self.relations.get(known, 0) + times


def strength_of(kind: str, mentions: int) -> float:
    """How strong a relation is that was seen so often: above 0, and below 1, which it nears.

    It depends on nothing else, so what is learned in one place changes no strength in another.
    """
    weight = WEIGHTS.get(kind, 1.0) * mentions
    return weight / (weight + 1)


def concept_id(tenant: str, family: str, name: str) -> UUID:
    """The id of the concept `name`."""
    return _id("concept", tenant, family, name)


def relation_id(source: UUID, target: UUID, kind: str) -> UUID:
    """The id of a relation between two concepts."""
    return _id("relation", str(source), str(target), kind)


def discussion_id(tenant: str, path: str) -> UUID:
    """The id of the file at `path`, and of the discussion that it is."""
    return _id("file", tenant, path)


def _id(*parts: str) -> UUID:
    return uuid5(_SPACE, "\x1f".join(parts))


def digest_of(title: str, content: bytes) -> str:
    """What tells whether a file must be learned anew. A module's title is its dotted name, which a
    file beside it can change.
    """
    found = blake2b(f"{VERSION}\x1f{title}\x1f".encode("utf-8", "surrogatepass"), digest_size=16)
    found.update(content)
    return found.hexdigest()


def clean(text: str) -> str:
    """`text` as PostgreSQL stores it: without NUL, and without halves of surrogate pairs."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def shortened(text: str, length: int = SUMMARY_MAX) -> str:
    """`text` on one line of at most `length` characters, cut between words where there are any."""
    line = " ".join(clean(text[: 8 * length]).split())
    if len(line) <= length:
        return line
    cut = line[: length - 1]
    return f"{cut.rpartition(' ')[0] or cut}…"
