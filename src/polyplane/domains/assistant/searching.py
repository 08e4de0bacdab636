"""Documents are found: by meaning, by words, or both; and what is like one of them.

Vectors and words are asked first; what they find is shown with what truth says of it, in one query.
What is gone there, or not the caller's to see, is left out. When the vector store does not answer,
PostgreSQL's own full text does, and the answer says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.assistant.models import SEARCH, Document, DocumentChunk
from polyplane.domains.assistant.projections import DocumentChunks, ProcessedDocuments
from polyplane.search import Found, Mode, Rerank, asked, highlights

LANGUAGE: Final = DocumentChunks.full_text
WORDS_MAX: Final = 64
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class ChunkFound:
    """A chunk that answers, as truth has it, and its document.

    `highlights` is where `chunk.text` has what was asked for, in characters.
    """

    chunk: DocumentChunk
    document: Document
    score: float
    ranks: Mapping[str, int]
    highlights: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class DocumentFound:
    """A document that is like another one."""

    document: Document
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A page of chunks, best first; `degraded` says why it is poorer than it should be."""

    hits: Sequence[ChunkFound]
    mode: Mode
    more: bool
    degraded: str = ""


@dataclass(frozen=True, slots=True)
class Among:
    """What a chunk must be of to be found: one document, one kind of file."""

    document_id: UUID | None = None
    media_type: str | None = None

    def tags(self) -> dict[str, Any]:
        """As a filter of vectors."""
        named = {"document_id": self.document_id, "media_type": self.media_type}
        return {name: str(value) for name, value in named.items() if value is not None}

    def rows(self) -> list[sa.ColumnElement[bool]]:
        """As conditions on chunks."""
        it, found = DocumentChunk, list[sa.ColumnElement[bool]]()
        if self.document_id is not None:
            found.append(it.document_id == self.document_id)
        if self.media_type is not None:
            found.append(it.media_type == self.media_type)
        return found


EVERYTHING: Final = Among()


async def search_documents(
    plane: pp.Plane,
    caller: pp.Caller,
    question: str,
    *,
    mode: Mode | None = None,
    limit: int = 10,
    offset: int = 0,
    among: Among = EVERYTHING,
    exact: bool = False,
    rerank: Rerank | None = None,
) -> Answer:
    """A page of the chunks that answer `question` best, each with its document.

    While the vector store or the embedder is down, what PostgreSQL finds by the words, marked
    `degraded`. Raises Refused for what cannot be asked, TruthDown when PostgreSQL is down: without
    truth nobody can say what the caller may see.
    """
    reader = plane.acting(caller)[DocumentChunks]
    try:
        found = await reader.find(
            question,
            mode=mode,
            limit=limit,
            offset=offset,
            tags=among.tags(),
            exact=exact,
            rerank=rerank,
        )
    except pp.Unavailable as error:
        return await _by_truth(plane, caller, question, among, limit, offset, error.message)
    return Answer(
        await _enriched(plane, caller, question, found), found.mode, found.more, found.degraded
    )


async def similar_documents(
    plane: pp.Plane, caller: pp.Caller, document_id: UUID, *, limit: int = 10, offset: int = 0
) -> tuple[Sequence[DocumentFound], bool]:
    """A page of the documents most like this one, and whether there are more.

    Raises NotFound when the caller sees no such document, or nothing could be read of it;
    StoreDown when the vector store does not answer.
    """
    reader = plane.acting(caller)[ProcessedDocuments]
    found = await reader.similar(document_id, limit=limit, offset=offset)
    it = Document
    query = sa.select(it).where(it.tenant_id == caller.tenant, it.id.in_(_ids(found)))
    async with plane.acting(caller).read() as session:
        rows = {str(row.id): row for row in await session.scalars(query)}
    hits = [DocumentFound(rows[h.key], h.score) for h in found.hits if h.key in rows]
    return hits, found.more


def _ids(found: Found) -> list[UUID]:
    return [UUID(hit.key) for hit in found.hits]


async def _enriched(
    plane: pp.Plane, caller: pp.Caller, question: str, found: Found
) -> list[ChunkFound]:
    """The hits as truth has them now, in one query."""
    query = _rows(caller).where(DocumentChunk.id.in_(_ids(found)))
    async with plane.acting(caller).read() as session:
        rows = {str(chunk.id): (chunk, it) for chunk, it in await session.execute(query)}
    looked_for = asked(question, LANGUAGE)
    return [
        _shown(*rows[hit.key], hit.score, hit.ranks, looked_for)
        for hit in found.hits
        if hit.key in rows
    ]


async def _by_truth(
    plane: pp.Plane,
    caller: pp.Caller,
    question: str,
    among: Among,
    limit: int,
    offset: int,
    why: str,
) -> Answer:
    """What PostgreSQL finds: what has all the words first, then what has any of them."""
    words = _WORD.findall(question)[:WORDS_MAX]
    # Operators of a search on the web are made of other signs, but for one.
    words = [word for word in words if word.lower() != "or"]
    every = sa.func.websearch_to_tsquery("english", " ".join(words))
    some = sa.func.websearch_to_tsquery("english", " or ".join(words))
    score = sa.func.ts_rank_cd(SEARCH, some, 32)
    query = (
        _rows(caller)
        .add_columns(score)
        .where(SEARCH.op("@@")(some), *among.rows())
        .order_by(SEARCH.op("@@")(every).desc(), score.desc(), DocumentChunk.id)
        .limit(limit + 1)
        .offset(offset)
    )
    async with plane.acting(caller).read() as session:
        rows = (await session.execute(query)).all()
    looked_for = asked(question, LANGUAGE)
    hits = [
        _shown(chunk, document, float(weight), {"text": place}, looked_for)
        for place, (chunk, document, weight) in enumerate(rows[:limit], offset + 1)
    ]
    return Answer(hits, "text", len(rows) > limit, f"By words alone, from PostgreSQL: {why}")


def _rows(caller: pp.Caller) -> Any:
    """The query for chunks and their documents."""
    it = DocumentChunk
    return (
        sa.select(it, Document)
        .join(Document, sa.and_(Document.id == it.document_id, Document.tenant_id == it.tenant_id))
        .where(it.tenant_id == caller.tenant)
    )


def _shown(
    chunk: DocumentChunk,
    document: Document,
    score: float,
    ranks: Mapping[str, int],
    looked_for: Iterable[str],
) -> ChunkFound:
    return ChunkFound(chunk, document, score, ranks, highlights(chunk.text, looked_for, LANGUAGE))
