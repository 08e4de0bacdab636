"""Which embedder a plane has, by its settings."""

from __future__ import annotations

from typing import Final

from polyplane.settings import Settings
from polyplane.stores.catalog import open_store
from polyplane.stores.protocol import Embedder

OFFLINE_EMBEDDER: Final = "wordllama://"


def embedder_url(settings: Settings) -> str:
    """Where texts are embedded, and by which model; it holds no secret."""
    url = settings.url("embedder_url")
    if url is None:
        return OFFLINE_EMBEDDER
    options = f"model={settings.embedder_model}&dimensions={settings.embedder_dimensions}"
    return f"{url}{'&' if '?' in url else '?'}{options}"


async def open_embedder_at(url: str, settings: Settings) -> Embedder:
    """What embeds texts there."""
    options = {}
    if url != OFFLINE_EMBEDDER:
        options = {"api_key": settings.url("embedder_api_key") or ""}
    embedder: Embedder = await open_store("embedder", url, **options)
    return embedder
