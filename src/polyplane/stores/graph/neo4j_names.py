"""How a graph looks in Neo4j: labels, properties and values. Pure.

A node of the collection `Agent` carries two labels: `Agent/any`, under which its key is unique
whether it lives or not, and `Agent`, which only the living have. So a free query that says `Agent`
never meets a stub or a tombstone. An edge is a relation of its type, whose `id` is unique; its
tombstone is a node of its own, labelled `CAN_USE/gone`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from polyplane.model.collection import Collection
from polyplane.model.graph import ID, Edge, GraphEdge, GraphNode, Node
from polyplane.model.items import Held, Item, Stamp

KEY: Final = "_key"
POSITION: Final = "_position"
DIGEST: Final = "_digest"
OWN: Final = (ID, KEY, POSITION, DIGEST)
"""What no property of an application can be called here."""

STRANGE: Final = "\0element "
"""The key of what says none: this, which no key of truth begins with, and its element's id."""
AHEAD: Final = 1 << 53
"""The position of what says none: no gate lets a change replace it."""
ALTERED: Final = "altered"
"""The digest of what is not as it was put: no content has it, so it is found to be stale."""

DEFAULT_NAMESPACE: Final = "pp"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one plane's collections in a database that others may use, too."""

    namespace: str = DEFAULT_NAMESPACE

    @property
    def collections(self) -> str:
        """The label of the nodes that stand for collections."""
        return self.of("polyplane/collection")

    def of(self, labelled: str) -> str:
        """The label or type in the database; a declared one has no dot, and no slash."""
        return labelled if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}.{labelled}"

    def any_of(self, labelled: str) -> str:
        """The label that the nodes of a collection have, living or not."""
        return self.of(labelled) + "/any"

    def gone(self, labelled: str) -> str:
        """The label of the tombstones of edges."""
        return self.of(labelled) + "/gone"

    def declared(self, physical: str, known: Mapping[str, str]) -> str:
        """What `physical` is called by who declared it, in `known` (physical -> declared)."""
        return known.get(physical, physical)


def quoted(name: str) -> str:
    """`name` as Cypher wants a label, a type or a property."""
    return "`" + name.replace("`", "``") + "`"


def shape_of(collection: Collection) -> str:
    """What a collection must still be like, for what is held of it to be of use."""
    types = ",".join(
        f"{name}:{kind.__name__}" for name, kind in sorted(collection.tag_types.items())
    )
    return f"{collection.kind} {'>'.join(collection.ends)} {types}"


def row_of(collection: Collection, item: Item) -> list[Any]:
    """What is sent of a living item: its ends when it is an edge, key, digest and values.

    Lists and not maps: names in each row would cost as much as all the rest.
    """
    content, types = item.content, collection.tag_types
    ends = [content.source, content.target] if collection.ends else []
    values = [encoded(content.properties.get(name), kind) for name, kind in types.items()]
    return [*ends, item.key, item.digest, *values]


def key_of(collection: Collection, row: list[Any]) -> str:
    """The key in what `row_of` made."""
    return str(row[2 if collection.ends else 0])


def held_of(collection: Collection) -> str:
    """The properties of an element, as Cypher makes them of `row` and `$position`."""
    first = 2 if collection.ends else 0
    told = {ID: f"row[{first}]", POSITION: "$position", DIGEST: f"row[{first + 1}]"}
    if not collection.ends:
        told[KEY] = "row[0]"
    told |= {name: f"row[{at}]" for at, name in enumerate(collection.tag_types, first + 2)}
    return "{" + ", ".join(f"{quoted(name)}: {value}" for name, value in told.items()) + "}"


def encoded(value: Any, kind: type | None) -> Any:
    """A value as Neo4j holds it; timestamps in UTC, which compare alike however they were given."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if kind is float and isinstance(value, int):
        return float(value)
    return value


def decoded(value: Any) -> Any:
    """A value as Python has it."""
    if hasattr(value, "to_native"):
        native = value.to_native()
        return native.astimezone(UTC) if getattr(native, "tzinfo", None) else native
    return value


def shown(collection: Collection, held: Mapping[str, Any]) -> dict[str, Any]:
    """The declared properties, each with its value or None."""
    return {name: decoded(held.get(name)) for name in collection.tag_types}


def node(collection: Collection, held: Mapping[str, Any]) -> GraphNode:
    """A living node as readers get it."""
    return GraphNode(collection.label, held[ID], shown(collection, held))


def edge(collection: Collection, held: Mapping[str, Any], source: str, target: str) -> GraphEdge:
    """An edge as readers get it."""
    return GraphEdge(collection.label, held[ID], source, target, shown(collection, held))


def stamp_of(
    key: Any, position: Any, digest: Any, *, lives: bool, is_sound: bool, element: str
) -> Stamp:
    """What is really held, told by one stamp, whoever has put it there.

    `lives`: readers see it. `is_sound`: it is where, and under the key that, it says.
    """
    if not isinstance(key, str):
        return Stamp(f"{STRANGE}{element}", AHEAD, ALTERED)
    if type(position) is not int:
        return Stamp(key, AHEAD, ALTERED)
    if not lives and digest is None:
        return Stamp(key, position, None)
    return Stamp(
        key, position, digest if lives and is_sound and isinstance(digest, str) else ALTERED
    )


def held_node(collection: Collection, stamp: Stamp, held: Mapping[str, Any]) -> Held:
    """A node with its content; None in a tombstone, and in what was altered beyond reading."""
    if stamp.digest in (None, ALTERED):
        return Held(stamp, None)
    return Held(stamp, Node(_valued(collection, held)))


def held_edge(
    collection: Collection, stamp: Stamp, held: Mapping[str, Any], source: str, target: str
) -> Held:
    """An edge with its content."""
    if stamp.digest in (None, ALTERED):
        return Held(stamp, None)
    return Held(stamp, Edge(source, target, _valued(collection, held)))


def _valued(collection: Collection, held: Mapping[str, Any]) -> dict[str, Any]:
    """Every property with a value but our own: what nobody declared is content, too."""
    return {n: decoded(v) for n, v in held.items() if n not in OWN}
