"""What is written to Ladybug, by the one thread that writes.

There is one writer, so that what it reads is what it writes upon: it reads the positions under its
keys, leaves out what is not newer, and writes the rest. An edge that is there is taken away and
made again. Many rows of which nothing is there yet are loaded in bulk, see `Writer.load`;
everything else is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa

from polyplane.model.collection import Collection
from polyplane.model.items import Item
from polyplane.model.key import can_be_told
from polyplane.stores.graph import ladybug_tables as tables
from polyplane.stores.graph.cypher_text import quoted
from polyplane.stores.graph.ladybug_lane import Session, Writer

COPY_ROWS: Final = 4_000
"""From so many rows on, all new, they are loaded in bulk: the checkpoint it needs takes long."""
SINGLES_MAX: Final = 32
"""Up to so many rows, one statement for each is quicker than one for all."""
UNLINK_SINGLES_MAX: Final = 500
"""As many edges are looked for from their nodes; more of them in the whole relation."""
Gate = Callable[[int | None], bool]
"""Whether what is held at this position (None: nothing is) gives way."""


# Tables


def prepare(writer: Writer, collection: Collection) -> None:
    """Create the tables; anew where they are there with other columns or ends."""
    held = _shape(writer, collection.labelled)
    if held is not None and held != tables.columns(collection):
        held = None
    if held is not None and collection.ends:
        found = writer.rows(f"CALL show_connection('{collection.labelled}') RETURN *")
        if tuple(found[0][:2]) != collection.ends or not _shape(writer, tables.ledger(collection)):
            held = None
    if held is None:
        forget(writer, collection)
        with writer.logged(alone=True):
            for statement in tables.created(collection):
                writer.run(statement)


def forget(writer: Writer, collection: Collection) -> None:
    """Drop the tables, and the relations that refer to them."""
    name = collection.labelled
    found = writer.rows("CALL show_tables() RETURN name, type")
    kinds: dict[str, str] = dict(found)
    drops = [name, *([tables.ledger(collection)] if collection.ends else [])]
    if kinds.get(name) == "NODE":
        for other, kind in kinds.items():
            if (
                kind == "REL"
                and name in writer.rows(f"CALL show_connection('{other}') RETURN *")[0][:2]
            ):
                drops = [other, f"_ends_{other}", *drops]
    with writer.logged(alone=True):
        for drop in drops:
            if drop in kinds:
                writer.run(f"DROP TABLE {quoted(drop)}")
    for drop in drops:
        writer.forget(drop)


def _shape(session: Session, name: str) -> dict[str, str] | None:
    """Name -> type of a table's columns; None when it is not there."""
    found = session.rows("CALL show_tables() RETURN name")
    if [name] not in found:
        return None
    return dict(session.rows(f"CALL table_info('{name}') RETURN name, type"))


# Items


class Place(NamedTuple):
    """What is held under a key: at which position, and of an edge that is there, its ends."""

    position: int | None
    source: str | None = None
    target: str | None = None


class Change(NamedTuple):
    """What is to be put and dropped at a position, after the gate, and what is held there."""

    collection: Collection
    puts: list[Item]
    drops: list[str]
    position: int
    held: dict[str, Place]

    def rows(self, *, new: bool) -> pa.Table:
        """The rows under keys of which something is held already, or nothing."""
        puts = [item for item in self.puts if (item.key not in self.held) is new]
        drops = [key for key in self.drops if (key not in self.held) is new]
        if self.collection.ends:
            return tables.ledger_rows(puts, drops, self.position)
        return tables.node_rows(self.collection, puts, drops, self.position)


