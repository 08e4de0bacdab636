"""What the plane's status says of its embedder."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, Field

from polyplane.plane import Plane
from polyplane.truth.embeddings import EmbeddingUsage

USAGE_DAYS: Final = 7


class EmbedderStatus(BaseModel):
    """What texts are embedded by, and what that took."""

    model: str
    costs: bool = Field(description="Whether a text costs a request; without, `days` is empty.")
    days: list[EmbeddingUsage] = Field(
        description="The last week, by day and model, of every process of the plane."
    )


async def embedder_of(plane: Plane) -> EmbedderStatus | None:
    """The embedder of `plane`; None where it needs none. Raises TruthDown."""
    embedder = plane.opened.stores.embedder
    if embedder is None:
        return None
    days = await plane.embeddings.usage(USAGE_DAYS) if embedder.costs else []
    return EmbedderStatus(model=embedder.identity, costs=embedder.costs, days=days)
