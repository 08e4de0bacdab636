"""What a projection derives, and what stores hold and give back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from typing_extensions import TypeVar

T = TypeVar("T", bound=Mapping[str, Any], default=dict[str, Any])

Tag = str | int | float | bool | datetime | None
"""A value to filter by. Timestamps carry a zone."""


@dataclass(frozen=True, slots=True)
class Vector(Generic[T]):
    """What a `Vectors` projection derives from one row.

    `text` is stored and, when `embedding` is None, embedded by the plane's embedder. `tags` are
    stored, returned with hits and filterable.
    """

    text: str
    tags: T = field(default_factory=lambda: cast(T, {}))
    embedding: Sequence[float] | npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What a `Cached` projection derives from one row: a JSON value and its time to live.

    `marks` says whose it is. The plane fills it in, from the marks of the row.
    """

    value: Any
    ttl_s: int | None = None
    marks: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(slots=True)
class Item:
    """One thing to put in a store: canonical key, content digest, and the kind's content.

    For a vector store `content` is a `Vector` whose embedding is filled; for a cache an `Entry`;
    for a graph a `Node` or an `Edge`.
    """

    key: str
    digest: str
    content: Any


class Stamp(NamedTuple):
    """What a store really holds under `key`. `digest` is None for a tombstone."""

    key: str
    position: int
    digest: str | None


class Held(NamedTuple):
    """What a store really holds under a key, content included; a tombstone has none."""

    stamp: Stamp
    content: Any


class Hit(NamedTuple):
    """One search result, best first. The score is the cosine, in [-1, 1]; or, of what is found by
    words, their weight (BM25), above 0.
    """

    key: str
    score: float
    text: str
    tags: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Range:
    """A filter on an ordered tag: `Range(ge=0.7)`. Bounds are combined with AND."""

    ge: float | datetime | None = None
    gt: float | datetime | None = None
    le: float | datetime | None = None
    lt: float | datetime | None = None


Where = Mapping[str, Any]
"""A filter by tags: name -> value (equal), list of values (any of), or `Range`. All must hold."""
