"""Findings as JSON: what a program that reads files elsewhere sends."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from polyplane.domains.agents.learning.findings import (
    NAME_MAX,
    SUMMARY_MAX,
    Family,
    Findings,
    View,
)
from polyplane.domains.agents.learning.merging import LearnedFile

FILES_MAX: Final = 500
TIMES_MAX: Final = 1_000_000
SEEN_MAX: Final = 100_000
"""Concepts, or relations, of one file."""

Path = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_MAX)]
Times = Annotated[int, Field(ge=1, le=TIMES_MAX)]
Category = Literal["module", "class", "function", "heading", "term"]
Kind = Literal["inherits", "contains", "covers", "imports", "calls", "occurs with"]


class Wire(BaseModel):
    """A field nobody knows is a mistake."""

    model_config = ConfigDict(extra="forbid")


class ConceptSeen(Wire):
    """A concept in a file; without a category it is mentioned and no more."""

    name: Name = Field(examples=["json.dumps"])
    mentions: Times = 1
    category: Category | None = None
    summary: Annotated[str, StringConstraints(max_length=SUMMARY_MAX)] | None = None


class RelationSeen(Wire):
    """A relation in a file, from one of its concepts to another, by their places in `concepts`."""

    source: int = Field(ge=0)
    target: int = Field(ge=0)
    type: Kind
    times: Times = 1


class FoundFile(Wire):
    """What a file holds. `gone` says that it is not there any more."""

    path: Path = Field(examples=["/srv/handbook/kettles.md"])
    digest: Digest | Literal[""] = Field("", description="Of what it holds, by whoever reads it.")
    gone: bool = False
    title: Annotated[str, StringConstraints(max_length=NAME_MAX)] = ""
    family: Family = "text"
    concepts: list[ConceptSeen] = Field(default_factory=list, max_length=SEEN_MAX)
    relations: list[RelationSeen] = Field(default_factory=list, max_length=SEEN_MAX)

    @model_validator(mode="after")
    def _whole(self) -> FoundFile:
        """A file that is there has a title and a digest; relations have ends; names are unique."""
        if not self.gone and not (self.title and self.digest):
            raise ValueError("a file has a title and a digest, unless it is gone")
        if any(max(it.source, it.target) >= len(self.concepts) for it in self.relations):
            raise ValueError("a relation is between two of the concepts")
        if len({it.name for it in self.concepts}) < len(self.concepts):
            raise ValueError("a concept is named once")
        return self

    def learned(self) -> LearnedFile:
        """As the plan of differences takes it."""
        if self.gone:
            return LearnedFile(self.path)
        found = Findings(self.title, self.family)
        for it in self.concepts:
            found.views[it.name] = View(it.category, it.summary)
            found.mentions[it.name] = it.mentions
        for seen in self.relations:
            ends = self.concepts[seen.source].name, self.concepts[seen.target].name
            found.relate(*ends, seen.type, seen.times)
        return LearnedFile(self.path, self.digest, found)

    @classmethod
    def of(cls, file: LearnedFile) -> dict[str, object]:
        """The JSON of a file that was read here."""
        found = file.found
        if found is None:
            return {"path": file.path, "gone": True}
        places = {name: number for number, name in enumerate(found.views)}
        return {
            "path": file.path,
            "digest": file.digest,
            "title": found.title,
            "family": found.family,
            "concepts": [
                {
                    "name": name,
                    "mentions": min(found.mentions[name], TIMES_MAX),
                    "category": view.category,
                    "summary": view.summary,
                }
                for name, view in found.views.items()
            ],
            "relations": [
                {
                    "source": places[source],
                    "target": places[target],
                    "type": kind,
                    "times": min(times, TIMES_MAX),
                }
                for (source, target, kind), times in found.relations.items()
            ],
        }


class FoundFiles(Wire):
    """Files that are new, have changed or are gone; learned in one transaction."""

    files: list[FoundFile] = Field(min_length=1, max_length=FILES_MAX)


class Learned(BaseModel):
    """The rows that were written, by table and verb."""

    touched: dict[str, int] = Field(examples=[{"concepts_new": 12, "relations_new": 40}])
    token: str | None = Field(None, description="Pass as `settled` to read what follows from it.")


class KnownFile(BaseModel):
    """A file that was learned."""

    path: str
    digest: str


class KnownFiles(BaseModel):
    """Files that were learned, in the order of their paths; `next`: pass as `after`."""

    files: list[KnownFile]
    next: str | None = None


class Totals(BaseModel):
    """How much is known."""

    concepts: int
    relations: int
    files: int


class HybridQuestion(Wire):
    """A question by meaning and by connection."""

    question: Annotated[str, StringConstraints(min_length=1, max_length=2_000)] = Field(
        examples=["how do I write a file that vanishes by itself?"]
    )
    category: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    hops: int = Field(1, ge=0, le=3, description="How far it goes on from what is near.")
    limit: int = Field(10, ge=1, le=100)


class HybridHit(BaseModel):
    """A concept of the answer; all scores from 0 to 1, `score` from both others."""

    id: str
    name: str
    category: str
    score: float
    by_meaning: float
    by_graph: float
    reasons: list[str] = Field(examples=[["means what is asked (0.61)"]])


class HybridAnswer(BaseModel):
    """Best first. `degraded` says what could not be asked; empty: nothing is lacking."""

    hits: list[HybridHit]
    degraded: str = ""
