"""Which store owns what, of what a plane declares, by the engines its settings name."""

from __future__ import annotations

from urllib.parse import urlsplit

from polyplane.ops.ownership import Holding, holdings
from polyplane.runtime.declared import Declared
from polyplane.runtime.storing import store_urls, vector_tables
from polyplane.settings import Settings
from polyplane.stores.catalog import ENGINES


def ownership_of(declared: Declared, settings: Settings) -> list[Holding]:
    """All that the stores hold. Nothing is opened for it. Raises Misconfigured."""
    engines = {
        kind: ENGINES[kind][urlsplit(url).scheme][1]
        for kind, url in store_urls(declared, settings).items()
    }
    return holdings(
        declared.applications,
        declared.models,
        declared.projections,
        declared.streams,
        blobs=declared.blobs,
        engines={**engines, "cache": "valkey", **({"objects": "s3"} if declared.blobs else {})},
        tables=vector_tables(declared, settings),
    )
