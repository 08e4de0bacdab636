"""The plane's memory of collections: which generations there are, and which one is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from polyplane.model.key import BUCKETS
from polyplane.model.position import Position
from polyplane.truth.database import Database
from polyplane.truth.statements import statement


class CollectionRow(NamedTuple):
    """One generation of a projection's collection.

    `state` is building, active or retired; there is one active at most, and one building. `begun`
    says whether something may be in it, `filled` whether it holds all of truth as of where its
    positions began, `proven` whether it was found equal to truth since it is being built. `age_s`
    is the time since it was switched.
    """

    name: str
    projection: str
    generation: int
    version: int
    definition: str
    shape: Mapping[str, Any]
    state: str
    begun: bool
    filled: bool
    proven: bool
    age_s: float | None
    error: str


class Collections:
    """Reads and writes of `polyplane.collection`; each call is one statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rows(self) -> list[CollectionRow]:
        """Every generation of every projection, oldest first."""
        found = await self._database.rows(statement("collections", "rows"))
        return [CollectionRow(*row) for row in found]

    async def declare(
        self,
        name: str,
        projection: str,
        generation: int,
        *,
        version: int,
        definition: str,
        shape: Mapping[str, Any],
        state: str,
    ) -> None:
        """Note a further generation, in place of one that is being built. Safe to repeat."""
        await self._run(
            "declare",
            name=name,
            projection=projection,
            generation=generation,
            version=version,
            definition=definition,
            shape=orjson.dumps(shape).decode(),
            state=state,
        )

    async def fill_from(self, name: str, position: Position, first: int) -> tuple[Position, bool]:
        """What to fill a collection as of, and to follow it from; and whether it was begun before.

        It is `position` at the first attempt. Later it is where that one began, for what it has
        put there may be gone from truth by now; unless the stream, which begins at order `first`,
        no longer reaches so far.
        """
        [row] = await self._run(
            "fill_from",
            name=name,
            position=position.packed(),
            oldest=Position(position.epoch, max(0, first - 1)).packed(),
        )
        return Position.unpacked(row[0]), bool(row[1])

    async def filled(
        self, name: str, position: Position, witnesses: Mapping[int, str] | None = None
    ) -> bool:
        """Note that a collection holds all of truth as of `position`, which it was filled from.

        `witnesses`: a key per bucket that the store holds with that position, or a newer one.
        False, and nothing is noted, when it was found lost after that fill had begun.
        """
        at = {
            "position": position.packed(),
            "buckets": list(range(BUCKETS)),
            "witnesses": [(witnesses or {}).get(bucket) for bucket in range(BUCKETS)],
        }
        return bool(await self._run("filled", name=name, **at))

    async def build_again(self, projection: str, name: str) -> None:
        """Make a retired collection the one that is being built: it is to be proven and read."""
        await self._run("build_again", projection=projection, name=name)

    async def proven(self, name: str) -> bool:
        """Note that the one being built was found equal to truth; False when it is no more."""
        return bool(await self._run("proven", name=name))

    async def switch(self, name: str) -> bool:
        """Let readers read the one being built, if it is proven; the one before is retired."""
        return bool(await self._run("switch", name=name))

    async def give_up(self, name: str, error: str = "") -> bool:
        """Retire a collection for good, unless it is read; whether it was."""
        return bool(await self._run("give_up", name=name, error=error))

    async def forget(self, name: str) -> None:
        """Remove what is known of a retired collection."""
        await self._run("forget", name=name)

    async def _run(self, block: str, **values: Any) -> list[Any]:
        return list(await self._database.rows(statement("collections", block), values))
