"""What is written to Neo4j: collections, nodes and edges, each gated by its position.

Reads in a transaction of Neo4j see what others commit meanwhile, so that a gate alone stops nobody
who writes at the same time. Whoever writes to a collection therefore has the lock of the node that
stands for it, and of those of its ends, in the order of their names: gates hold, and writers of
ours never wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from neo4j import AsyncManagedTransaction

from polyplane.errors import NotFound
from polyplane.model.collection import Collection
from polyplane.model.graph import ID
from polyplane.model.items import Item
from polyplane.stores.graph.neo4j_names import (
    KEY,
    POSITION,
    STRANGE,
    Names,
    held_of,
    key_of,
    quoted,
    row_of,
)
from polyplane.stores.graph.neo4j_server import Server, done, rows

T = TypeVar("T")
Row = list[Any]

BATCH: Final = 5_000
"""Items of one transaction."""


async def lock(
    tx: AsyncManagedTransaction, names: Names, collection: Collection, position: int
) -> None:
    """Have the collection, and its ends, to oneself until the transaction ends.

    Raises NotFound when one of them is not prepared: a stub of it would be under no constraint.
    """
    wanted = {names.of(it) for it in (collection.labelled, *collection.ends)}
    # Whether it is about to go is asked behind the lock, for which we may have waited.
    taken = await rows(
        tx,
        f"UNWIND $names AS name MATCH (c:{quoted(names.collections)} {{name: name}}) "
        "SET c.turn = $position WITH c WHERE c.going IS NULL RETURN c.name AS name",
        {"names": sorted(wanted), "position": position},
    )
    if lacking := wanted - {record["name"] for record in taken}:
        raise NotFound(f"{min(lacking)} is not in the graph.", fix="Prepare it first.")


class NodeWrites:
    """Writes the nodes of one collection."""

    def __init__(self, server: Server, names: Names, collection: Collection) -> None:
        self._server, self._names, self._collection = server, names, collection
        any_of, live = (
            quoted(names.any_of(collection.labelled)),
            quoted(names.of(collection.labelled)),
        )
        gate = f"WHERE n.{POSITION} IS NULL OR n.{POSITION} < $position"
        self._put = (
            f"UNWIND $rows AS row MERGE (n:{any_of} {{{KEY}: row[0]}}) "
            f"WITH n, row {gate} SET n = {held_of(collection)} SET n:{live}"
        )
        self._drop = (
            f"UNWIND $keys AS key MERGE (n:{any_of} {{{KEY}: key}}) "
            f"WITH n, key {gate} SET n = {{{KEY}: key, {POSITION}: $position}} REMOVE n:{live}"
        )
        self._bury = (
            f"UNWIND $keys AS key MERGE (n:{any_of} {{{KEY}: key}}) "
            f"SET n = {{{KEY}: key, {POSITION}: $position}} REMOVE n:{live}"
        )
        # What somebody has put under a key past its constraint, and what has no key at all.
        self._clear = (
            f"UNWIND $keys AS key MATCH (n:{live} {{{ID}: key}}) "
            f"WHERE NOT n:{any_of} OR n.{KEY} <> key OR n.{KEY} IS NULL DETACH DELETE n"
        )
        self._clear_strange = (
            f"UNWIND $elements AS element MATCH (n) WHERE elementId(n) = element "
            f"AND (n:{any_of} OR n:{live}) DETACH DELETE n"
        )

    async def apply(self, puts: Sequence[Item], drops: Sequence[str], position: int) -> None:
        """Each item by its gate, `BATCH` in a transaction."""
        made = [row_of(self._collection, item) for item in puts]
        what = f"apply to {self._collection.labelled}"
        for some, keys in _batches(made, drops):
            await self._server.writing(what, self._apply, some, keys, position)

    async def _apply(
        self, tx: AsyncManagedTransaction, puts: Sequence[Row], drops: Sequence[str], position: int
    ) -> None:
        await lock(tx, self._names, self._collection, position)
        if puts:
            await done(tx, self._put, {"rows": puts, "position": position})
        if drops:
            await done(tx, self._drop, {"keys": drops, "position": position})

    async def bury(self, keys: Sequence[str], position: int) -> None:
        """A tombstone for each key in the place of whatever is there; its edges stay."""
        for some in _slices(keys):
            await self._server.writing(
                f"bury in {self._collection.labelled}", self._bury_some, some, position
            )

    async def _bury_some(
        self, tx: AsyncManagedTransaction, keys: Sequence[str], position: int
    ) -> None:
        named, elements = _named(keys)
        await lock(tx, self._names, self._collection, position)
        if elements:
            await done(tx, self._clear_strange, {"elements": elements})
        await done(tx, self._clear, {"keys": named})
        await done(tx, self._bury, {"keys": named, "position": position})


class EdgeWrites:
    """Writes the edges of one collection."""

    def __init__(self, server: Server, names: Names, collection: Collection) -> None:
        self._server, self._names, self._collection = server, names, collection
        kind, gone = quoted(names.of(collection.labelled)), quoted(names.gone(collection.labelled))
        source, target = (quoted(names.any_of(end)) for end in collection.ends)
        # Position and ends of what is there: nothing of nearly every key of a first load.
        self._known = (
            f"UNWIND $keys AS key OPTIONAL MATCH (a)-[r:{kind} {{{ID}: key}}]->(b) "
            f"OPTIONAL MATCH (g:{gone} {{{KEY}: key}}) "
            "WITH key, r, g, a, b WHERE r IS NOT NULL OR g IS NOT NULL "
            f"RETURN key, r.{POSITION} AS position, g.{POSITION} AS gone, r IS NOT NULL AS lives, "
            f"a.{KEY} AS source, b.{KEY} AS target, a:{source} AND b:{target} AS fits"
        )
        self._create = (
            f"UNWIND $rows AS row MATCH (a:{source} {{{KEY}: row[0]}}) "
            f"MATCH (b:{target} {{{KEY}: row[1]}}) "
            f"CREATE (a)-[r:{kind} {held_of(collection)}]->(b) RETURN count(r) AS made"
        )
        self._missing = (
            f"UNWIND $rows AS row OPTIONAL MATCH (a:{source} {{{KEY}: row[0]}}) "
            f"OPTIONAL MATCH (b:{target} {{{KEY}: row[1]}}) "
            f"WITH row, a, b WHERE a IS NULL OR b IS NULL RETURN row[2] AS key"
        )
        self._stubs = [
            f"UNWIND $keys AS key MERGE (n:{end} {{{KEY}: key}}) ON CREATE SET n.{POSITION} = 0"
            for end in (source, target)
        ]
        self._update = (
            f"UNWIND $rows AS row MATCH ()-[r:{kind} {{{ID}: row[2]}}]->() "
            f"SET r = {held_of(collection)}"
        )
        self._delete = f"UNWIND $keys AS key MATCH ()-[r:{kind} {{{ID}: key}}]->() DELETE r"
        self._forgive = f"UNWIND $keys AS key MATCH (g:{gone} {{{KEY}: key}}) DELETE g"
        self._tomb = (
            f"UNWIND $keys AS key MERGE (g:{gone} {{{KEY}: key}}) SET g.{POSITION} = $position"
        )
        self._clear_strange = (
            f"UNWIND $elements AS element MATCH ()-[r]->() WHERE elementId(r) = element "
            f"AND r:{kind} DELETE r"
        )
        self._clear_strange_gone = (
            f"UNWIND $elements AS element MATCH (g) WHERE elementId(g) = element "
            f"AND g:{gone} DETACH DELETE g"
        )

    async def apply(self, puts: Sequence[Item], drops: Sequence[str], position: int) -> None:
        """Each item by its gate, `BATCH` in a transaction."""
        made = [row_of(self._collection, item) for item in puts]
        what = f"apply to {self._collection.labelled}"
        for some, keys in _batches(made, drops):
            await self._server.writing(what, self._apply, some, keys, position)

    async def _apply(
        self, tx: AsyncManagedTransaction, puts: Sequence[Row], drops: Sequence[str], position: int
    ) -> None:
        await lock(tx, self._names, self._collection, position)
        rows_of = {key_of(self._collection, row): row for row in puts}
        asked = [*rows_of, *drops]
        known = {it["key"]: it for it in await rows(tx, self._known, {"keys": asked})}
        passed = {key for key in asked if _passes(known.get(key), position)}
        puts_of = {key: row for key, row in rows_of.items() if key in passed}
        stays = {key for key, row in puts_of.items() if _stays(known.get(key), row)}
        there = {key for key in passed if key in known and known[key]["lives"]}
        if away := sorted(there - stays):
            await done(tx, self._delete, {"keys": away})
        tombs = {key for key in known if known[key]["gone"] is not None}
        if risen := sorted(tombs & puts_of.keys()):
            await done(tx, self._forgive, {"keys": risen})
        if changed := [row for key, row in puts_of.items() if key in stays]:
            await done(tx, self._update, {"rows": changed, "position": position})
        if new := [row for key, row in puts_of.items() if key not in stays]:
            await self._make(tx, new, position)
        if dropped := [key for key in drops if key in passed]:
            await done(tx, self._tomb, {"keys": dropped, "position": position})

    async def _make(self, tx: AsyncManagedTransaction, new: Sequence[Row], position: int) -> None:
        """New relations; where an end is missing, a stub first."""
        made = await rows(tx, self._create, {"rows": new, "position": position})
        if made[0]["made"] == len(new):
            return
        missing = {record["key"] for record in await rows(tx, self._missing, {"rows": new})}
        left = [row for row in new if key_of(self._collection, row) in missing]
        for end, statement in enumerate(self._stubs):
            await done(tx, statement, {"keys": sorted({row[end] for row in left})})
        await done(tx, self._create, {"rows": left, "position": position})

    async def bury(self, keys: Sequence[str], position: int) -> None:
        """A tombstone for each key in the place of whatever is there."""
        for some in _slices(keys):
            await self._server.writing(
                f"bury in {self._collection.labelled}", self._bury_some, some, position
            )

    async def _bury_some(
        self, tx: AsyncManagedTransaction, keys: Sequence[str], position: int
    ) -> None:
        named, elements = _named(keys)
        await lock(tx, self._names, self._collection, position)
        if elements:
            await done(tx, self._clear_strange, {"elements": elements})
            await done(tx, self._clear_strange_gone, {"elements": elements})
        await done(tx, self._delete, {"keys": named})
        await done(tx, self._tomb, {"keys": named, "position": position})


def _passes(known: Any, position: int) -> bool:
    """Whether an item of `position` may replace what is known of its key."""
    if known is None:
        return True
    held = [known["position"]] if known["lives"] else []
    held += [known["gone"]] if known["gone"] is not None else []
    return all(type(it) is int and it < position for it in held)


def _stays(known: Any, row: Row) -> bool:
    """Whether the relation that is there has the ends of the new one already."""
    if known is None or not known["lives"] or not known["fits"]:
        return False
    return bool((known["source"], known["target"]) == (row[0], row[1]))


def _named(keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Keys of truth, and the ids of elements that have none."""
    elements = [key.removeprefix(STRANGE) for key in keys if key.startswith(STRANGE)]
    return [key for key in keys if not key.startswith(STRANGE)], elements


def _slices(several: Sequence[T]) -> list[list[T]]:
    return [list(several[at : at + BATCH]) for at in range(0, len(several), BATCH)]


def _batches(puts: Sequence[Row], drops: Sequence[str]) -> list[tuple[list[Row], list[str]]]:
    return [(some, []) for some in _slices(puts)] + [([], some) for some in _slices(drops)]
