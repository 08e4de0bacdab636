"""Knowledge: what was learned from files, and questions by meaning and by connection."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query

from polyplane.domains.agents.learning import keeping
from polyplane.domains.agents.learning.searching import hybrid_search
from polyplane.domains.agents.learning.wire import (
    FoundFiles,
    HybridAnswer,
    HybridHit,
    HybridQuestion,
    KnownFile,
    KnownFiles,
    Learned,
    Totals,
)
from polyplane.domains.agents.permissions import READ, WRITE
from polyplane.domains.agents.projections import ConceptNodes, ConceptSearch, RelatesTo
from polyplane.domains.agents.routes.desk import AtDesk
from polyplane.web import limited, problem_responses, within

router = APIRouter()

LEARN_TIMEOUT_S: Final = 120.0


@router.get("/knowledge", dependencies=[READ])
async def read_knowledge(desk: AtDesk) -> Totals:
    """How many concepts, relations and learned files there are."""
    concepts, relations = await keeping.totals(desk.plane, desk.caller)
    files = await keeping.count_files(desk.plane, desk.caller)
    return Totals(concepts=concepts, relations=relations, files=files)


@router.get("/learned", dependencies=[READ])
async def list_learned(
    desk: AtDesk,
    path: Annotated[str, Query(max_length=1024, description="At it and below.")] = "/",
    after: Annotated[str, Query(max_length=1024, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=5_000)] = 1_000,
) -> KnownFiles:
    """The files that were learned, by path."""
    found = await keeping.known_files(desk.plane, desk.caller, path, after=after, limit=limit)
    files = [KnownFile(path=path, digest=digest) for path, digest in found.items()]
    return KnownFiles(files=files, next=files[-1].path if len(files) == limit else None)


@router.post(
    "/learned",
    dependencies=[WRITE, within(LEARN_TIMEOUT_S), limited(600, 60)],
    responses=problem_responses(409),
)
async def learn_files(found: FoundFiles, desk: AtDesk) -> Learned:
    """Learn what was found in files that are new, have changed or are gone.

    A repetition changes nothing: what is known is compared first.
    """
    kept = await keeping.take(desk.plane, desk.caller, [it.learned() for it in found.files])
    desk.token.give(kept.token)
    token = None if kept.token is None else str(kept.token)
    return Learned(touched=dict(kept.touched), token=token)


@router.post(
    "/concepts/hybrid", dependencies=[READ, limited(300, 60)], responses=problem_responses(504)
)
async def ask(question: HybridQuestion, desk: AtDesk) -> HybridAnswer:
    """The concepts that answer by meaning, and those connected with them, each with its reasons.

    With a token, those of its write are among them.
    """
    await desk.token.wait(ConceptSearch, ConceptNodes, RelatesTo)
    answer = await hybrid_search(
        desk.plane,
        desk.caller,
        question.question,
        category=question.category,
        hops=question.hops,
        limit=question.limit,
    )
    hits = [
        HybridHit(
            id=it.key,
            name=it.known.name,
            category=it.known.category,
            score=it.score,
            by_meaning=it.by_meaning,
            by_graph=it.by_graph,
            reasons=list(it.reasons),
        )
        for it in answer.hits
    ]
    return HybridAnswer(hits=hits, degraded=answer.degraded)