def apply(
    writer: Writer,
    collection: Collection,
    puts: Sequence[Item],
    drops: Sequence[str],
    position: int,
    gate: Gate | None = None,
) -> None:
    """Put and drop what the gate lets through (usual: what is newer than what is held)."""
    gate = gate or (lambda held: held is None or held < position)
    label = tables.ledger(collection) if collection.ends else collection.labelled
    held = _held(writer, collection, label, [*(item.key for item in puts), *drops])
    nothing = Place(None)
    change = Change(
        collection,
        [item for item in puts if gate(held.get(item.key, nothing).position)],
        [key for key in drops if gate(held.get(key, nothing).position)],
        position,
        held,
    )
    if not held and not drops and len(puts) >= COPY_ROWS:
        _load(writer, change, label)
    elif change.puts or change.drops:
        with writer.logged():
            if collection.ends:
                _log_edges(writer, change)
            _insert(writer, label, change.rows(new=True))
            _set(writer, label, change.rows(new=False))
    known = writer.known(label)
    written = [*(item.key for item in change.puts), *change.drops]
    known.put([key for key in written if key not in held])
    if not collection.ends:
        known.found(written)


def _load(writer: Writer, change: Change, label: str) -> None:
    """What is all new, in bulk."""
    collection = change.collection
    if not collection.ends:
        writer.load(label, {quoted(label): change.rows(new=True)})
        return
    edges = tables.edge_rows(collection, change.puts, change.position)
    stubs = _missing(writer, collection, change.puts)
    parts = {
        f"{quoted(end)}(`_key`, `_position`)": tables.stub_rows(keys) for end, keys in stubs.items()
    }
    parts |= {quoted(label): tables.ledger_of(edges), quoted(collection.labelled): edges}
    writer.load(label, parts)
    _stubs_made(writer, stubs)


def _log_edges(writer: Writer, change: Change) -> None:
    """Take away what is there, and make what is to be there."""
    collection = change.collection
    keys = (*(item.key for item in change.puts), *change.drops)
    _unlink(
        writer,
        collection,
        [(key, change.held[key].source) for key in keys if key in change.held],
    )
    stubs = _missing(writer, collection, change.puts)
    for label, missing in stubs.items():
        _insert(writer, label, tables.stub_rows(missing))
    _stubs_made(writer, stubs)
    _link(writer, collection, tables.edge_rows(collection, change.puts, change.position))


def _held(
    writer: Writer, collection: Collection, label: str, keys: Sequence[str]
) -> dict[str, Place]:
    """What the gate looks at; what cannot be there is not looked for."""
    more = ", n.`_source`, n.`_target`" if collection.ends else ""
    rows = _found(writer, label, writer.known(label).perhaps(keys), f"n.`_position`{more}")
    return {row[0]: Place(*row[1:]) for row in rows}


def _found(session: Session, label: str, keys: Sequence[str], what: str) -> list[list[Any]]:
    """(key, what...) of each node of a table that is there."""
    if not keys:
        return []
    return session.rows(
        f"UNWIND $keys AS k MATCH (n:{quoted(label)} {{`_key`: k}}) RETURN k, {what}",
        keys=list(keys),
    )


def _missing(writer: Writer, collection: Collection, puts: Sequence[Item]) -> dict[str, list[str]]:
    """Label -> keys of the ends of edges under which there is nothing."""
    wanted: dict[str, dict[str, None]] = {label: {} for label in collection.ends}
    sources, targets = (wanted[label] for label in collection.ends)
    for item in puts:
        sources[item.content.source] = targets[item.content.target] = None
    missing = {}
    for label, keys in wanted.items():
        known = writer.known(label)
        unsure = known.lacking(keys)
        there = {key for key, _ in _found(writer, label, known.perhaps(unsure), "0")}
        known.found(there)
        missing[label] = [key for key in unsure if key not in there]
    return missing


def _stubs_made(writer: Writer, stubs: Mapping[str, list[str]]) -> None:
    for label, keys in stubs.items():
        writer.known(label).put(keys)
        writer.known(label).found(keys)


