"""From measurements to sentences: samples, what they prove and with what confidence. Pure.

A sample is one number per unit (a block, else a point): repeated passes over a unit are averaged
first, because they are not independent. Two samples over the same units are compared in pairs.

Confidence is a probability under the normal approximation, capped at `CONFIDENCE_MAX` because one
machine measured one sample of material:

* `surely_more(a, b)`: that the mean of a - b is above zero, Phi(mean / standard error);
* `surely_same(a, b, within)`: that it lies within +-`within` of zero;
* `precision(a)`: 1 - half-width of the 95 % interval of the mean, relative to the mean.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Sample: TypeAlias = npt.NDArray[np.float64]
"""One number per unit, in the order of the units."""

CONFIDENCE_MAX: Final = 0.99
CONFIDENCE_MIN: Final = 0.5
"""A finding that is as likely wrong as right is none."""
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence that the measurements support; `rule` names it within one experiment."""

    rule: str
    type: str
    insight: str
    confidence: float


class Point(NamedTuple):
    """One measured value; `unit` is what was measured, None when points stand for themselves."""

    activity_id: str
    metric: str
    value: float
    unit: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One activity: its name, its parameters and its samples by metric."""

    name: str
    parameters: Mapping[str, Any]
    samples: Mapping[str, Sample]

    def mean(self, metric: str) -> float:
        """The mean of `metric`; KeyError when it was not measured."""
        return float(self.samples[metric].mean())


def measured(
    activities: Mapping[str, tuple[str, Mapping[str, Any]]], points: Sequence[Point]
) -> list[Measured]:
    """The activities (id -> name, parameters) with what was measured of them, in their order."""
    values: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    for number, point in enumerate(points):
        unit = number if point.unit is None else point.unit
        values[point.activity_id][point.metric].setdefault(unit, []).append(point.value)
    return [
        Measured(
            name,
            parameters,
            {
                metric: np.array([np.mean(units[unit]) for unit in sorted(units)])
                for metric, units in values[activity_id].items()
            },
        )
        for activity_id, (name, parameters) in activities.items()
    ]


def rankings(activities: Sequence[Measured]) -> list[Finding]:
    """For each metric of any experiment: which activity has the highest mean, and the lowest."""
    found = []
    for metric in sorted({metric for each in activities for metric in each.samples}):
        ranked = sorted(
            (each for each in activities if metric in each.samples),
            key=lambda each: each.mean(metric),
        )
        if len(ranked) < 2 or ranked[0].mean(metric) == ranked[-1].mean(metric):
            continue
        low, high = ranked[0], ranked[-1]
        found.append(
            Finding(
                f"ranking:{metric}",
                "comparison",
                f"Of {len(ranked)} activities, {high.name} has the highest mean {metric},"
                f" {figure(high.mean(metric))}, and {low.name} the lowest,"
                f" {figure(low.mean(metric))}.",
                surely_more(high.samples[metric], low.samples[metric]),
            )
        )
    return [each for each in found if each.confidence > CONFIDENCE_MIN]


def surely_more(a: Sample, b: Sample) -> float:
    """The confidence that a is above b on average; in pairs when they have the same units."""
    mean, error = _difference(a, b)
    return _capped(_below(mean, error))


def surely_same(a: Sample, b: Sample, *, within: float) -> float:
    """The confidence that a and b differ by less than `within` on average."""
    mean, error = _difference(a, b)
    return _capped(_below(within - mean, error) + _below(within + mean, error) - 1)


def precision(a: Sample) -> float:
    """How precisely the mean of a is known: 1 - relative half-width of its 95 % interval."""
    half_width = 1.96 * float(a.std(ddof=1)) / math.sqrt(len(a)) if len(a) > 1 else math.inf
    mean = abs(float(a.mean()))
    return _capped(1 - half_width / mean if mean else 0.0)


def correlation(a: Sample, b: Sample) -> tuple[float, float]:
    """Pearson's r over the same units, and the confidence that r > 0 (Fisher's z)."""
    if len(a) < 4 or not a.std() or not b.std():
        return 0.0, 0.0
    r = float(np.corrcoef(a, b)[0, 1])
    bounded = min(max(r, -0.999999), 0.999999)
    return r, _capped(_NORMAL.cdf(math.atanh(bounded) * math.sqrt(len(a) - 3)))


def figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    if not value:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def percent(fraction: float) -> str:
    """`0.0312` as `3.12 %`."""
    return f"{figure(100 * fraction)} %"


def _difference(a: Sample, b: Sample) -> tuple[float, float]:
    """Mean of a - b and its standard error."""
    if len(a) == len(b):
        paired = a - b
        spread = float(paired.std(ddof=1)) if len(a) > 1 else math.inf
        return float(paired.mean()), spread / math.sqrt(len(a))
    spreads = [x.var(ddof=1) / len(x) if len(x) > 1 else math.inf for x in (a, b)]
    return float(a.mean() - b.mean()), math.sqrt(sum(spreads))


def _below(distance: float, error: float) -> float:
    """The probability that an error of this standard size stays below `distance`."""
    if math.isinf(error):
        return CONFIDENCE_MIN
    if not error:
        return 1.0 if distance > 0 else CONFIDENCE_MIN if not distance else 0.0
    return _NORMAL.cdf(distance / error)


def _capped(confidence: float) -> float:
    return round(min(max(confidence, 0.0), CONFIDENCE_MAX), 4)
