"""What each projection is derived by, and where its items go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from polyplane.errors import Misconfigured
from polyplane.flow.deriving import NO_KEY, Deriver, EntryDeriver, Keyed, VectorDeriver
from polyplane.flow.projector import Target
from polyplane.model.collection import Collection
from polyplane.model.projection import Cached, Projection, Vectors
from polyplane.model.touches import touches_of
from polyplane.stores.protocol import (
    CacheStore,
    Embedder,
    ObjectStore,
    SeriesStore,
    VectorStore,
)
from polyplane.truth.keyring import Keyring
from polyplane.truth.scan import source_of


@dataclass(slots=True)
class Stores:
    """The open stores; None where nothing declared needs one."""

    vector: VectorStore | None = None
    series: SeriesStore | None = None
    cache: CacheStore | None = None
    objects: ObjectStore | None = None
    objects_ready: bool = False
    """Whether this process has seen that the bucket is as it must be."""
    embedder: Embedder | None = None
    embedder_url: str = ""
    ring: Keyring | None = None
    """Data keys; None where no model has secrets."""
    keyed: Keyed = NO_KEY
    """What digests over secrets are keyed with."""


def target_of(projection: type[Projection[Any]], stores: Stores) -> Target:
    """What is derived, and where it goes, as a first generation. Raises Misconfigured."""
    ring, keyed = (stores.ring, stores.keyed) if projection.secrets else (None, NO_KEY)
    source = source_of(projection.model, touches_of(projection), ring)
    deriver: Deriver
    if issubclass(projection, Vectors):
        embedder = None if projection.dimensions else stores.embedder
        assert stores.vector is not None
        deriver = VectorDeriver(projection(), embedder, keyed)
        collection = Collection(
            name=projection.name,
            generation=1,
            kind="vector",
            dimensions=embedder.dimensions if embedder else projection.dimensions or 0,
            tag_types=projection.tag_types(),
            indexes=projection.indexes,
            text_name=projection.text_name,
        )
        return Target(projection.name, source, deriver, stores.vector, collection)
    if issubclass(projection, Cached):
        assert stores.cache is not None
        collection = Collection(
            name=projection.name,
            generation=1,
            kind="cache",
            key_prefix=projection.key_prefix,
            ttl_s=projection.ttl_s,
        )
        deriver = EntryDeriver(projection(), keyed)
        return Target(projection.name, source, deriver, stores.cache, collection)
    raise Misconfigured(f"{projection.__name__} is neither Vectors nor Cached.")
