"""What comes in, and what became of it: the words between who brings and who keeps documents."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final, NamedTuple
from uuid import UUID

import polyplane as pp
from polyplane.domains.assistant.models import NAME_BYTES_MAX, SOURCES

ARRIVALS_MAX: Final = 500
"""Documents of one transaction, and of one saga that reads them."""
ARRIVAL_BYTES_MAX: Final = 4 << 20
"""Of their contents together, unless it is one alone."""
REASON_KEPT: Final = 500


class Outcome(StrEnum):
    """What became of an arrival: `again`: the same content is going to be read anew; `skipped`: it
    could not be taken, and there is nothing of it that was before.
    """

    NEW = "new"
    CHANGED = "changed"
    AGAIN = "again"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file by its source and name, with its content; or why there is none.

    `file_stamp` names the state of a file on disk: who sees it again need not read the file again.
    """

    source: str
    name: str
    content: bytes | None
    media_type: str = "application/octet-stream"
    file_stamp: str | None = None
    code: str = ""
    reason: str = ""
    sha256: str = field(init=False, default="")

    def __post_init__(self) -> None:
        """Raises Refused for what no document can be."""
        if self.source not in SOURCES:
            raise pp.Refused(f"A source is one of {', '.join(SOURCES)}.", field="source")
        if not 1 <= len(self.name.encode()) <= NAME_BYTES_MAX:
            raise pp.Refused(f"A name has from 1 to {NAME_BYTES_MAX:,} bytes.", field="name")
        if self.content is not None:
            object.__setattr__(self, "sha256", sha256(self.content).hexdigest())


class Place(NamedTuple):
    """What a document is known by, among those of its owner."""

    source: str
    name: str


class Known(NamedTuple):
    """What truth has of a document. `is_current`: it was read as documents are read now."""

    id: UUID
    sha256: str | None
    file_stamp: str | None
    state: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Landed:
    """One arrival, and its document."""

    name: str
    outcome: Outcome
    id: UUID | None = None

    @classmethod
    def of(cls, name: str, outcome: str, id: UUID | None) -> Landed:
        """As it was told over HTTP."""
        return cls(name, Outcome(outcome), id)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one transaction took in; `work` is the saga that reads what is to be read."""

    landed: tuple[Landed, ...] = ()
    work: UUID | None = None
    token: pp.Token | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that could not be read, and why."""

    name: str
    code: str
    reason: str
    id: UUID | None = None


@dataclass(slots=True)
class Work:
    """How far the reading of some documents is. Chunks are counted by what was done with them:
    `moved` ones kept their text, and with it their vector.
    """

    is_over: bool = False
    ready: int = 0
    chunks_new: int = 0
    chunks_moved: int = 0
    chunks_same: int = 0
    chunks_gone: int = 0
    failures: list[Failure] = field(default_factory=list)
