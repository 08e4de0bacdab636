"""What comes of a file: its text in chunks, or why it cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

CHUNKER_VERSION: Final = 1
"""Raise it when the same file comes out as other text or other chunks."""

Failure = Literal[
    "empty",
    "too_large",
    "encrypted",
    "damaged",
    "unsupported",
    "too_deep",
    "bomb",
    "timeout",
    "memory",
    "crashed",
    "no_text",
    "binary",
    "unreachable",
]
"""Why a file cannot be read: `docs/documents.md` says what each means."""

Source = tuple[str, str | None, bytes | Path]
"""A file to read: its name, its media type as far as it is known, and its bytes or where it is."""


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """How text is cut: no chunk is longer than `size`, and each begins `overlap` or fewer before
    the end of the one before. Both in characters (code points), overlap included in size.
    """

    size: int = 1_200
    overlap: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for sizes that cannot be kept."""
        if not 100 <= self.size <= 100_000:
            raise ValueError("size is from 100 to 100,000 characters")
        if not 0 <= self.overlap <= self.size // 2:
            raise ValueError("overlap is from 0 to half the size")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document's text: `text` is what stands from `start` to `end`, in characters.

    `heading` are the headings above its beginning, the outermost first. `page` counts from 1, in
    documents that have pages.
    """

    ordinal: int
    start: int
    end: int
    text: str
    heading: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file that was read. The chunks cover its text, `text_length` characters, without gaps.

    `media_type` is what the file is, whatever was said of it; `metadata` is JSON.
    """

    media_type: str
    title: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    text_length: int = 0
    chunks: tuple[Chunk, ...] = ()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that cannot be read, and why: `reason` is a clause for people, without the name."""

    code: Failure
    reason: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one file may cost. What needs more comes back as Unreadable."""

    file_bytes: int = 64 << 20
    """Larger files are not looked at."""
    text_characters: int = 5_000_000
    memory_bytes: int = 1 << 30
    """Of the address space of a process that reads."""
    cpu_s: int = 8
    wall_s: float = 8.5
    """Longer than `cpu_s`: on a machine that has much to do, a file waits for its turn."""
