"""What Ladybug really holds, in the order of keys.

Of edges what is in the relation counts; what lies beside it tells of tombstones, and when it knows
of a newer position than the relation, or of one that the relation lacks, that is told, too: it is
what the gate goes by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from polyplane.model.collection import Collection
from polyplane.model.items import Held, Stamp
from polyplane.model.key import can_be_told
from polyplane.stores.graph import ladybug_tables as tables
from polyplane.stores.graph.cypher_text import quoted
from polyplane.stores.graph.ladybug_lane import Session
from polyplane.stores.graph.ladybug_writing import key_of_nobody

PAGE: Final = 100_000
"""Rows that are sorted at a time; each page looks at the whole table."""
_STUB: Final = "n.`id` IS NULL AND n.`_position` = 0"


def page(session: Session, collection: Collection, after: str | None) -> tuple[list[Stamp], bool]:
    """The stamps behind `after`, about `PAGE` of them, and whether these are the last."""
    if not collection.ends:
        rows = _ordered(
            session,
            f"MATCH (n:{quoted(collection.labelled)})",
            "n.`_key`",
            "n.`_position`, n.`_digest`, n.`id`",
            after,
            f"NOT ({_STUB})",
        )
        return [tables.node_stamp(*row) for row in rows], len(rows) < PAGE
    held = _ordered(session, _relation(collection), "r.`id`", "r.`_position`, r.`_digest`", after)
    beside = _ordered(
        session,
        f"MATCH (n:{quoted(tables.ledger(collection))})",
        "n.`_key`",
        "n.`_position`, n.`_source`",
        after,
    )
    # A key may be there several times, on both sides of the end of a page: leave the last one out.
    ends = [rows[-1][0] for rows in (held, beside) if len(rows) == PAGE]
    if ends:
        held = [row for row in held if row[0] < min(ends)]
        beside = [row for row in beside if row[0] < min(ends)]
    stamps = _merged(held, beside)
    if after is None or after == "":
        stamps = sorted([*stamps, *_nobodys(session, collection)], key=lambda stamp: stamp.key)
    return stamps, not ends


def stamps(session: Session, collection: Collection, keys: Sequence[str]) -> list[Stamp]:
    """What is held under `keys`."""
    if not collection.ends:
        return [held.stamp for held in contents(session, collection, keys)]
    told = [key for key in keys if can_be_told(key)]
    held = session.rows(
        f"UNWIND $keys AS k {_relation(collection)} WHERE r.`id` = k"
        " RETURN r.`id`, r.`_position`, r.`_digest`",
        keys=told,
    )
    found = _merged(held, _beside(session, collection, told))
    if len(told) < len(keys):
        found += [stamp for stamp in _nobodys(session, collection) if stamp.key in set(keys)]
    return found


def contents(session: Session, collection: Collection, keys: Sequence[str]) -> list[Held]:
    """What is held under `keys`, with properties and ends."""
    if not collection.ends:
        rows = session.rows(
            f"UNWIND $keys AS k MATCH (n:{quoted(collection.labelled)} {{`_key`: k}})"
            f" WHERE NOT ({_STUB})"
            f" RETURN n.`_key`, n.`_position`, n.`_digest`, {tables.returned('n', collection)}",
            keys=list(keys),
        )
        return [tables.node_held(collection, row) for row in rows]
    told = [key for key in keys if can_be_told(key)]
    rows = session.rows(
        f"UNWIND $keys AS k {_relation(collection)} WHERE r.`id` = k RETURN r.`id`, r.`_position`,"
        f" r.`_digest`, a.`_key`, b.`_key`, {tables.returned('r', collection)}",
        keys=told,
    )
    made = [tables.edge_held(collection, row) for row in rows]
    whole = _merged([[*held.stamp] for held in made], _beside(session, collection, told))
    gone = [Held(stamp, None) for stamp in whole if stamp.digest is None]
    at = {stamp.key: stamp.position for stamp in whole if stamp.digest is not None}
    return [
        *(Held(held.stamp._replace(position=at[held.stamp.key]), held.content) for held in made),
        *gone,
    ]


def read_all(session: Session) -> None:
    """Have the engine read every value of every table."""
    for name, kind in session.rows("CALL show_tables() RETURN name, type"):
        columns = session.rows(f"CALL table_info('{name}') RETURN name")
        what = ", ".join(f"max(x.{quoted(column)})" for (column,) in columns)
        pattern = f"(x:{quoted(name)})" if kind == "NODE" else f"()-[x:{quoted(name)}]->()"
        session.run(f"MATCH {pattern} RETURN count(*), {what}")


def _relation(collection: Collection) -> str:
    source, target = map(quoted, collection.ends)
    return f"MATCH (a:{source})-[r:{quoted(collection.labelled)}]->(b:{target})"


def _ordered(
    session: Session, match: str, key: str, more: str, after: str | None, where: str = ""
) -> list[list[Any]]:
    """(key, more...) of the next page."""
    behind = [f"{key} > $after" if after is not None else "", where]
    wanted = " AND ".join(filter(None, behind)) or f"{key} IS NOT NULL"
    rows = session.arrow(
        f"{match} WHERE {wanted} RETURN {key} AS c0, {more} ORDER BY c0 LIMIT {PAGE}",
        **({} if after is None else {"after": after}),
    )
    return list(map(list, zip(*(column.to_pylist() for column in rows.columns), strict=True)))


def _beside(session: Session, collection: Collection, keys: Sequence[str]) -> list[list[Any]]:
    return session.rows(
        f"UNWIND $keys AS k MATCH (n:{quoted(tables.ledger(collection))} {{`_key`: k}})"
        " RETURN n.`_key`, n.`_position`, n.`_source`",
        keys=list(keys),
    )


def _merged(held: Sequence[Sequence[Any]], beside: Sequence[Sequence[Any]]) -> list[Stamp]:
    """What is held, (key, position, digest), and what lies beside it, (key, position, source)."""
    known = {key: (position or 0, source) for key, position, source in beside}
    found = []
    for key, position, digest in held:
        newest = max(position or 0, known.get(key, (0,))[0])
        found.append(Stamp(key, newest, digest or ""))
    there = {stamp.key for stamp in found}
    gone = [
        Stamp(key, position, None)
        for key, (position, source) in known.items()
        if source is None or key not in there
    ]
    return sorted([*found, *gone], key=lambda stamp: stamp.key) if gone else found


def _nobodys(session: Session, collection: Collection) -> list[Stamp]:
    """Relations that somebody has made by hand, without a key."""
    rows = session.rows(
        f"{_relation(collection)} WHERE r.`id` IS NULL RETURN offset(id(r)), r.`_position`"
    )
    return [Stamp(key_of_nobody(offset), position or 0, "") for offset, position in rows]
