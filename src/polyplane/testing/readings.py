"""A sample stream, its points and filters, and what is true of them by definition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final
from uuid import UUID

import numpy as np
import pyarrow as pa

from polyplane.model.items import Range, Where
from polyplane.model.points import EVENT_ID, EVENT_ID_TYPE, decode, event_ids
from polyplane.model.stream import Stream

Row = dict[str, Any]


class Reading(Stream):
    """A column of every type, most of them optional too."""

    order_by: ClassVar[tuple[str, ...]] = ("run", "metric")
    indexes: ClassVar[tuple[str, ...]] = ("note", "level", "owner")

    run: UUID
    metric: str
    value: float
    level: int | None
    good: bool | None
    seen: datetime | None
    note: str | None
    owner: UUID | None
    ratio: float | None
    extra: dict[str, Any] | None


START: Final = datetime(2026, 1, 1, tzinfo=UTC)
RUNS: Final = (UUID(int=1), UUID(int=2**127 + 5))
_STEP: Final = timedelta(seconds=1, microseconds=1)


def readings(n: int, *, first: datetime = START, step: timedelta = _STEP) -> Row:
    """Columns of `n` points in order of time, as a client sends them."""
    notes = (None, "ada", "grace", "Ada", "")
    return {
        "time": [first + i * step for i in range(n)],
        "run": [str(RUNS[i % 2]) for i in range(n)],
        "metric": [("heat", "load", "noise")[i % 3] for i in range(n)],
        "value": [i / 8 - 1e-9 * i for i in range(n)],
        "level": [(i % 7) - 3 if i % 5 else None for i in range(n)],
        "good": [(None, True, False)[i % 3] for i in range(n)],
        "seen": [START + timedelta(hours=i, microseconds=i) if i % 4 else None for i in range(n)],
        "note": [notes[i % 5] for i in range(n)],
        "owner": [(None, RUNS[0], RUNS[1])[i % 3] for i in range(n)],
        "ratio": [i / 10 if i % 3 else None for i in range(n)],
        "extra": [{"b": [i, None], "a": {"é": "\u2028"}} if i % 2 else None for i in range(n)],
    }


def table(batch: str, columns: Row, stream: type[Stream] = Reading) -> pa.Table:
    """`columns` as the validated points of `batch`, with their identities."""
    points = decode(stream, columns)
    field = pa.field(EVENT_ID, EVENT_ID_TYPE, nullable=False)
    return points.append_column(field, event_ids(batch, points.num_rows))


def batch(name: str, n: int, **timing: Any) -> pa.Table:
    """The points of batch `name`."""
    return table(name, readings(n, **timing))


def rows(points: pa.Table) -> list[Row]:
    """Points as plain rows, sorted by identity."""
    return sorted(points.to_pylist(), key=lambda row: bytes(row[EVENT_ID]))


def windows(found: list[Row], value: str, bucket_s: int) -> list[Row]:
    """What `window` must answer for rows `found`."""
    buckets: dict[datetime, list[float]] = {}
    for row in found:
        if row[value] is not None:
            epoch_s = row["time"].timestamp() // bucket_s * bucket_s
            buckets.setdefault(datetime.fromtimestamp(epoch_s, UTC), []).append(row[value])
    return [
        {
            "bucket": bucket,
            "avg": float(np.mean(values)),
            "min": float(min(values)),
            "max": float(max(values)),
            "count": len(values),
        }
        for bucket, values in sorted(buckets.items())
    ]


def newest(found: list[Row], by: str) -> dict[Any, Row]:
    """What `latest` must answer for rows `found`, by value of `by`."""
    ordered = sorted(found, key=lambda row: (row["time"], bytes(row[EVENT_ID])))
    return {row[by]: {n: v for n, v in row.items() if n != EVENT_ID} for row in ordered}


FILTERS: Final[list[Where]] = [
    {},
    {"run": RUNS[0]},
    {"metric": "heat"},
    {"metric": "Heat"},
    {"metric": ["heat", "noise", "nothing"]},
    {"metric": []},
    {"value": 0.0},
    {"value": Range(ge=1)},
    {"value": Range(gt=1, le=2.5)},
    {"level": 2},
    {"level": [-3, 0, None]},
    {"level": None},
    {"level": Range(gt=0.5, lt=2.5)},
    {"good": True},
    {"good": [False, None]},
    {"seen": START + timedelta(hours=5, microseconds=5)},
    {"seen": [START + timedelta(hours=5, microseconds=5), None]},
    {"seen": Range(gt=START + timedelta(hours=5, microseconds=5))},
    {"note": ""},
    {"note": ["ada", None]},
    {"owner": RUNS[1]},
    {"owner": None},
    {"ratio": Range(le=0.7)},
    {"ratio": Range()},
    {"time": Range(ge=START + 3 * _STEP, lt=START + 9 * _STEP)},
    {"run": RUNS[0], "metric": "load", "value": Range(ge=1)},
]
"""Filters over `Reading` of every form; `samples.matches` says what each must find."""

REFUSED_FILTERS: Final[list[tuple[Where, str]]] = [
    ({"color": "red"}, "color"),
    ({EVENT_ID: b"x"}, EVENT_ID),
    ({"run": "not a uuid"}, "run"),
    ({"run": "{00000000-0000-0000-0000-000000000001}"}, "run"),
    ({"run": Range(ge=1)}, "run"),
    ({"metric": 3}, "metric"),
    ({"metric": ["heat", 3]}, "metric"),
    ({"metric": {"$ne": "heat"}}, "metric"),
    ({"value": "1"}, "value"),
    ({"value": float("nan")}, "value"),
    ({"value": Range(lt=float("inf"))}, "value"),
    ({"value": Range(lt=START)}, "value"),
    ({"level": 1.5}, "level"),
    ({"level": True}, "level"),
    ({"level": 2**63}, "level"),
    ({"good": 1}, "good"),
    ({"seen": "2026-01-01T00:00:00Z"}, "seen"),
    ({"seen": datetime(2026, 1, 1)}, "seen"),
    ({"seen": Range(ge=5)}, "seen"),
    ({"extra": {}}, "extra"),
]
"""Filters over `Reading` that cannot be, and the column at fault."""
