"""How collections lie in Ladybug: tables, columns, rows and conditions. Pure.

A label is a node table, with `_key` as its primary key and `id` where the node is to be seen. A
type of edges is a relation, and a node table beside it, `_ends_<type>`, the index that relations
do not have: under each key between what the edge is, at which position, and what is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from polyplane.model.collection import Collection
from polyplane.model.graph import ID, Edge, Node
from polyplane.model.items import Held, Item, Stamp
from polyplane.stores.graph.cypher_text import quoted
from polyplane.stores.vector.where import Condition, bounds

KEY: Final = "_key"
POSITION: Final = "_position"
DIGEST: Final = "_digest"
_TYPES: Final[dict[type, tuple[str, pa.DataType]]] = {
    str: ("STRING", pa.string()),
    int: ("INT64", pa.int64()),
    float: ("DOUBLE", pa.float64()),
    bool: ("BOOL", pa.bool_()),
    datetime: ("TIMESTAMP_TZ", pa.timestamp("us", "UTC")),
}


def ledger(collection: Collection) -> str:
    """The table beside the relation of a collection of edges."""
    return f"_ends_{collection.labelled}"


def columns(collection: Collection) -> dict[str, str]:
    """Name -> type, as the engine says it, of all columns but the ends of edges."""
    own = {} if collection.ends else {KEY: "STRING"}
    own |= {ID: "STRING", POSITION: "INT64", DIGEST: "STRING"}
    return own | {name: _TYPES[kind][0] for name, kind in collection.tag_types.items()}


def created(collection: Collection) -> list[str]:
    """The statements that create a collection's tables."""
    named = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns(collection).items())
    name = quoted(collection.labelled)
    if not collection.ends:
        return [f"CREATE NODE TABLE {name}({named}, PRIMARY KEY({quoted(KEY)}))"]
    source, target = map(quoted, collection.ends)
    return [
        f"CREATE NODE TABLE {quoted(ledger(collection))}(`_key` STRING, `_source` STRING,"
        " `_target` STRING, `_position` INT64, PRIMARY KEY(`_key`))",
        f"CREATE REL TABLE {name}(FROM {source} TO {target}, {named})",
    ]


# What is written


def texts(values: Iterable[str | None]) -> pa.Array:
    """A column of texts."""
    return pa.array(values, pa.string())


def _all_at(position: int, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(position, pa.int64()), count)


def node_rows(
    collection: Collection, puts: Sequence[Item], drops: Sequence[str], position: int
) -> pa.Table:
    """Rows of a node table, in the order of its columns: living ones, then tombstones."""
    none = [None] * len(drops)
    keys = [item.key for item in puts]
    every = texts([*keys, *drops])
    made = {
        KEY: every,
        ID: texts([*keys, *none]) if drops else every,
        POSITION: _all_at(position, len(every)),
        DIGEST: texts([*(item.digest for item in puts), *none]),
    }
    return pa.table(made | _properties(collection, puts, none))


def edge_rows(collection: Collection, puts: Sequence[Item], position: int) -> pa.Table:
    """Rows of a relation: its ends, and its columns in their order."""
    made = {
        "source": texts([item.content.source for item in puts]),
        "target": texts([item.content.target for item in puts]),
        ID: texts([item.key for item in puts]),
        POSITION: _all_at(position, len(puts)),
        DIGEST: texts([item.digest for item in puts]),
    }
    return pa.table(made | _properties(collection, puts, []))


def stub_rows(keys: Sequence[str]) -> pa.Table:
    """Rows of a node table that stand for nodes that are not there yet."""
    return pa.table({KEY: texts(keys), POSITION: _all_at(0, len(keys))})


def ledger_rows(puts: Sequence[Item], drops: Sequence[str], position: int) -> pa.Table:
    """Rows of the table beside a relation."""
    none = [None] * len(drops)
    return pa.table(
        {
            KEY: texts([*(item.key for item in puts), *drops]),
            "_source": texts([*(item.content.source for item in puts), *none]),
            "_target": texts([*(item.content.target for item in puts), *none]),
            POSITION: _all_at(position, len(puts) + len(drops)),
        }
    )


def ledger_of(edges: pa.Table) -> pa.Table:
    """`ledger_rows` of what `edge_rows` has made."""
    found = edges.select([ID, "source", "target", POSITION])
    return found.rename_columns([KEY, "_source", "_target", POSITION])