def _each(writer: Writer, rows: pa.Table, one: str, all_of_them: str) -> None:
    """Do `one` for each of a few rows, or `all_of_them`, with columns named by `aliased`."""
    rows = tables.aliased(rows)
    if rows.num_rows > SINGLES_MAX:
        writer.run(f"LOAD FROM $rows {all_of_them}", rows=rows)
    else:
        for row in rows.to_pylist():
            writer.run(one, **row)


def _insert(writer: Writer, label: str, rows: pa.Table) -> None:
    """Rows that are new."""
    name = quoted(label)
    one, many = (f"CREATE (:{name} {tables.literal_map(rows, 0, sign)})" for sign in ("$", ""))
    _each(writer, rows, one, many)


def _set(writer: Writer, label: str, rows: pa.Table) -> None:
    """Rows that are there already, under their first column."""
    one, many = (
        f"MATCH (n:{quoted(label)} {{`_key`: {sign}c0}}) SET {tables.assigned('n', rows, 1, sign)}"
        for sign in ("$", "")
    )
    _each(writer, rows, one, many)


def _link(writer: Writer, collection: Collection, rows: pa.Table) -> None:
    """Relations that are not there."""
    source, target = map(quoted, collection.ends)
    one, many = (
        f"CREATE (a)-[:{quoted(collection.labelled)} {tables.literal_map(rows, 2, sign)}]->(b)"
        for sign in ("$", "")
    )
    names = ", ".join(f"c{i}" for i in range(rows.num_columns))
    _each(
        writer,
        rows,
        f"MATCH (a:{source} {{`_key`: $c0}}), (b:{target} {{`_key`: $c1}}) {one}",
        # In one MATCH it would put every node beside every other.
        f"MATCH (a:{source}) WHERE a.`_key` = c0 WITH a, {names}"
        f" MATCH (b:{target}) WHERE b.`_key` = c1 {many}",
    )


def _unlink(writer: Writer, collection: Collection, old: Sequence[tuple[str, str | None]]) -> None:
    """Take away relations: (key, source, if there should be one)."""
    living = [(key, source) for key, source in old if source is not None]
    source, target = map(quoted, collection.ends)
    relation = f"-[r:{quoted(collection.labelled)}]->(b:{target})"
    if len(living) > UNLINK_SINGLES_MAX:
        unlink_all(writer, collection, [key for key, _ in living])
        return
    for key, at in living:
        writer.run(
            f"MATCH (a:{source} {{`_key`: $at}}){relation} WHERE r.`id` = $key DELETE r",
            at=at,
            key=key,
        )


def unlink_all(writer: Writer, collection: Collection, keys: Sequence[str]) -> None:
    """Take away all relations under these keys, wherever they are: looks at every one."""
    source, target = map(quoted, collection.ends)
    writer.run(
        f"UNWIND $keys AS k MATCH (a:{source})-[r:{quoted(collection.labelled)}]->(b:{target})"
        " WHERE r.`id` = k DELETE r",
        keys=list(keys),
    )


# Whatever is there


def bury(writer: Writer, collection: Collection, keys: Sequence[str], position: int) -> None:
    """A tombstone in the place of all that is held under each key, wherever it is."""
    told = [key for key in keys if can_be_told(key)]
    if collection.ends:
        untold = [offset for key in keys if (offset := _offset_of(key)) is not None]
        with writer.logged():
            unlink_all(writer, collection, told)
            if untold:
                writer.run(
                    f"MATCH ()-[r:{quoted(collection.labelled)}]->()"
                    " WHERE r.`id` IS NULL AND offset(id(r)) IN $offsets DELETE r",
                    offsets=untold,
                )
    apply(writer, collection, [], told, position, lambda _: True)


def key_of_nobody(offset: int) -> str:
    """The key of our making of a relation that has none."""
    return f"\0{offset:016d}"


def _offset_of(key: str) -> int | None:
    return int(key[1:]) if key[:1] == "\0" and key[1:].isdigit() else None
