"""Which embedder a plane has, by its settings; and those of collections of before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from polyplane.errors import PolyplaneError
from polyplane.settings import Settings
from polyplane.stores.catalog import open_store
from polyplane.stores.protocol import Embedder
from polyplane.truth.collections import CollectionRow

_log = structlog.get_logger(__name__)

OFFLINE_EMBEDDER: Final = "wordllama://"


def embedder_url(settings: Settings) -> str:
    """Where texts are embedded, and by which model; it holds no secret."""
    url = settings.url("embedder_url")
    if url is None:
        return OFFLINE_EMBEDDER
    if not _is_endpoint(url):
        return url
    options = f"model={settings.embedder_model}&dimensions={settings.embedder_dimensions}"
    return f"{url}{'&' if '?' in url else '?'}{options}"


async def open_embedder_at(url: str, settings: Settings) -> Embedder:
    """What embeds texts there."""
    options: dict[str, Any] = {}
    if _is_endpoint(url):
        options = {
            "api_key": settings.url("embedder_api_key") or "",
            "timeout_s": settings.embedder_timeout_s,
            "batch_texts": settings.embedder_batch_texts,
            "batch_tokens": settings.embedder_batch_tokens,
            "requests_per_minute": settings.embedder_requests_per_minute,
            "tokens_per_minute": settings.embedder_tokens_per_minute,
        }
    embedder: Embedder = await open_store("embedder", url, **options)
    return embedder


def _is_endpoint(url: str) -> bool:
    return url.startswith(("http://", "https://"))


class Embedders:
    """What embedded the texts of collections that other code derives, opened once."""

    def __init__(self, open_embedder: Callable[[str], Awaitable[Embedder]]) -> None:
        self._open = open_embedder
        self._known: dict[str, Embedder | None] = {}

    async def of(self, row: CollectionRow) -> Embedder | None:
        """The embedder of a collection; None when it had none, or that does not open."""
        url = row.shape["embedder"]
        if url and url not in self._known:
            try:
                found = await self._open(url)
                # Another release of the same model may embed otherwise.
                same = row.definition.endswith(f"/{found.identity}")
                self._known[url] = found if same else None
            except PolyplaneError as error:
                _log.warning("generation.no_embedder", collection=row.name, error=error.message)
                self._known[url] = None
        return self._known.get(url)

    async def close(self) -> None:
        """Let go of them."""
        for embedder in self._known.values():
            if embedder is not None:
                await embedder.close()
        self._known.clear()