def _properties(
    collection: Collection, puts: Sequence[Item], none: list[None]
) -> dict[str, pa.Array]:
    return {
        name: pa.array([*(item.content.properties.get(name) for item in puts), *none], kind)
        for name, (_, kind) in ((name, _TYPES[kind]) for name, kind in collection.tag_types.items())
    }


def aliased(rows: pa.Table) -> pa.Table:
    """`rows` under names that no property has: `c0`, `c1` and so on."""
    return rows.rename_columns([f"c{i}" for i in range(rows.num_columns)])


def assigned(variable: str, rows: pa.Table, first: int, sign: str = "") -> str:
    """`SET` of all columns of `aliased(rows)` from the index `first` on.

    With the `sign` $ they are parameters, one row at a time.
    """
    cells = _cells(rows, first, sign)
    return ", ".join(f"{variable}.{quoted(name)} = {cell}" for name, cell in cells)


def literal_map(rows: pa.Table, first: int, sign: str = "") -> str:
    """`{name: c0, ...}` of all columns of `aliased(rows)` from the index `first` on."""
    cells = _cells(rows, first, sign)
    return "{" + ", ".join(f"{quoted(name)}: {cell}" for name, cell in cells) + "}"


def _cells(rows: pa.Table, first: int, sign: str) -> list[tuple[str, str]]:
    """(column, its value as Cypher has it) from the index `first` on."""
    typed = zip(rows.column_names, rows.schema.types, strict=True)
    return [(n, _cell(i, kind, sign)) for i, (n, kind) in enumerate(typed) if i >= first]


def _cell(index: int, kind: pa.DataType, sign: str) -> str:
    """A value of a row, of whose moments the engine does not see the zone."""
    cell = f"{sign}c{index}"
    return f"CAST({cell} AS TIMESTAMP_TZ)" if pa.types.is_timestamp(kind) else cell


# What is read


def returned(variable: str, collection: Collection) -> str:
    """The key and all properties, as columns of an answer."""
    names = (ID, *collection.tag_types)
    return ", ".join(f"{variable}.{quoted(name)}" for name in names)


def properties(collection: Collection, values: Sequence[Any]) -> dict[str, Any]:
    """The properties in what `returned` gave, without the key."""
    return {
        name: value.astimezone(UTC) if isinstance(value, datetime) else value
        for name, value in zip(collection.tag_types, values[1:], strict=True)
    }


class Bound:
    """Conditions as Cypher, and their values as parameters."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def value(self, value: Any) -> str:
        """`value` as a parameter."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value.astimezone(UTC) if isinstance(value, datetime) else value
        return f"${name}"

    def all(self, variable: str, conditions: Sequence[Condition]) -> list[str]:
        """Each condition on the properties of `variable`."""
        return [self._one(f"{variable}.{quoted(it.name)}", it) for it in conditions]

    def _one(self, name: str, condition: Condition) -> str:
        if condition.within is not None:
            limits = bounds(condition.within).items()
            signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
            return " AND ".join(f"{name} {signs[op]} {self.value(v)}" for op, v in limits) or "true"
        found = [f"{name} = {self.value(v)}" for v in condition.values if v is not None]
        found += [f"{name} IS NULL"] if None in condition.values else []
        return f"({' OR '.join(found)})" if found else "false"


def node_held(collection: Collection, row: Sequence[Any]) -> Held:
    """What (key, position, digest, id, properties...) says is held."""
    stamp = node_stamp(*row[:4])
    content = Node(_valued(properties(collection, row[3:]))) if stamp.digest is not None else None
    return Held(stamp, content)


def node_stamp(key: str, position: int | None, digest: str | None, seen_as: str | None) -> Stamp:
    """What is held of a node: one without `id` is not seen, whatever it says besides."""
    if seen_as is None:
        return Stamp(key, position or 0, None)
    return Stamp(key, position or 0, (digest or "") if seen_as == key else "")


def edge_held(collection: Collection, row: Sequence[Any]) -> Held:
    """What (key, position, digest, source, target, id, properties...) says is held."""
    key, position, digest, source, target = row[:5]
    content = Edge(source, target, _valued(properties(collection, row[5:])))
    return Held(Stamp(key, position or 0, digest or ""), content)


def _valued(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}
