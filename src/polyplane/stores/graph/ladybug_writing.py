"""What is written to Ladybug, by one thread and within one transaction.

There is one writer, so that what it reads in its transaction is what it writes upon: it reads the
positions under its keys, leaves out what is not newer, and writes the rest. What is new is loaded
in bulk, what is there already is set; an edge that is there is taken away and made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import pyarrow as pa

from polyplane.model.collection import Collection
from polyplane.model.items import Item
from polyplane.model.key import can_be_told
from polyplane.stores.graph import ladybug_tables as tables
from polyplane.stores.graph.cypher_text import quoted
from polyplane.stores.graph.ladybug_lane import Session

COPY_ROWS: Final = 500
"""From so many new rows on they are loaded with COPY, which the database must be alone for."""
Gate = Callable[[int | None], bool]
"""Whether what is held at this position (None: nothing is) gives way."""


# Tables


def prepare(session: Session, collection: Collection) -> None:
    """Create the tables; anew where they are there with other columns or ends."""
    held = _shape(session, collection.labelled)
    if held is not None and held != tables.columns(collection):
        held = None
    if held is not None and collection.ends:
        found = session.rows(f"CALL show_connection('{collection.labelled}') RETURN *")
        if tuple(found[0][:2]) != collection.ends or not _shape(session, tables.ledger(collection)):
            held = None
    if held is None:
        forget(session, collection)
        for statement in tables.created(collection):
            session.run(statement)


def forget(session: Session, collection: Collection) -> None:
    """Drop the tables, and the relations that refer to them."""
    name = collection.labelled
    found = session.rows("CALL show_tables() RETURN name, type")
    kinds: dict[str, str] = dict(found)
    drops = [name, *([tables.ledger(collection)] if collection.ends else [])]
    if kinds.get(name) == "NODE":
        for other, kind in kinds.items():
            if (
                kind == "REL"
                and name in session.rows(f"CALL show_connection('{other}') RETURN *")[0][:2]
            ):
                drops = [other, f"_ends_{other}", *drops]
    for drop in drops:
        if drop in kinds:
            session.run(f"DROP TABLE {quoted(drop)}")


def _shape(session: Session, name: str) -> dict[str, str] | None:
    """Name -> type of a table's columns; None when it is not there."""
    found = session.rows("CALL show_tables() RETURN name")
    if [name] not in found:
        return None
    return dict(session.rows(f"CALL table_info('{name}') RETURN name, type"))


# Items


def apply(
    session: Session,
    collection: Collection,
    puts: Sequence[Item],
    drops: Sequence[str],
    position: int,
    gate: Gate | None = None,
) -> None:
    """Put and drop what the gate lets through (usual: what is newer than what is held)."""
    gate = gate or (lambda held: held is None or held < position)
    keys = [*(item.key for item in puts), *drops]
    if collection.ends:
        _apply_edges(session, collection, puts, drops, position, gate, keys)
    else:
        _apply_nodes(session, collection, puts, drops, position, gate, keys)


def _apply_nodes(
    session: Session,
    collection: Collection,
    puts: Sequence[Item],
    drops: Sequence[str],
    position: int,
    gate: Gate,
    keys: list[str],
) -> None:
    label = collection.labelled
    held = dict(_found(session, label, keys, "n._position"))
    puts = [item for item in puts if gate(held.get(item.key))]
    drops = [key for key in drops if gate(held.get(key))]
    for is_new in (True, False):
        rows = tables.node_rows(
            collection,
            [item for item in puts if (item.key not in held) is is_new],
            [key for key in drops if (key not in held) is is_new],
            position,
        )
        (_insert if is_new else _set)(session, label, rows)


def _apply_edges(
    session: Session,
    collection: Collection,
    puts: Sequence[Item],
    drops: Sequence[str],
    position: int,
    gate: Gate,
    keys: list[str],
) -> None:
    label = tables.ledger(collection)
    held = {
        key: (at, source, target)
        for key, at, source, target in _found(
            session, label, keys, "n._position, n._source, n._target"
        )
    }
    nothing = (None, None, None)
    puts = [item for item in puts if gate(held.get(item.key, nothing)[0])]
    drops = [key for key in drops if gate(held.get(key, nothing)[0])]
    old = [
        (key, *held[key][1:])
        for key in (*(item.key for item in puts), *drops)
        if key in held and held[key][1] is not None
    ]
    _unlink(session, collection, old)
    source, target = collection.ends
    _stub(session, source, (item.content.source for item in puts))
    _stub(session, target, (item.content.target for item in puts))
    _link(session, collection, tables.edge_rows(collection, puts, position))
    for is_new in (True, False):
        rows = tables.ledger_rows(
            [item for item in puts if (item.key not in held) is is_new],
            [key for key in drops if (key not in held) is is_new],
            position,
        )
        (_insert if is_new else _set)(session, label, rows)


