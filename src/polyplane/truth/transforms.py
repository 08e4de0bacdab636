"""How far transformations are, and their dead letters: what one process notes for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from polyplane.errors import Fenced
from polyplane.model.transformation import TransformationLetter, TransformationRecord
from polyplane.truth.database import Database
from polyplane.truth.statements import clause, statement

LEASE_S: Final = 10.0
"""For how long a transformation belongs to a process that says nothing more."""
OLD_S: Final = 20 * 3600.0
"""After a day changes may be gone from the outbox."""
_CHANGES_ROWS: Final = 200
_CHANGES_KEYS: Final = 2_000
"""Of one transaction, about: each change names up to 1,000."""


_NOTED: Final = [
    it.name for it in fields(TransformationRecord) if it.name not in ("source", "target")
]


@dataclass(slots=True)
class Live:
    """A transformation that this process holds, as it is noted; see sql/transforms_tables.sql."""

    name: str
    fence: int
    actor: str
    phase: str
    after: str | None
    epoch: int
    since: str
    cur: str | None
    upto: int
    attempt: int
    is_old: bool
    """It last looked at changes so long ago that some may be gone."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of one page; see `TransformationRecord`."""

    read: int = 0
    written: int = 0
    skipped: int = 0
    again: int = 0
    deleted: int = 0


class Changed(NamedTuple):
    """Keys that have changed, some of a window that ends with `cur`: up to the number `upto`."""

    keys: list[str]
    cur: str
    upto: int
    is_last: bool


How = Literal["new", "on", "joined", "other"]
"""How a transformation goes on: "new" from its first row, "on" from where it was; "joined" when it
is running already, or "other" when it is and was begun by another version."""


def begins(state: str, *, version: int, declared: int, anew: bool, knows_changes: bool) -> How:
    """What becomes of one that is known, when somebody wishes it to run. Pure.

    `knows_changes`: what has changed since it was done can be told.
    """
    if anew:
        return "new"
    if state == "running":
        return "joined" if version == declared else "other"
    if version != declared or (state == "done" and not knows_changes):
        return "new"
    return "on"


