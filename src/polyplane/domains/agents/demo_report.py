"""What the demo of agents found, and how it is shown to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

CONCEPTS_MIN: Final = 5_000
RELATIONS_MIN: Final = 20_000


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned, and what a second look touched; `is_whole`: the standard library."""

    files: int
    changed: int
    concepts: int
    relations: int
    duration_s: float
    again_changed: int
    again_s: float
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Operated:
    """The operations: how they ended, by status, and what that took; `wrong` ended otherwise than
    they should have. `told`: live updates that came meanwhile.
    """

    statuses: Mapping[str, int]
    steps: int
    attempts: int
    failures: int
    undone: int
    told: int
    wrong: Sequence[str]
    duration_s: float


@dataclass(frozen=True, slots=True)
class AgentsReport:
    """The demo's outcome; `dataclasses.asdict` gives its JSON."""

    learned: Learned
    settled_s: float
    tools: Sequence[Mapping[str, Any]]
    able: Sequence[Mapping[str, Any]]
    active: Sequence[Mapping[str, Any]]
    operated: Operated
    concept: str
    related: Sequence[Mapping[str, Any]]
    way: Sequence[str]
    question: str
    hits: Sequence[Mapping[str, Any]]
    items: Mapping[str, int]
    missing: int
    stale: int
    extra: int
    duration_s: float

    @property
    def proven(self) -> bool:
        """Whether enough was learned, all ended as it should have, and all stores agree."""
        drift = self.missing + self.stale + self.extra
        learned = self.learned
        enough = learned.concepts >= CONCEPTS_MIN and learned.relations >= RELATIONS_MIN
        enough = enough or not learned.is_whole
        return enough and bool(self.hits and self.related) and not (self.operated.wrong or drift)


def render(report: AgentsReport) -> list[RenderableType]:
    """The report as tables and lines for `rich`."""
    learned, done = report.learned, report.operated
    ends = ", ".join(f"{count} {status}" for status, count in sorted(done.statuses.items()))
    return [
        Text(
            f"Learned {learned.changed:,} of {learned.files:,} files in {learned.duration_s:.1f} s:"
            f" {learned.concepts:,} concepts, {learned.relations:,} relations. In the graph"
            f" {report.settled_s:.1f} s later. A second look, {learned.again_s:.1f} s, touched"
            f" {learned.again_changed} files."
        ),
        *_tables(report),
        Text(
            f"{sum(done.statuses.values())} operations of {done.steps} steps in"
            f" {done.duration_s:.1f} s: {ends}; {done.attempts} attempts, {done.failures} of them"
            f" failed, {done.undone} steps undone; {done.told} live updates."
        ),
        *(Text(line, style="bold red") for line in done.wrong),
        Text(
            f"verify: {report.missing} missing, {report.stale} stale, {report.extra} extra.",
            style="bold green" if report.proven else "bold red",
        ),
    ]


def _tables(report: AgentsReport) -> Iterator[Table]:
    where = Table("projection", "items", title="What follows from truth")
    for name, count in report.items.items():
        where.add_row(name, f"{count:,}")
    yield where
    tools = Table("tool", "capability", title="Capability discovery: what the Researcher can use")
    for tool in report.tools:
        tools.add_row(Text(tool["name"]), tool["capability"])
    yield tools
    related = Table("concept", "how", "strength", title=f"What {report.concept} relates to")
    for it in report.related:
        related.add_row(Text(it["name"]), it["type"], f"{it['strength']:.2f}")
    yield related
    if report.way:
        way = Table("a way through the graph")
        way.add_row(Text(" - ".join(report.way)))
        yield way
    hits = Table("concept", "score", "why", title=f"Hybrid search: {report.question}")
    for hit in report.hits:
        hits.add_row(Text(hit["name"]), f"{hit['score']:.2f}", Text("; ".join(hit["reasons"][:2])))
    yield hits
