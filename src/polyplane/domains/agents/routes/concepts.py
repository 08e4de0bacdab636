"""Concepts: what is known, how it is connected, and by meaning."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query

import polyplane as pp
from polyplane.domains.agents import queries
from polyplane.domains.agents.models import (
    Concept,
    ConceptAppearance,
    ConceptRelation,
    Discussion,
)
from polyplane.domains.agents.permissions import READ, WRITE
from polyplane.domains.agents.projections import (
    AppearsIn,
    ConceptNodes,
    ConceptSearch,
    DiscussionNodes,
    RelatesTo,
)
from polyplane.domains.agents.routes.desk import AtDesk
from polyplane.domains.agents.rows import row_of
from polyplane.domains.agents.shapes import (
    AppearanceShown,
    ConceptChange,
    ConceptGiven,
    ConceptHit,
    ConceptSeen,
    ConceptShown,
    DiscussionSeen,
    HopSeen,
    Kind,
    Question,
    RelatedSeen,
    RelationGiven,
    RelationShown,
    Title,
    WaySeen,
    Word,
)
from polyplane.web import After, Limit, Page, limited, problem_responses, repeatable

router = APIRouter()


@router.post(
    "/concepts",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses=problem_responses(409),
)
async def create_concept(given: ConceptGiven, desk: AtDesk) -> ConceptShown:
    """Add a concept. Conflict when the id is taken."""
    row = Concept(tenant_id=desk.tenant, **given.model_dump(exclude_none=True))
    return await desk.add(row, ConceptShown)


@router.get("/concepts", dependencies=[READ])
async def list_concepts(
    desk: AtDesk,
    name: Annotated[Title | None, Query(description="Only those of this name.")] = None,
    category: Annotated[Word | None, Query(description="Only these.")] = None,
    after: After = None,
    limit: Limit = 50,
) -> Page[ConceptShown]:
    """Concepts, newest first."""
    only = [] if name is None else [Concept.name == name]
    if category is not None:
        only.append(Concept.category == category)
    return await desk.page(Concept, ConceptShown, after, limit, *only)


@router.post(
    "/concepts/search", dependencies=[READ, limited(600, 60)], responses=problem_responses(504)
)
async def search_concepts(question: Question, desk: AtDesk) -> list[ConceptHit]:
    """The concepts nearest in meaning. With a token, those of its write are among them."""
    await desk.token.wait(ConceptSearch)
    hits = await queries.search_concepts(
        desk.plane,
        desk.caller,
        question.question,
        category=question.category,
        limit=question.limit,
    )
    return [
        ConceptHit(
            id=UUID(hit.key),
            name=hit.tags["name"],
            category=hit.tags["category"],
            score=hit.score,
        )
        for hit in hits
    ]


@router.get("/concepts/{concept_id}", dependencies=[READ], responses=problem_responses(404))
async def read_concept(concept_id: UUID, desk: AtDesk) -> ConceptShown:
    """One concept."""
    return await desk.read(Concept, concept_id, ConceptShown)


@router.patch(
    "/concepts/{concept_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def change_concept(concept_id: UUID, change: ConceptChange, desk: AtDesk) -> ConceptShown:
    """Change what is named. With If-Match, only if nobody changed it meanwhile."""
    return await desk.change(Concept, concept_id, change.changes(), ConceptShown)


@router.delete(
    "/concepts/{concept_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_concept(concept_id: UUID, desk: AtDesk) -> None:
    """Forget a concept, with its relations and appearances."""
    await desk.delete(Concept, concept_id)


@router.get(
    "/concepts/{concept_id}/related", dependencies=[READ], responses=problem_responses(404, 504)
)
async def navigate(
    concept_id: UUID,
    desk: AtDesk,
    type: Annotated[Kind | None, Query(description="Only related in this way.")] = None,
    min_strength: Annotated[float, Query(ge=0, le=1)] = 0.0,
    limit: Limit = queries.RELATED,
) -> list[RelatedSeen]:
    """Knowledge navigation: what a concept relates to, the strongest first, from the graph."""
    await desk.token.wait(ConceptNodes, RelatesTo)
    found = await queries.related_concepts(
        desk.plane,
        desk.caller,
        concept_id,
        type=type,
        min_strength=min_strength,
        limit=limit,
    )
    return [RelatedSeen.model_validate(it) for it in found]


@router.put(
    "/concepts/{concept_id}/related/{target_id}/{type}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409),
)
async def relate(
    concept_id: UUID, target_id: UUID, type: Kind, given: RelationGiven, desk: AtDesk
) -> RelationShown:
    """Say how strongly a concept relates to another in one way; replaces what was said."""
    async with desk.plane.acting(desk.caller).write() as tx:
        for key in (concept_id, target_id):
            await row_of(tx.session, Concept, key, tenant=desk.tenant)
        row = (await tx.scalars(_relation(concept_id, target_id, type))).one_or_none()
        if row is None:
            row = ConceptRelation(
                tenant_id=desk.tenant, source_id=concept_id, target_id=target_id, type=type
            )
            tx.add(row)
        row.strength = given.strength
    return desk.written(row, tx, RelationShown)


@router.delete(
    "/concepts/{concept_id}/related/{target_id}/{type}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409),
)
async def unrelate(concept_id: UUID, target_id: UUID, type: Kind, desk: AtDesk) -> None:
    """Say that a concept does not relate to another in this way."""
    async with desk.plane.acting(desk.caller).write() as tx:
        row = (await tx.scalars(_relation(concept_id, target_id, type))).one_or_none()
        if row is None or row.tenant_id != desk.tenant:
            raise pp.NotFound("They do not relate in this way.", field="target_id")
        await tx.delete(row)
    desk.token.give(tx.token)


@router.get(
    "/concepts/{concept_id}/path/{target_id}",
    dependencies=[READ],
    responses=problem_responses(404, 504),
)
async def connect(
    concept_id: UUID,
    target_id: UUID,
    desk: AtDesk,
    hops: Annotated[int, Query(ge=1, le=10)] = 6,
) -> WaySeen:
    """How two concepts are connected, by the fewest relations, whichever way they point."""
    await desk.token.wait(ConceptNodes, RelatesTo)
    path = await queries.concept_path(desk.plane, desk.caller, concept_id, target_id, hops=hops)
    if path is None:
        raise pp.NotFound(f"They are not connected within {hops} relations.", field="target_id")
    return WaySeen(
        concepts=[ConceptSeen.model_validate(it) for it in map(queries.concept_of, path.nodes)],
        relations=[
            HopSeen(
                source_id=UUID(it.source),
                target_id=UUID(it.target),
                type=it.properties["type"],
                strength=it.properties["strength"],
            )
            for it in path.edges
        ],
    )


@router.get(
    "/concepts/{concept_id}/discussions",
    dependencies=[READ],
    responses=problem_responses(404, 504),
)
async def read_appearances(
    concept_id: UUID, desk: AtDesk, limit: Limit = 100
) -> list[DiscussionSeen]:
    """The discussions a concept appears in, as the graph has it."""
    await desk.token.wait(ConceptNodes, DiscussionNodes, AppearsIn)
    found = await queries.discussions_about(desk.plane, desk.caller, concept_id, limit=limit)
    return [DiscussionSeen.model_validate(it) for it in found]


@router.put(
    "/concepts/{concept_id}/discussions/{discussion_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409),
)
async def let_appear(concept_id: UUID, discussion_id: UUID, desk: AtDesk) -> AppearanceShown:
    """Say that a concept appears in a discussion."""
    row = ConceptAppearance(
        tenant_id=desk.tenant, concept_id=concept_id, discussion_id=discussion_id
    )
    ends = {Concept: concept_id, Discussion: discussion_id}
    return await desk.tie(row, AppearanceShown, ends)


@router.delete(
    "/concepts/{concept_id}/discussions/{discussion_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409),
)
async def let_disappear(concept_id: UUID, discussion_id: UUID, desk: AtDesk) -> None:
    """Say that a concept does not appear in a discussion."""
    key = {"concept_id": concept_id, "discussion_id": discussion_id}
    await desk.untie(ConceptAppearance, key)


def _relation(source_id: UUID, target_id: UUID, type: str) -> sa.Select[ConceptRelation]:
    relation = ConceptRelation
    return (
        sa.select(relation)
        .where(
            relation.source_id == source_id,
            relation.target_id == target_id,
            relation.type == type,
        )
        .with_for_update()
    )
