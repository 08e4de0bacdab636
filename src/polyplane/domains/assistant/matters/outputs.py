"""What models made: kept with the documents it was made from, found by its meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypedDict
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

import polyplane as pp
from polyplane.domains.assistant.matters.models_made import ModelOutput, ModelOutputDocument
from polyplane.domains.assistant.models import Document
from polyplane.web import Redactor


class OutputTags(TypedDict):
    """What outputs can be filtered by."""

    model: str
    purpose: str


class ModelOutputs(pp.Vectors[ModelOutput, OutputTags]):
    """What models made, by its meaning. The prompt stays in truth."""

    indexes = ("model", "purpose")

    def derive(self, output: ModelOutput, /) -> pp.Vector[OutputTags] | None:
        if not output.content.strip():
            return None
        return pp.Vector(
            output.content, tags=OutputTags(model=output.model, purpose=output.purpose)
        )


PROJECTIONS: Final = (ModelOutputs,)


def secret_free(prompt: str) -> str:
    """`prompt` without what is a secret by its form: keys, tokens, passwords in URLs, headers."""
    return Redactor().text(prompt)


async def keep(tx: pp.Write, output: ModelOutput, document_ids: Sequence[UUID]) -> None:
    """Add an output that was made from these documents. Refused for one that is not there."""
    wanted = list(dict.fromkeys(document_ids))
    query = sa.select(Document.id).where(Document.tenant_id == tx.tenant, Document.id.in_(wanted))
    known = set(await tx.scalars(query))
    for at, document_id in enumerate(document_ids):
        if document_id not in known:
            raise pp.Refused(f"There is no document {document_id}.", field=f"document_ids.{at}")
    output.prompt = secret_free(output.prompt)
    tx.add(output)
    await tx.flush()
    tx.add_all(
        [
            ModelOutputDocument(
                tenant_id=output.tenant_id,
                owner_id=output.owner_id,
                output_id=output.id,
                document_id=document_id,
            )
            for document_id in wanted
        ]
    )


async def documents_of(
    session: AsyncSession, tenant: str, outputs: Sequence[UUID]
) -> dict[UUID, list[UUID]]:
    """Output -> the documents it was made from."""
    query = sa.select(ModelOutputDocument).where(
        ModelOutputDocument.tenant_id == tenant, ModelOutputDocument.output_id.in_(outputs)
    )
    found: dict[UUID, list[UUID]] = {output: [] for output in outputs}
    for row in await session.scalars(query):
        found[row.output_id].append(row.document_id)
    return found
