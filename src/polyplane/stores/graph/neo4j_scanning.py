"""What Neo4j really holds: every stamp in the order of keys, and contents under some."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from polyplane.model.collection import Collection
from polyplane.model.graph import ID
from polyplane.model.items import Held, Stamp
from polyplane.stores.graph.neo4j_names import (
    DIGEST,
    KEY,
    POSITION,
    STRANGE,
    Names,
    held_edge,
    held_node,
    quoted,
    stamp_of,
)
from polyplane.stores.graph.neo4j_server import Server

_KEYS: Final = 5_000
_FAR: Final = {"far": "(?s).*[\\x{E000}-\\x{10FFFF}].*"}
"""Keys with a character that UTF-16 has in another place than code points have."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where elements `n` are, and what tells of each its key, whether readers see it, and whether
    it is what it says. All but the last two in Cypher; `head` and `tail` are around properties.
    """

    head: str
    tail: str
    key: str
    lives: str
    is_sound: str
    where: str = "true"
    ends: str = ""

    @property
    def told(self) -> str:
        """What `stamp_of` wants to know, as a list."""
        return (
            f"[n.{self.key}, n.{POSITION}, n.{DIGEST}, {self.lives}, {self.is_sound}, "
            f"CASE WHEN coalesce(n.{self.key} >= '', false) THEN null ELSE elementId(n) END]"
        )

    def page(self, *, is_first: bool) -> str:
        """Those behind `$after` in the order of keys, at most `$limit`, in one row; without the
        `far` ones.
        """
        behind = f"n.{self.key} {'>=' if is_first else '>'} $after AND NOT n.{self.key} =~ $far"
        return (
            f"MATCH {self.head}{self.tail} WHERE {behind} AND {self.where} "
            f"WITH * ORDER BY n.{self.key} LIMIT $limit RETURN collect({self.told}) AS found"
        )

    def all(self) -> str:
        """All of them, in one row: of places where nothing should be."""
        return (
            f"MATCH {self.head}{self.tail} WHERE {self.where} RETURN collect({self.told}) AS found"
        )

    def under(self) -> str:
        """Those under `$keys`, and those that `$elements` are the ids of, with all they hold."""
        ends = self.ends or "null AS source, null AS target"
        gives = f"RETURN {self.told} AS told, properties(n) AS held, {ends}"
        return (
            f"UNWIND $keys AS key MATCH {self.head} {{{self.key}: key}}{self.tail} "
            f"WHERE {self.where} {gives} "
            f"UNION ALL UNWIND $elements AS element MATCH {self.head}{self.tail} "
            f"WHERE elementId(n) = element AND {self.where} {gives}"
        )

    def far(self) -> _Place:
        """Those whose order is not certain: texts are compared by code points in an index, and as
        UTF-16 without it, whichever is planned. That differs from U+E000 on.
        """
        return replace(self, where=f"n.{self.key} =~ $far AND {self.where}")

    def without_key(self) -> _Place:
        """Those of which no text is the key."""
        return replace(self, where=f"coalesce(n.{self.key} >= '', false) = false")


class Holding:
    """All that is held of one collection, whoever has put it there."""

    def __init__(self, server: Server, names: Names, collection: Collection) -> None:
        self._server, self._collection = server, collection
        own = quoted(names.of(collection.labelled))
        if collection.ends:
            gone = quoted(names.gone(collection.labelled))
            source, target = (quoted(names.any_of(end)) for end in collection.ends)
            self._keyed = [
                _Place(
                    f"(a)-[n:{own}",
                    "]->(b)",
                    ID,
                    "true",
                    f"a:{source} AND b:{target} AND a.{KEY} >= '' AND b.{KEY} >= ''",
                    ends=f"a.{KEY} AS source, b.{KEY} AS target",
                ),
                _Place(f"(n:{gone}", ")", KEY, "false", "true"),
            ]
            self._strange = [place.without_key() for place in self._keyed]
        else:
            any_of = quoted(names.any_of(collection.labelled))
            is_no_stub = f"(coalesce(n.{POSITION}, -1) <> 0 OR n:{own})"
            known = _Place(
                f"(n:{any_of}", ")", KEY, f"n:{own}", f"n.{ID} = n.{KEY}", where=is_no_stub
            )
            foreign = _Place(f"(n:{own}", ")", ID, "true", "false", where=f"NOT n:{any_of}")
            self._keyed, self._strange = [known], [known.without_key(), foreign]

    async def scan(self, after: str | None, batch_size: int) -> AsyncIterator[list[Stamp]]:
        """Every stamp behind `after`, in key order. Not a snapshot: what is applied meanwhile may
        or may not be seen.
        """
        apart = [*(place.far() for place in self._keyed), *self._strange]
        strange = [stamp for place in apart for stamp in await self._found(place.all(), _FAR)]
        rest = sorted(stamp for stamp in strange if after is None or stamp.key > after)
        is_first, after = after is None, after or ""
        while True:
            given = {"after": after, "limit": batch_size, **_FAR}
            pages = [
                await self._found(place.page(is_first=is_first), given) for place in self._keyed
            ]
            # Behind the end of a page that is full there may be more of its kind.
            last = min((page[-1].key for page in pages if len(page) >= batch_size), default=None)
            found = sorted(
                stamp
                for page in (*pages, rest)
                for stamp in page
                if last is None or stamp.key <= last
            )
            for start in range(0, len(found), batch_size):
                yield found[start : start + batch_size]
            if last is None:
                return
            rest = [stamp for stamp in rest if stamp.key > last]
            is_first, after = False, last

    async def _found(self, statement: str, given: dict[str, Any]) -> list[Stamp]:
        what = f"scan {self._collection.labelled}"
        return [_stamp(told) for told in (await self._server.read(what, statement, given))[0][0]]

    async def held(self, keys: Sequence[str]) -> list[Held]:
        """What is held under `keys`, content included."""
        found: list[Held] = []
        what = f"read {self._collection.labelled}"
        for start in range(0, len(keys), _KEYS):
            some = keys[start : start + _KEYS]
            named = [key for key in some if not key.startswith(STRANGE)]
            elements = [key.removeprefix(STRANGE) for key in some if key.startswith(STRANGE)]
            for place in (*self._keyed, *self._strange):
                asked = elements if place in self._strange else []
                given = {"keys": named, "elements": asked}
                records = await self._server.read(what, place.under(), given)
                found += [self._held(*record) for record in records]
        return found

    def _held(self, told: list[Any], held: dict[str, Any], source: Any, target: Any) -> Held:
        stamp = _stamp(told)
        if self._collection.ends:
            return held_edge(self._collection, stamp, held, source, target)
        return held_node(self._collection, stamp, held)


def _stamp(told: list[Any]) -> Stamp:
    key, position, digest, lives, is_sound, element = told
    return stamp_of(
        key, position, digest, lives=lives, is_sound=is_sound is True, element=element or ""
    )
