"""Sample collections, items and filters, and what is true of them by definition."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from polyplane.model.collection import Collection
from polyplane.model.digest import digest
from polyplane.model.items import Item, Range, Vector, Where
from polyplane.model.scope import Scope

ALL: Final = Scope.everything
"""For samples that belong to nobody."""

NOTES: Final = Collection(
    name="notes",
    generation=1,
    kind="vector",
    dimensions=8,
    tag_types={"owner": str, "stars": int, "score": float, "done": bool, "seen": datetime},
    indexes=("owner", "stars", "done", "seen"),
)
UNTYPED: Final = Collection(name="loose", generation=1, kind="vector", dimensions=8)

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


def note(key: str, text: str | None = None, **tags: Any) -> Item:
    """An item of `NOTES`; its vector follows from its key."""
    dice = np.random.default_rng(list(key.encode()))
    vector = dice.standard_normal(NOTES.dimensions).astype(np.float32)
    text = f"text of {key}" if text is None else text
    return Item(key, digest([text, tags]), Vector(text, tags, vector / np.linalg.norm(vector)))


def notes(count: int) -> list[Item]:
    """Items `n-000` and so on, with tags of every type and some without a value."""
    return [
        note(
            f"n-{i:03}",
            owner=(None, "ada", "grace", "Ada")[i % 4],
            stars=(i % 7) - 3 if i % 5 else None,
            score=i / 10 if i % 3 else float(i),
            done=(None, True, False)[i % 3],
            seen=_START + timedelta(hours=i, microseconds=i) if i % 4 else None,
        )
        for i in range(count)
    ]


def content_of(item: Item) -> dict[str, Any]:
    """The tags of an item of `NOTES` as they must come back: each declared one, or None."""
    return {name: item.content.tags.get(name) for name in NOTES.tag_types}


def query(seed: int) -> list[float]:
    """A vector to search for."""
    made: list[float] = np.random.default_rng(seed).standard_normal(NOTES.dimensions).tolist()
    return made


def nearest(items: Sequence[Item], embedding: Sequence[float]) -> list[tuple[str, float]]:
    """Keys and cosines of `items`, best first."""
    vectors = np.asarray([item.content.embedding for item in items], dtype=np.float64)
    wanted = np.asarray(embedding)
    cosines = vectors @ wanted / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted))
    return sorted(
        ((item.key, float(cosine)) for item, cosine in zip(items, cosines, strict=True)),
        key=lambda scored: -scored[1],
    )


def matches(tags: dict[str, Any], where: Where) -> bool:
    """Whether `tags` satisfy `where`, by definition."""
    return all(_satisfies(tags.get(name), wanted) for name, wanted in where.items())


def _satisfies(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return value in wanted
    if not isinstance(wanted, Range):
        return bool(value == wanted)
    if wanted == Range():
        return True
    return value is not None and (
        (wanted.ge is None or value >= wanted.ge)
        and (wanted.gt is None or value > wanted.gt)
        and (wanted.le is None or value <= wanted.le)
        and (wanted.lt is None or value < wanted.lt)
    )


FILTERS: Final[list[Where]] = [
    {},
    {"owner": "ada"},
    {"owner": "Ada"},
    {"owner": "nobody"},
    {"owner": None},
    {"owner": ["ada", "grace"]},
    {"owner": ["ada", None]},
    {"owner": []},
    {"stars": 2},
    {"stars": -3},
    {"stars": [-1, 0, 5]},
    {"stars": Range(ge=1)},
    {"stars": Range(gt=0.5, le=2.5)},
    {"stars": Range(lt=-1.5)},
    {"score": 0.7},
    {"score": 3},
    {"score": [0.1, 0.2, 9]},
    {"score": Range(ge=0.7)},
    {"score": Range(gt=0.7, lt=4)},
    {"score": Range(le=1e-7)},
    {"score": Range()},
    {"done": True},
    {"done": False},
    {"done": [True, False]},
    {"done": None},
    {"seen": _START + timedelta(hours=5, microseconds=5)},
    {"seen": [_START + timedelta(hours=i, microseconds=i) for i in (5, 6)]},
    {"seen": Range(ge=_START + timedelta(hours=7, microseconds=7))},
    {"seen": Range(gt=_START + timedelta(hours=7, microseconds=7), lt=_START + timedelta(days=1))},
    {"owner": ["ada", "Ada"], "done": True, "score": Range(ge=1)},
]
"""Filters over `NOTES` of every form; `matches` says what each must find."""

REFUSED_FILTERS: Final[list[tuple[Where, str]]] = [
    ({"color": "red"}, "color"),
    ({"owner": "ada", "digest": "x"}, "digest"),
    ({"owner": 3}, "owner"),
    ({"owner": ["ada", 3]}, "owner"),
    ({"owner": Range(ge=3)}, "owner"),
    ({"owner": {"$ne": "ada"}}, "owner"),
    ({"stars": "3"}, "stars"),
    ({"stars": True}, "stars"),
    ({"stars": 1.5}, "stars"),
    ({"stars": 2**63}, "stars"),
    ({"score": float("nan")}, "score"),
    ({"score": Range(ge=float("inf"))}, "score"),
    ({"score": Range(ge=_START)}, "score"),
    ({"done": 1}, "done"),
    ({"done": Range(ge=0)}, "done"),
    ({"seen": "2026-01-01"}, "seen"),
    ({"seen": datetime(2026, 1, 1)}, "seen"),
    ({"seen": Range(ge=5)}, "seen"),
]
"""Filters over `NOTES` that no item can satisfy by type, and the tag at fault."""

REFUSED_TAGS: Final[list[dict[str, Any]]] = [
    {"color": "red"},
    {"owner": 3},
    {"stars": 1.5},
    {"stars": True},
    {"stars": 2**63},
    {"score": float("nan")},
    {"done": 1},
    {"seen": "2026-01-01"},
]
"""Tags that items of `NOTES` cannot have."""

HOSTILE: Final = [
    "'",
    "''",
    "\\",
    "\\'",
    "' OR 1=1 --",
    "x' OR 'x'='x",
    "x'; DROP TABLE notes; --",
    "`",
    '"',
    '"; DELETE FROM notes; --',
    "a\nb\tc\r",
    "%",
    "_",
    "NULL",
    "null",
    "true",
    "${jndi:x}",
    "{{7*7}}",
    "/* */",
    "\u2019 \u02bc \uff07",
    "\u202e right to left",
    "\U0001f680",
    "e\u0301",
    "digest",
    "[0]",
    "a.b",
]
"""Strings that mean something to some language, and must mean nothing to a store."""
