"""What each projection is derived by, and where its items go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from polyplane.errors import Misconfigured, Refused
from polyplane.flow.deriving import (
    NO_KEY,
    Deriver,
    EntryDeriver,
    GraphDeriver,
    Keyed,
    Remembering,
    VectorDeriver,
)
from polyplane.flow.projector import Target
from polyplane.model.collection import Collection
from polyplane.model.projection import Cached, Edges, Nodes, Projection, Vectors
from polyplane.model.scope import Whose, check_unreserved
from polyplane.model.terms import check_language
from polyplane.model.touches import touches_of
from polyplane.stores.graph_protocol import GraphStore
from polyplane.stores.object_protocol import ObjectStore
from polyplane.stores.protocol import CacheStore, Embedder, SeriesStore, VectorStore
from polyplane.truth.keyring import Keyring
from polyplane.truth.scan import source_of


@dataclass(slots=True)
class Stores:
    """The open stores; None where nothing declared needs one."""

    vector: VectorStore | None = None
    graph: GraphStore | None = None
    series: SeriesStore | None = None
    cache: CacheStore | None = None
    objects: ObjectStore | None = None
    objects_ready: bool = False
    """Whether this process has seen that the bucket is as it must be."""
    embedder: Embedder | None = None
    embedder_url: str = ""
    memory: Remembering | None = None
    """What keeps the vectors of an embedder that costs."""
    ring: Keyring | None = None
    """Data keys; None where no model has secrets."""
    keyed: Keyed = NO_KEY
    """What digests over secrets are keyed with."""


def target_of(projection: type[Projection[Any]], stores: Stores) -> Target:
    """What is derived, and where it goes, as a first generation. Raises Misconfigured."""
    ring, keyed = (stores.ring, stores.keyed) if projection.secrets else (None, NO_KEY)
    source = source_of(projection.model, touches_of(projection), ring)
    marks = _marks_of(projection)
    deriver: Deriver
    if issubclass(projection, Vectors):
        embedder = None if projection.dimensions else stores.embedder
        assert stores.vector is not None
        if projection.full_text:
            check_language(projection.full_text)
        memory = None if projection.secrets else stores.memory
        deriver = VectorDeriver(projection(), embedder, keyed, memory)
        types = projection.tag_types()
        try:
            check_unreserved(types, f"{projection.__name__}: the tag")
        except Refused as error:
            raise Misconfigured(error.message, fix=error.fix) from None
        collection = Collection(
            name=projection.name,
            generation=1,
            kind="vector",
            dimensions=embedder.dimensions if embedder else projection.dimensions or 0,
            # Without a TypedDict tags are of any type, these too.
            tag_types=types | dict.fromkeys(marks, str) if types else types,
            indexes=(*projection.indexes, *marks),
            marks=marks,
            text_name=projection.text_name,
            full_text=projection.full_text,
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
            marks=marks,
        )
        deriver = EntryDeriver(projection(), keyed)
        return Target(projection.name, source, deriver, stores.cache, collection)
    if issubclass(projection, Nodes | Edges):
        assert stores.graph is not None
        between = issubclass(projection, Edges) and (projection.source, projection.target)
        ends = [target_of(it, stores) for it in between or ()]
        collection = Collection(
            name=projection.name,
            generation=1,
            kind="graph",
            tag_types=projection.property_types() | dict.fromkeys(marks, str),
            indexes=(*(projection.indexes if issubclass(projection, Nodes) else ()), *marks),
            marks=marks,
            label=projection.label,
            ends=tuple(it.collection.labelled for it in ends),
        )
        deriver = GraphDeriver(projection(), [it.deriver.definition for it in ends], keyed)
        return Target(projection.name, source, deriver, stores.graph, collection)
    raise Misconfigured(f"{projection.__name__} is neither Vectors nor Nodes, Edges or Cached.")


def _marks_of(projection: type[Projection[Any]]) -> tuple[str, ...]:
    """What the items say of whose they are. Misconfigured when they would tell nobody's reader of
    some tenant's rows.
    """
    whose = Whose.of(projection.model)
    for touch in touches_of(projection):
        if whose.tenant is None and Whose.of(touch.model).tenant is not None:
            raise Misconfigured(
                f"{projection.__name__} touches {touch.model.__name__}, whose rows belong to"
                f" tenants; those of {projection.model.__name__} do not.",
                fix="Mark its tenant too: polyplane.marks.tenant().",
            )
    return whose.marks
