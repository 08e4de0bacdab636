"""What the demo of the assistant found, and how it is shown to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

DOCUMENTS_MIN: Final = 2_000
CHUNKS_MIN: Final = 10_000
FAILED_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Ingested:
    """What went in: files, of which `taken` were news; and what a second look took."""

    documents: int
    bytes: int
    taken: int
    unchanged: int
    failed: Sequence[tuple[str, str, str]]
    chunks: int
    duration_s: float
    again_taken: int
    again_s: float


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the document that was found first, and whether it is the one wanted."""

    question: str
    title: str
    name: str
    is_right: bool
    wanted: str
    took_ms: float


@dataclass(frozen=True, slots=True)
class AssistantReport:
    """The demo's outcome; `dataclasses.asdict` gives its JSON.

    `changed` counts what a changed document touched. `gone_is_found`: a removed one is found still.
    """

    folder: str
    written_s: float
    ingested: Ingested
    asked: Sequence[Asked]
    changed: Mapping[str, int]
    removed: int
    gone_is_found: bool
    has_own_folder: bool
    items: Mapping[str, int]
    missing: int
    stale: int
    extra: int
    duration_s: float

    @property
    def proven(self) -> bool:
        """Whether all went in, each question found its document, and all stores agree."""
        if self.missing + self.stale + self.extra or self.ingested.again_taken:
            return False
        if not self.has_own_folder:
            return True
        enough = (
            self.ingested.documents >= DOCUMENTS_MIN
            and self.items.get("document_chunks", 0) >= CHUNKS_MIN
        )
        right = all(it.is_right for it in self.asked) and not self.gone_is_found
        return enough and right and self.changed["changed"] == 1 and self.removed == 1


def render(report: AssistantReport) -> list[RenderableType]:
    """The report as tables and lines for `rich`."""
    done = report.ingested
    rate = done.taken / done.duration_s if done.duration_s else 0.0
    again = done.documents / done.again_s if done.again_s else 0.0
    lines: list[RenderableType] = [
        Text(
            f"Took in {done.taken:,} of {done.documents:,} documents, {done.bytes / 2**20:.1f} MiB,"
            f" in {done.duration_s:.1f} s until all of it was found: {rate:,.0f} a second,"
            f" {done.chunks:,} chunks. A second look took in {done.again_taken}:"
            f" {again:,.0f} a second."
        ),
        *_tables(report),
    ]
    if report.changed:
        it = report.changed
        lines.append(
            Text(
                f"One document changed: {it['chunks_new']} chunks new, {it['chunks_moved']} moved,"
                f" {it['chunks_same']} the same, {it['chunks_gone']} gone. One removed:"
                f" {'it is found still' if report.gone_is_found else 'it is found no more'}."
            )
        )
    lines.append(
        Text(
            f"verify: {report.missing} missing, {report.stale} stale, {report.extra} extra.",
            style="bold green" if report.proven else "bold red",
        )
    )
    return lines


def _tables(report: AssistantReport) -> Iterator[Table]:
    if failed := report.ingested.failed:
        table = Table("file", "why", "", title=f"{len(failed)} files could not be read")
        for name, code, reason in failed[:FAILED_SHOWN]:
            table.add_row(Text(name), code, Text(reason))
        yield table
    where = Table("projection", "items", title="What follows from truth")
    for name, count in report.items.items():
        where.add_row(name, f"{count:,}")
    yield where
    if report.asked:
        asked = Table("question", "found first", "ms", "", title="Search")
        for it in report.asked:
            mark = Text("right", "green") if it.is_right else Text(f"not {it.wanted}", "red")
            asked.add_row(it.question, Text(it.title), f"{it.took_ms:.0f}", mark)
        yield asked
