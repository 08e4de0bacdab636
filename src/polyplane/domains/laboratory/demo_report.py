"""What the demo found, and how it is shown to people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Holding:
    """What one engine holds of the experiment."""

    engine: str
    what: str
    count: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The best hit for a question; `expected` says whether it is the learning that answers it."""

    question: str
    insight: str
    score: float
    expected: bool


@dataclass(frozen=True, slots=True)
class Lag:
    """Milliseconds from a write's acknowledgement until a search finds it, search included."""

    samples: int
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, lags_ms: Sequence[float]) -> Lag:
        """The percentiles (nearest rank) of what was measured."""
        ranked = sorted(lags_ms)

        def rank(share: float) -> float:
            return round(ranked[math.ceil(share * len(ranked)) - 1], 1)

        return cls(len(ranked), rank(0.5), rank(0.99))


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The demo's outcome; `dataclasses.asdict` gives its JSON."""

    experiment_id: str
    status: str
    activities: int
    telemetry_points: int
    learnings: int
    holdings: Sequence[Holding]
    findings: Sequence[str]
    answers: Sequence[Answer]
    profile: Sequence[dict[str, Any]]
    latest: Sequence[dict[str, Any]]
    lag: Lag
    missing: int
    stale: int
    extra: int
    duration_s: float

    @property
    def proven(self) -> bool:
        """Whether the experiment came to its end, was found by meaning, and all stores agree."""
        drift = self.missing + self.stale + self.extra
        found = any(answer.expected for answer in self.answers)
        return self.status == "completed" and found and not drift


def render(report: DemoReport) -> list[RenderableType]:
    """The report as tables and lines for `rich`."""
    return [
        Text(
            f"Experiment {report.experiment_id}: {report.status}, {report.activities} activities,"
            f" {report.telemetry_points:,} telemetry points, {report.learnings} learnings."
        ),
        *_tables(report),
        Text(
            f"Commit -> searchable over {report.lag.samples} single writes:"
            f" p50 {report.lag.p50_ms} ms, p99 {report.lag.p99_ms} ms."
        ),
        Text(
            f"verify: {report.missing} missing, {report.stale} stale, {report.extra} extra.",
            style="bold green" if report.proven else "bold red",
        ),
    ]


def _tables(report: DemoReport) -> Iterator[Table]:
    where = Table("engine", "what", "how many", title="What is where")
    for holding in report.holdings:
        where.add_row(holding.engine, holding.what, f"{holding.count:,}")
    yield where
    findings = Table("what the telemetry taught", title="Learnings")
    for insight in report.findings:
        findings.add_row(Text(insight))
    yield findings
    answers = Table("question", "best hit", "cosine", "", title="Search by meaning")
    for answer in report.answers:
        mark = Text("as expected", "green") if answer.expected else Text("unexpected", "yellow")
        answers.add_row(answer.question, Text(answer.insight), f"{answer.score:.2f}", mark)
    yield answers
    profile = Table(
        "second", "avg", "min", "max", "count", title="Profile: MB/s of lzma level 6, per second"
    )
    for bucket in report.profile:
        figures = (f"{bucket[name]:.2f}" for name in ("avg", "min", "max"))
        profile.add_row(str(bucket["bucket"])[11:19], *figures, str(bucket["count"]))
    yield profile
    latest = Table("metric", "value", "unit", title="Latest of each metric")
    for point in report.latest:
        latest.add_row(point["metric_name"], f"{point['value']:.3f}", point["unit"] or "")
    yield latest