def _found(session: Session, label: str, keys: Sequence[str], what: str) -> list[list[object]]:
    """(key, what...) of each node of a table that is there."""
    return session.rows(
        f"LOAD FROM $rows MATCH (n:{quoted(label)} {{`_key`: key}}) RETURN key, {what}",
        rows=tables.keyed(keys),
    )


def _insert(session: Session, label: str, rows: pa.Table) -> None:
    """Rows that are new, in the order of the table's columns."""
    if rows.num_rows >= COPY_ROWS:
        session.run(f"COPY {quoted(label)} FROM $rows", rows=rows)
    elif rows.num_rows:
        made = tables.literal_map(rows, 0)
        session.run(f"LOAD FROM $rows CREATE (:{quoted(label)} {made})", rows=tables.aliased(rows))


def _set(session: Session, label: str, rows: pa.Table) -> None:
    """Rows that are there already, under their first column."""
    if rows.num_rows:
        session.run(
            f"LOAD FROM $rows MATCH (n:{quoted(label)} {{`_key`: c0}})"
            f" SET {tables.assigned('n', rows, 1)}",
            rows=tables.aliased(rows),
        )


def _stub(session: Session, label: str, keys: Iterable[str]) -> None:
    """Let there be something under each key."""
    wanted = list(dict.fromkeys(keys))
    if not wanted:
        return
    held = {key for key, _ in _found(session, label, wanted, "n._position")}
    if missing := [key for key in wanted if key not in held]:
        session.run(
            f"LOAD FROM $rows CREATE (:{quoted(label)} {{`_key`: key, `_position`: 0}})",
            rows=tables.keyed(missing),
        )


def _link(session: Session, collection: Collection, rows: pa.Table) -> None:
    """Relations that are not there."""
    name = quoted(collection.labelled)
    if rows.num_rows >= COPY_ROWS:
        session.run(f"COPY {name} FROM $rows", rows=rows)
    elif rows.num_rows:
        source, target = map(quoted, collection.ends)
        session.run(
            f"LOAD FROM $rows MATCH (a:{source} {{`_key`: c0}}), (b:{target} {{`_key`: c1}})"
            f" CREATE (a)-[:{name} {tables.literal_map(rows, 2)}]->(b)",
            rows=tables.aliased(rows),
        )


def _unlink(
    session: Session, collection: Collection, old: Sequence[tuple[str, str | None, str | None]]
) -> None:
    """Take away relations: (key, source, target)."""
    if not old:
        return
    source, target = map(quoted, collection.ends)
    keys, sources, targets = zip(*old, strict=True)
    session.run(
        f"LOAD FROM $rows MATCH (a:{source} {{`_key`: source}})"
        f"-[r:{quoted(collection.labelled)}]->(b:{target} {{`_key`: target}})"
        " WHERE r.`id` = key DELETE r",
        rows=tables.keyed(keys, source=tables.texts(sources), target=tables.texts(targets)),
    )


# Whatever is there


def bury(session: Session, collection: Collection, keys: Sequence[str], position: int) -> None:
    """A tombstone in the place of all that is held under each key, wherever it is."""
    told = [key for key in keys if can_be_told(key)]
    if collection.ends:
        relation = f"MATCH ()-[r:{quoted(collection.labelled)}]->()"
        session.run(f"UNWIND $keys AS k {relation} WHERE r.`id` = k DELETE r", keys=told)
        if untold := [key for key in keys if not can_be_told(key)]:
            wanted = [offset for offset in map(_offset_of, untold) if offset is not None]
            session.run(
                f"{relation} WHERE r.`id` IS NULL AND offset(id(r)) IN $offsets DELETE r",
                offsets=wanted,
            )
    apply(session, collection, [], told, position, lambda _: True)


def key_of_nobody(offset: int) -> str:
    """The key of our making of a relation that has none."""
    return f"\0{offset:016d}"


def _offset_of(key: str) -> int | None:
    return int(key[1:]) if key[:1] == "\0" and key[1:].isdigit() else None
