"""What follows from documents: one vector for each, and one for each of their chunks."""

from __future__ import annotations

from typing import Final, TypedDict

import polyplane as pp
from polyplane.domains.assistant.models import BETWEEN, Document, DocumentChunk

BEGINS: Final = 200
"""Characters in which a chunk may name what it is about."""


class DocumentTags(TypedDict):
    """What documents can be filtered by."""

    title: str
    name: str
    source: str
    media_type: str


class ProcessedDocuments(pp.Vectors[Document, DocumentTags]):
    """Documents by meaning: of their title and how they begin."""

    indexes = ("source", "media_type")

    def derive(self, document: Document, /) -> pp.Vector[DocumentTags] | None:
        if not document.chunk_count:  # read anew, it is found as it was until it is ready again
            return None
        return pp.Vector(
            f"{document.title}\n{document.summary}".strip(),
            tags=DocumentTags(
                title=document.title,
                name=document.name,
                source=document.source,
                media_type=document.media_type,
            ),
        )


class ChunkTags(TypedDict):
    """What chunks can be filtered by. Where they stand is in their rows: it changes with others."""

    document_id: str
    title: str
    heading: str
    media_type: str


class DocumentChunks(pp.Vectors[DocumentChunk, ChunkTags]):
    """Chunks by meaning, and by their words."""

    indexes = ("document_id", "media_type")
    full_text = "english"

    def derive(self, chunk: DocumentChunk, /) -> pp.Vector[ChunkTags] | None:
        if not chunk.text.strip():
            return None
        return pp.Vector(
            _in_context(chunk),
            tags=ChunkTags(
                document_id=str(chunk.document_id),
                title=chunk.title,
                heading=chunk.heading,
                media_type=chunk.media_type,
            ),
        )


def _in_context(chunk: DocumentChunk) -> str:
    """The text, below what it is about unless it begins with that: so names are found, too."""
    begins = chunk.text[:BEGINS]
    above = dict.fromkeys(it for it in (chunk.title, chunk.heading) if it)
    last = [it for it in above if it.rpartition(BETWEEN)[2] not in begins]
    return "\n".join([*last, chunk.text])


PROJECTIONS: Final = (ProcessedDocuments, DocumentChunks)
