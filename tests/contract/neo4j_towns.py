"""Towns and the roads between them, for the tests of Neo4j."""

from __future__ import annotations

from typing import Any, Final

from neo4j.time import DateTime

from polyplane.model.collection import Collection
from polyplane.model.graph import Edge, GraphView, Node
from polyplane.model.items import Item, Stamp
from polyplane.stores.graph.neo4j_graph import Neo4jStore

TOWNS: Final = Collection("towns", 1, "graph", tag_types={"name": str}, label="Town")
ROADS: Final = Collection(
    "roads", 1, "graph", tag_types={"km": float}, label="ROAD", ends=("Town", "Town")
)
VIEW: Final = GraphView({"Town": TOWNS}, {"ROAD": ROADS})


def town(key: str, name: str = "") -> Item:
    """A node."""
    return Item(key, f"digest of {key} {name}", Node({"name": name or key}))


def road(key: str, source: str, target: str, km: float = 1.0) -> Item:
    """An edge."""
    return Item(key, f"digest of {key} {source} {target} {km}", Edge(source, target, {"km": km}))


async def stamps(store: Neo4jStore, collection: Collection, **given: Any) -> list[Stamp]:
    """All that a scan tells."""
    return [stamp async for some in store.scan(collection, **given) for stamp in some]


def plain(value: Any) -> Any:
    """A value of the driver as Python has it."""
    return value.to_native() if isinstance(value, DateTime) else value