class TransformJournal:
    """The rows of `polyplane.transformation` and their letters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # For those who go on with transformations

    async def claim(self, holder: UUID, versions: Mapping[str, int], limit: int) -> list[Live]:
        """Take at most `limit` of these, in these versions, that are due."""
        named = {
            "holder": holder,
            "names": list(versions),
            "versions": list(versions.values()),
            "limit": limit,
            "lease_s": LEASE_S,
            "old_s": OLD_S,
        }
        rows = await self._database.rows(statement("transforms", "claim"), named)
        return [Live(*row) for row in rows]

    async def renew(self, held: Sequence[Live]) -> set[str]:
        """Keep them; the names of those that are still this process's."""
        named = {
            "names": [it.name for it in held],
            "fences": [it.fence for it in held],
            "lease_s": LEASE_S,
        }
        rows = await self._database.rows(statement("transforms", "renew"), named)
        return {row[0] for row in rows}

    async def note(
        self, session: AsyncSession, live: Live, counts: Counts, *, looked: bool
    ) -> None:
        """Say, as a part of the transaction that writes a page, how far it is. Raises Fenced."""
        named = {
            "name": live.name,
            "fence": live.fence,
            "phase": live.phase,
            "after": live.after,
            "since": live.since,
            "cur": live.cur,
            "upto": live.upto,
            "looked": looked,
            "lease_s": LEASE_S,
            **asdict(counts),
        }
        found = await session.execute(clause("transforms", "note"), named)
        if found.first() is None:
            raise Fenced(f"Another process has {live.name}, or it was stopped.")

    async def park(self, session: AsyncSession, name: str, bad: Mapping[str, str]) -> int:
        """Leave rows aside, as a part of the page's transaction; how many letters there are."""
        named = {"name": name, "keys": list(bad), "errors": list(bad.values())}
        await session.execute(clause("transforms", "park"), named)
        return int((await session.execute(clause("transforms", "count"), named)).scalar_one())

    async def unpark(self, session: AsyncSession, name: str, keys: Sequence[str]) -> None:
        """Forget letters, as a part of the page's transaction."""
        named = {"name": name, "keys": list(keys)}
        await session.execute(clause("transforms", "unpark"), named)

    async def again(self, live: Live, epoch: int) -> Live:
        """Begin with the first row again. Raises Fenced."""
        named = {"name": live.name, "fence": live.fence, "epoch": epoch}
        async with self._database.connection() as connection, connection.transaction():
            cursor = await connection.execute(statement("transforms", "again"), named)
            row = await cursor.fetchone()
            if row is None:
                raise Fenced(f"Another process has {live.name}, or it was stopped.")
            await connection.execute(statement("transforms", "forget"), named)
        return Live(
            live.name, live.fence, live.actor, "rows", None, epoch, row[0], None, 0, 0, False
        )

    async def changed(self, projector: Database, table: str, live: Live) -> Changed:
        """Some of the keys that have changed; `projector` may read the outbox."""
        named = {"table": table, "since": live.since, "cur": live.cur, "upto": live.upto}
        found = await projector.rows(
            statement("transforms", "changed"), named | {"rows": _CHANGES_ROWS}
        )
        keys: dict[str, None] = {}
        upto, is_last = live.upto, len(found) < _CHANGES_ROWS
        for n, (_, seq, some) in enumerate(found):
            if seq is not None:
                keys |= dict.fromkeys(some)
                upto = seq
            if len(keys) >= _CHANGES_KEYS and n + 1 < len(found):
                is_last = False
                break
        return Changed(list(keys), found[0][0], upto, is_last)

    async def due(self, name: str, limit: int) -> list[str]:
        """Keys of letters that are to be tried again."""
        named = {"name": name, "limit": limit}
        rows = await self._database.rows(statement("transforms", "due"), named)
        return [row[0] for row in rows]

    async def end(self, live: Live) -> bool:
        """It is done; False when letters are to be tried again. Raises Fenced."""
        named = {"name": live.name, "fence": live.fence}
        async with self._database.connection() as connection, connection.transaction():
            cursor = await connection.execute(statement("transforms", "hold"), named)
            if await cursor.fetchone() is None:
                raise Fenced(f"Another process has {live.name}, or it was stopped.")
            cursor = await connection.execute(statement("transforms", "end"), named)
            return await cursor.fetchone() is not None

    async def failed(self, live: Live, error: str, wait_s: float, *, final: bool) -> None:
        """A try has failed: it is due again in `wait_s`, or never by itself when that is final."""
        named: dict[str, Any] = {"name": live.name, "fence": live.fence, "error": error[:2000]}
        named |= {"wait_s": wait_s, "final": final}
        await self._database.rows(statement("transforms", "failed"), named)

    async def release(self, holder: UUID) -> None:
        """Let others go on with all that `holder` has, at once."""
        await self._database.rows(statement("transforms", "release"), {"holder": holder})

    # For everybody

    async def begin(
        self,
        name: str,
        version: int,
        *,
        actor: str,
        epoch: int,
        about: int,
        anew: bool,
        follows: bool,
    ) -> How:
        """Have one run, see `begins`; `follows`: what changes is taken again."""
        named: dict[str, Any] = {"name": name, "version": version, "actor": actor}
        named |= {"epoch": epoch, "about": about, "old_s": OLD_S}
        async with self._database.connection() as connection, connection.transaction():
            cursor = await connection.execute(statement("transforms", "insert"), named)
            if await cursor.fetchone() is not None:
                return "new"
            cursor = await connection.execute(statement("transforms", "known"), named)
            row = await cursor.fetchone()
            assert row is not None
            keeps = follows and row[2] == epoch and not row[3]
            how = begins(row[1], version=row[0], declared=version, anew=anew, knows_changes=keeps)
            if how == "new":
                await connection.execute(statement("transforms", "forget"), named)
                await connection.execute(statement("transforms", "reset"), named | {"keeps": keeps})
            elif how == "on":
                await connection.execute(statement("transforms", "resume"), named)
        return how

    async def stop(self, name: str) -> bool:
        """Stop it where it is; False when it does not run."""
        found = await self._database.rows(statement("transforms", "stop"), {"name": name})
        return bool(found)

    async def records(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What is noted of those of `names` that were ever begun, for `TransformationRecord`."""
        rows = await self._database.rows(statement("transforms", "records"), {"names": list(names)})
        return {row[0]: dict(zip(_NOTED, row, strict=True)) for row in rows}

    async def letters(
        self, name: str, *, keys: Sequence[str] | None, after: str, limit: int
    ) -> list[TransformationLetter]:
        """At most `limit` letters (of `keys`, if given) behind key `after`."""
        named = {"name": name, "keys": None if keys is None else list(keys), "after": after}
        rows = await self._database.rows(
            statement("transforms", "letters"), named | {"limit": limit}
        )
        return [TransformationLetter(*row) for row in rows]

    async def retry(self, name: str, version: int, keys: Sequence[str] | None) -> int | None:
        """Have letters (None: all) tried again; how many. None when it was begun by another
        version.
        """
        named = {"name": name, "keys": None if keys is None else list(keys), "old_s": OLD_S}
        async with self._database.connection() as connection, connection.transaction():
            cursor = await connection.execute(statement("transforms", "known"), named)
            known = await cursor.fetchone()
            if known is None:
                return 0
            if known[0] != version:
                return None
            cursor = await connection.execute(statement("transforms", "retry"), named)
            row = await cursor.fetchone()
            assert row is not None
            if row[0]:
                await connection.execute(statement("transforms", "go_on"), named)
            return int(row[0])

    async def drop(self, name: str, keys: Sequence[str] | None) -> int:
        """Forget letters (None: all); how many."""
        named = {"name": name, "keys": None if keys is None else list(keys)}
        row = await self._database.row(statement("transforms", "drop"), named)
        assert row is not None
        return int(row[0])
