"""URL scheme -> engine module. The one place where an engine is named."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

from polyplane.errors import EngineMissing, Misconfigured

ENGINES: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "vector": {
        "lancedb": ("polyplane.stores.vector.lance", "lancedb"),
        "qdrant": ("polyplane.stores.vector.qdrant", "qdrant"),
        "http": ("polyplane.stores.vector.qdrant", "qdrant"),
        "https": ("polyplane.stores.vector.qdrant", "qdrant"),
    },
    "graph": {
        "ladybug": ("polyplane.stores.graph.ladybug_graph", "ladybug"),
        "bolt": ("polyplane.stores.graph.neo4j_graph", "neo4j"),
        "bolt+s": ("polyplane.stores.graph.neo4j_graph", "neo4j"),
        "neo4j": ("polyplane.stores.graph.neo4j_graph", "neo4j"),
        "neo4j+s": ("polyplane.stores.graph.neo4j_graph", "neo4j"),
    },
    "series": {
        "chdb": ("polyplane.stores.series.clickhouse", "clickhouse"),
        "clickhouse": ("polyplane.stores.series.clickhouse", "clickhouse"),
        "clickhouses": ("polyplane.stores.series.clickhouse", "clickhouse"),
        "http": ("polyplane.stores.series.clickhouse", "clickhouse"),
        "https": ("polyplane.stores.series.clickhouse", "clickhouse"),
    },
    "cache": {
        "redis": ("polyplane.stores.cache.valkey", "valkey"),
        "rediss": ("polyplane.stores.cache.valkey", "valkey"),
        "valkey": ("polyplane.stores.cache.valkey", "valkey"),
    },
    "objects": {
        "http": ("polyplane.stores.objects.s3", "objects"),
        "https": ("polyplane.stores.objects.s3", "objects"),
    },
    "embedder": {
        "wordllama": ("polyplane.stores.embedding.wordllama_static", "wordllama"),
        "deterministic": ("polyplane.stores.embedding.hashed", "embedded"),
        "http": ("polyplane.stores.embedding.openai_compatible", "embedded"),
        "https": ("polyplane.stores.embedding.openai_compatible", "embedded"),
    },
}


ONE_PROCESS: Final = ("chdb:", "ladybug:", "qdrant://local/", "qdrant://:memory:")
"""How the URLs of engines begin that belong to one process; the others are `multi_process`."""


def engine_of(store: Any) -> str:
    """The name of the engine of an open store, which is that of its extra, too."""
    named = {module: extra for kind in ENGINES.values() for module, extra in kind.values()}
    return named[type(store).__module__]


def adapter(kind: str, url: str) -> ModuleType:
    """The module of the engine at `url`; loading it may take seconds of CPU.

    Raises Misconfigured for an unknown scheme, EngineMissing when its package is not installed.
    """
    scheme = urlsplit(url).scheme
    try:
        module_name, extra = ENGINES[kind][scheme]
    except KeyError:
        known = ", ".join(sorted(ENGINES.get(kind, ())))
        raise Misconfigured(
            f"No {kind} engine has the URL scheme {scheme!r}.", fix=f"Known: {known}."
        ) from None
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("polyplane"):
            raise
        raise EngineMissing(scheme, extra) from error


async def open_store(kind: str, url: str, **options: Any) -> Any:
    """Open the store of `kind` at `url`; its module's `connect(url, **options)` does the work.

    Raises as `adapter` does, and what `connect` raises.
    """
    return await adapter(kind, url).connect(url, **options)
