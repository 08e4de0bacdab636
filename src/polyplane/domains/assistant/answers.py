"""What the routes of search take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from polyplane.domains.assistant.searching import Among, Answer, ChunkFound, DocumentFound
from polyplane.domains.assistant.shapes import Source, Wire
from polyplane.search import Mode, excerpt

QUESTION_MAX: Final = 4_000
LIMIT_MAX: Final = 100
OFFSET_MAX: Final = 900
EXCERPT: Final = 240

QuestionText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=QUESTION_MAX)
]
MediaType = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,120}$")]


class SearchAsked(Wire):
    """What is looked for, and in what."""

    question: QuestionText = Field(examples=["how is a kettle descaled"])
    mode: Mode | None = Field(
        None, description="By meaning, by words, or (as without it) by both.", examples=["hybrid"]
    )
    document_id: UUID | None = Field(None, description="Only in this document.")
    media_type: MediaType | None = Field(
        None, description="Only in files of this kind.", examples=["text/markdown"]
    )
    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = 10
    offset: Annotated[int, Field(ge=0, le=OFFSET_MAX, description="Hits to pass over.")] = 0
    exact: bool = Field(False, description="Compare with every vector: slower, and misses none.")

    def among(self) -> Among:
        """What a chunk must be of."""
        return Among(self.document_id, self.media_type)


class DocumentSeen(BaseModel):
    """The document of a hit."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    title: str = Field(examples=["Kettles"])
    name: str = Field(examples=["/srv/handbook/kettles.md"])
    source: Source
    media_type: str = Field(examples=["text/markdown"])
    owner_id: UUID | None = Field(description="Whose it is; null: everybody's in the tenant.")
    updated_at: datetime


class Ranks(BaseModel):
    """The place of a hit, from 1, by meaning and by words; null: it was not found so."""

    vector: int | None = None
    text: int | None = None


class HitShown(BaseModel):
    """A piece of a document that answers, in its place.

    Characters are counted as code points. Nothing is escaped.
    """

    chunk_id: UUID
    score: float = Field(description="Orders the hits of one answer, and says no more.")
    ranks: Ranks
    text: str
    highlights: list[tuple[int, int]] = Field(
        description="Where `text` has what was asked for: start, and end (exclusive).",
        examples=[[[4, 10]]],
    )
    excerpt: tuple[int, int] = Field(description="The part of `text` to show where room is short.")
    heading: str = Field(description="The headings above it.", examples=["Kettles > Repair"])
    ordinal: int
    start_at: int = Field(description="Of the text, in the whole text of the document.")
    end_at: int
    page: int | None
    document: DocumentSeen

    @classmethod
    def of(cls, found: ChunkFound) -> Self:
        """A hit as it is shown."""
        it = found.chunk
        return cls(
            chunk_id=it.id,
            score=found.score,
            ranks=Ranks(**found.ranks),
            text=it.text,
            highlights=list(found.highlights),
            excerpt=excerpt(it.text, found.highlights, EXCERPT),
            heading=it.heading,
            ordinal=it.ordinal,
            start_at=it.start_at,
            end_at=it.end_at,
            page=it.page,
            document=DocumentSeen.model_validate(found.document),
        )


class AnswerShown(BaseModel):
    """A page of hits, best first."""

    hits: list[HitShown]
    mode: Mode
    more: bool = Field(description="Whether there are hits behind these.")
    degraded: bool = Field(description="The answer is poorer than it should be; `reason` says why.")
    reason: str | None = None

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """An answer as it is shown."""
        return cls(
            hits=[HitShown.of(it) for it in answer.hits],
            mode=answer.mode,
            more=answer.more,
            degraded=bool(answer.degraded),
            reason=answer.degraded or None,
        )


class LikeShown(BaseModel):
    """A document that is like another one."""

    score: float = Field(description="The cosine of both, from -1 to 1.")
    document: DocumentSeen

    @classmethod
    def of(cls, found: DocumentFound) -> Self:
        """A document as it is shown."""
        return cls(score=found.score, document=DocumentSeen.model_validate(found.document))


class LikesShown(BaseModel):
    """A page of documents, the most similar first."""

    hits: list[LikeShown]
    more: bool
