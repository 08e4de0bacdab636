"""Search over HTTP: chunks that answer, and documents like one another."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

import polyplane as pp
from polyplane.domains.assistant.answers import (
    LIMIT_MAX,
    OFFSET_MAX,
    AnswerShown,
    LikeShown,
    LikesShown,
    SearchAsked,
)
from polyplane.domains.assistant.permissions import READ
from polyplane.domains.assistant.projections import DocumentChunks, ProcessedDocuments
from polyplane.domains.assistant.searching import search_documents, similar_documents
from polyplane.web import Caller, PlaneOf, TokenHeader, limited, problem_responses

router = APIRouter()

_LIMITS = [READ, limited(1_200, 60)]


@router.get("/search", dependencies=_LIMITS, responses=problem_responses(503, 504))
async def search(
    asked: Annotated[SearchAsked, Query()], plane: PlaneOf, caller: Caller, token: TokenHeader
) -> AnswerShown:
    """The pieces of documents that answer a question, best first. With a token, those of its write
    are among them.
    """
    return await _answered(asked, plane, caller, token)


@router.post("/search", dependencies=_LIMITS, responses=problem_responses(503, 504))
async def search_for(
    asked: SearchAsked, plane: PlaneOf, caller: Caller, token: TokenHeader
) -> AnswerShown:
    """The same, for questions that should not be in a URL."""
    return await _answered(asked, plane, caller, token)


@router.get(
    "/documents/{document_id}/similar",
    dependencies=_LIMITS,
    responses=problem_responses(404, 503, 504),
)
async def list_similar(
    document_id: UUID,
    plane: PlaneOf,
    caller: Caller,
    token: TokenHeader,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 10,
    offset: Annotated[int, Query(ge=0, le=OFFSET_MAX)] = 0,
) -> LikesShown:
    """Documents like this one, the most similar first."""
    await token.wait(ProcessedDocuments)
    found, more = await similar_documents(plane, caller, document_id, limit=limit, offset=offset)
    return LikesShown(hits=[LikeShown.of(it) for it in found], more=more)


async def _answered(
    asked: SearchAsked, plane: pp.Plane, caller: pp.Caller, token: TokenHeader
) -> AnswerShown:
    await token.wait(DocumentChunks)
    answer = await search_documents(
        plane,
        caller,
        asked.question,
        mode=asked.mode,
        limit=asked.limit,
        offset=asked.offset,
        among=asked.among(),
        exact=asked.exact,
    )
    return AnswerShown.of(answer)
