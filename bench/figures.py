"""What a measurement gives back: medians of runs, and what is required of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing, measured once in each run. `required` and `goal` are lower bounds.

    With `at_most` they are upper bounds. A figure without `required` is told and not judged.
    """

    name: str
    unit: str
    runs: tuple[float, ...]
    required: float | None = None
    goal: float | None = None
    at_most: bool = False

    @property
    def median(self) -> float:
        """The middle of the runs."""
        return median(self.runs)

    def reaches(self, bound: float | None) -> bool | None:
        """Whether the median keeps to `bound`; None when there is none."""
        if bound is None:
            return None
        return self.median <= bound if self.at_most else self.median >= bound

    def as_json(self) -> dict[str, Any]:
        """The figure in plain values."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": round(self.median, 4),
            "min": round(min(self.runs), 4),
            "max": round(max(self.runs), 4),
            "runs": [round(run, 4) for run in self.runs],
            "required": self.required,
            "goal": self.goal,
            "bound": "at most" if self.at_most else "at least",
            "passes": self.reaches(self.required),
            "reaches_goal": self.reaches(self.goal),
        }


def rates(
    name: str,
    unit: str,
    count: int,
    seconds: Sequence[float],
    *,
    required: float | None = None,
    goal: float | None = None,
) -> Figure:
    """`count` things a run, as things a second."""
    return Figure(name, unit, tuple(count / took for took in seconds), required, goal)


def ratio(
    name: str,
    ours: Figure,
    raw: Figure,
    *,
    required: float | None = None,
    goal: float | None = None,
) -> Figure:
    """Ours to the raw engine's, each run to the raw one right beside it."""
    pairs = zip(ours.runs, raw.runs, strict=True)
    return Figure(name, "ratio", tuple(a / b for a, b in pairs), required, goal)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * int(share * 1000) // 1000)
    return ordered[max(0, rank - 1)]
