"""First loads into Neo4j: what nobody has put there yet is made without a look for each.

Constraints keep the gate. Under the collection's lock everything is created; when there is
something under one of the keys, whatever it is, the transaction fails as a whole, and the batch
goes the way of all others. No constraint is between edges and their tombstones: where there is one
of these, nothing is created.

It is one statement, so that the server works on one part of a batch while we send it the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from polyplane.errors import Refused
from polyplane.model.collection import Collection
from polyplane.model.items import Item
from polyplane.stores.graph.neo4j_names import KEY, Names, held_of, quoted, row_of
from polyplane.stores.graph.neo4j_server import Server, is_taken, rows

LOAD_ROWS: Final = 1_000
"""From so many items on, all to be put, it is worth trying."""
BATCH: Final = 5_000
"""Items of one transaction."""


class Loads:
    """Which collections have been given nothing but what was new, and how it is put there."""

    def __init__(self, server: Server, names: Names) -> None:
        self._server, self._names = server, names
        self._is_new: dict[str, bool] = {}

    def forget(self, collection: Collection) -> None:
        """It is made anew, or gone."""
        self._is_new.pop(collection.labelled, None)

    async def load(
        self, collection: Collection, puts: Sequence[Item], drops: Sequence[str], position: int
    ) -> bool:
        """Put all of it, if nothing of it has been there. False: some of it is yet to be applied,
        and what is done already is no harm to that.
        """
        if drops or len(puts) < LOAD_ROWS or not await self._may(collection):
            return False
        made = [row_of(collection, item) for item in puts]
        parts = [made[at : at + BATCH] for at in range(0, len(made), BATCH)]
        work = (self._create(collection, part, position) for part in parts)
        done = await asyncio.gather(*work, return_exceptions=True)
        for found in done:
            if isinstance(found, BaseException):
                raise found
        self._is_new[collection.labelled] = all(done)
        return all(done)

    async def _may(self, collection: Collection) -> bool:
        """Whether it is empty, or was when it was asked first and has been loaded since."""
        if collection.labelled not in self._is_new:
            found = await self._server.read(
                f"look into {collection.labelled}", _any(self._names, collection)
            )
            self._is_new[collection.labelled] = not found
        return self._is_new[collection.labelled]

    async def _create(
        self, collection: Collection, part: Sequence[list[Any]], position: int
    ) -> bool:
        """Whether all of a part was new, and is there now."""
        names = sorted({self._names.of(it) for it in (collection.labelled, *collection.ends)})
        given = {"names": names, "rows": part, "position": position}
        what, statement = f"load {collection.labelled}", _creation(self._names, collection)
        try:
            made = await self._server.writing(what, rows, statement, given)
        except Refused as error:
            if not is_taken(error):
                raise
            return False
        return bool(made[0]["made"] == len(part))


def _any(names: Names, collection: Collection) -> str:
    """Whether there is anything of a collection, dropped or not."""
    if collection.ends:
        kind, gone = quoted(names.of(collection.labelled)), quoted(names.gone(collection.labelled))
        return (
            f"MATCH ()-[:{kind}]->() RETURN 1 AS one LIMIT 1 "
            f"UNION MATCH (:{gone}) RETURN 1 AS one LIMIT 1"
        )
    return f"MATCH (:{quoted(names.any_of(collection.labelled))}) RETURN 1 LIMIT 1"


def _creation(names: Names, collection: Collection) -> str:
    """Under the lock of `neo4j_writing`, make all rows; how many were made."""
    taken = (
        f"UNWIND $names AS name MATCH (c:{quoted(names.collections)} {{name: name}}) "
        "SET c.turn = $position WITH c WHERE c.going IS NULL "
        "WITH count(c) AS taken WHERE taken = size($names) "
    )
    own, held = quoted(names.of(collection.labelled)), held_of(collection)
    if not collection.ends:
        any_of = quoted(names.any_of(collection.labelled))
        return (
            f"{taken} UNWIND $rows AS row CREATE (n:{any_of}:{own} {held}) RETURN count(*) AS made"
        )
    source, target = (quoted(names.any_of(end)) for end in collection.ends)
    return (
        f"{taken} AND NOT EXISTS {{ MATCH (:{quoted(names.gone(collection.labelled))}) }} "
        f"UNWIND $rows AS row MATCH (a:{source} {{{KEY}: row[0]}}) "
        f"MATCH (b:{target} {{{KEY}: row[1]}}) "
        f"CREATE (a)-[r:{own} {held}]->(b) RETURN count(*) AS made"
    )
