"""Opening the stores that are needed: where each is, and what it is opened with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final
from urllib.parse import urlsplit

from polyplane.embedded.engine import HOST
from polyplane.errors import Misconfigured
from polyplane.model.projection import Edges, Nodes, Projection, Vectors
from polyplane.runtime.declared import Declared
from polyplane.runtime.embedders import OFFLINE_EMBEDDER, embedder_url, open_embedder_at
from polyplane.runtime.targets import Stores
from polyplane.security.realm import Realm
from polyplane.settings import USUAL_TABLES, Settings
from polyplane.stores.catalog import ONE_PROCESS, adapter, open_store
from polyplane.stores.object_protocol import ObjectStore

EMBEDDED_S3: Final = "http://127.0.0.1"
"""Of the scheme that the embedded server will have; where it is, it says when it runs."""


def store_urls(declared: Declared, settings: Settings) -> dict[str, str]:
    """Kind -> URL of the stores that are needed and no supervised engine serves."""
    home = settings.home.absolute()
    urls = {}
    if declared.of_kind(Vectors):
        urls["vector"] = settings.url("vector_url") or f"lancedb://{home / 'lancedb'}"
    if declared.of_kind(Nodes) or declared.of_kind(Edges):
        urls["graph"] = settings.url("graph_url") or f"ladybug://{home / 'graph'}"
    if any(_own_dimensions(projection) is None for projection in declared.of_kind(Vectors)):
        urls["embedder"] = settings.url("embedder_url") or OFFLINE_EMBEDDER
    if declared.blobs:
        urls["objects"] = settings.url("objects_url") or EMBEDDED_S3
    if declared.streams:
        urls["series"] = settings.url("series_url") or f"chdb://{home / 'clickhouse'}"
    return urls


def load_adapters(declared: Declared, settings: Settings) -> None:
    """Import the adapters, which takes seconds, while the engines start."""
    for kind, url in store_urls(declared, settings).items():
        adapter(kind, url)


async def open_stores(
    declared: Declared, settings: Settings, urls: Mapping[str, str], stack: AsyncExitStack
) -> Stores:
    """All of them; `urls` are those of engines that are supervised, or servers."""
    stores = Stores(tables=vector_tables(declared, settings))
    needed = store_urls(declared, settings)
    if url := needed.get("vector"):
        key = settings.url("vector_api_key")
        stores.vector = await open_store("vector", url, **({"api_key": key} if key else {}))
        stack.push_async_callback(stores.vector.close)
    if url := needed.get("graph"):
        stores.graph = await open_store("graph", url, **_graph_options(url, settings))
        stack.push_async_callback(stores.graph.close)
    if "embedder" in needed:
        stores.embedder_url = embedder_url(settings)
        stores.embedder = await open_embedder_at(stores.embedder_url, settings)
        stack.push_async_callback(stores.embedder.close)
    if url := needed.get("series"):
        # In process there is one folder for all planes: each has its own database in it.
        options = {"database": settings.namespace} if url.startswith("chdb:") else {}
        stores.series = await open_store("series", url, **options)
        stack.push_async_callback(stores.series.close)
    if "valkey" in declared.engines():
        prefix = f"{settings.namespace}:default:"
        stores.cache = await open_store("cache", urls["valkey"], prefix=prefix)
        stack.push_async_callback(stores.cache.close)
    if declared.blobs:
        stores.objects = await _open_objects(settings, urls["s3"], urls.get("s3.owner", ""))
        stack.push_async_callback(stores.objects.close)
    return stores


def vector_tables(declared: Declared, settings: Settings) -> dict[str, str]:
    """Projection -> its table in the vector store, where the settings name another.

    Raises Misconfigured for a projection that is not declared, and for a name that is another's.
    What the usual variables name counts where it is declared.
    """
    own = {projection.name for projection in declared.of_kind(Vectors)}
    known = own | declared.elsewhere | {*USUAL_TABLES.values()}
    if unknown := sorted(settings.vector_tables.keys() - known):
        raise Misconfigured(
            f"vector_tables names {unknown[0]!r}, which is no projection of vectors.",
            fix=f"There are: {', '.join(sorted(own)) or 'none'}.",
        )
    named = {name: settings.vector_tables.get(name, name) for name in sorted(own)}
    for name, table in named.items():
        if re.search(r"_g\d+$", table) or [*named.values()].count(table) > 1:
            raise Misconfigured(
                f"vector_tables calls {name} {table!r}, as another collection is or may be called.",
                fix="Give each a name of its own that does not end in _g and a number.",
            )
    return {name: table for name, table in named.items() if table != name}


def _graph_options(url: str, settings: Settings) -> dict[str, str]:
    """A server may be shared by several planes, and asks who comes."""
    if url.startswith(ONE_PROCESS):
        return {}
    return {
        "namespace": settings.namespace,
        "user": settings.graph_username,
        "password": settings.url("graph_password") or "",
    }


async def _open_objects(settings: Settings, url: str, owner_url: str) -> ObjectStore:
    folder = settings.home.absolute() / "engines" / "seaweedfs"
    is_ours = urlsplit(url).hostname == HOST and folder.is_dir()
    store: ObjectStore = await open_store(
        "objects",
        url,
        bucket=Realm.of(settings).bucket,
        region=settings.objects_region,
        access_key=settings.url("objects_access_key") or "",
        secret_key=settings.url("objects_secret_key") or "",
        owner_url=owner_url,
        path_style=settings.objects_path_style,
        folder=folder if is_ours else None,
    )
    return store


def _own_dimensions(projection: type[Projection[Any]]) -> int | None:
    """The dimensions a `Vectors` projection declares, or None when the embedder decides."""
    return projection.dimensions if issubclass(projection, Vectors) else None
