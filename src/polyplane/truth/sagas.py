"""The journal of sagas; each call is one statement, and who goes on with a saga has its fence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, LiteralString, NamedTuple
from uuid import UUID

import orjson
import psycopg
import sqlalchemy as sa

from polyplane.errors import Fenced
from polyplane.model.saga import Mark, SagaRecord, StepRecord
from polyplane.truth.database import Database
from polyplane.truth.session import Write
from polyplane.truth.statements import statement

LEASE_S: Final = 5.0
"""For how long a saga belongs to a process that says nothing more."""
_FENCED: Final = "PF001"


class Past(NamedTuple):
    """A step in a saga's journal: its number, and what became of it ("done" or "unknown")."""

    n: int
    name: str
    version: int
    outcome: str
    result: Any = None
    token: str | None = None
    undone: bool = False


@dataclass(slots=True)
class Live:
    """A saga that this process holds, as its journal has it; see sql/sagas_schema.sql."""

    id: UUID
    tenant: str
    name: str
    version: int
    marks: tuple[Mark, ...]
    input: Any
    actor: str
    state: str
    at: str
    since: datetime
    attempt: int
    entered: int
    fence: int
    news: int
    adopt: bool
    cancelled: str | None
    error: str
    deadline_at: datetime | None
    now: datetime
    """PostgreSQL's clock when this was read."""
    steps: list[Past]


class Done(NamedTuple):
    """What the journal says of a saga when a step was done."""

    cancelled: str | None
    ended: bool
    news: int
    token: str | None
    now: datetime


class Note(NamedTuple):
    """A statement that says that a step is done; the last one of a local step's transaction."""

    statement: LiteralString
    parameters: Mapping[str, Any]


class Count(NamedTuple):
    """How many sagas are in a state, how old the oldest is, and how long one has been due."""

    state: str
    sagas: int
    oldest_s: float
    due_s: float


def marks_text(marks: Sequence[Mark]) -> str:
    """How the steps of a declaration are journalled."""
    return orjson.dumps(list(marks)).decode()


def step_note(
    live: Live, n: int, mark: Mark, attempts: int, result: str, *, epoch: int, following: str
) -> Note:
    """That the `n`th step is done, and which one is `following`. Without an epoch it wrote nothing
    that could be waited for.
    """
    return Note(
        statement("sagas", "done"),
        {
            "id": live.id,
            "fence": live.fence,
            "n": n,
            "name": mark.name,
            "version": mark.version,
            "attempts": attempts,
            "result": result,
            "epoch": epoch,
            "next": following,
        },
    )


def undo_note(live: Live, n: int, following: str) -> Note:
    """That the undo of the `n`th step is done."""
    named = {"id": live.id, "fence": live.fence, "n": n, "next": following}
    return Note(statement("sagas", "undone"), named)


def is_fenced(error: BaseException | None) -> bool:
    """Whether PostgreSQL has refused a note, because another process has the saga."""
    return isinstance(error, psycopg.Error) and error.sqlstate == _FENCED


class SagaJournal:
    """Sagas, their steps and signals in schema `polyplane`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # For those who go on with sagas

    async def claim(self, holder: UUID, names: Sequence[str], limit: int) -> list[Live]:
        """Take at most `limit` sagas of these names that are due."""
        named = {"holder": holder, "names": list(names), "limit": limit, "lease_s": LEASE_S}
        rows = await self._database.rows(statement("sagas", "claim"), named)
        return await self.held([(row[0], row[1]) for row in rows]) if rows else []

    async def held(self, mine: Sequence[tuple[UUID, int]]) -> list[Live]:
        """Those of (id, fence) that nobody else has, as they are now."""
        named = {"ids": [it for it, _ in mine], "fences": [fence for _, fence in mine]}
        return [_live(row) for row in await self._database.rows(statement("sagas", "held"), named)]

    async def renew(self, holder: UUID, mine: Sequence[tuple[UUID, int]]) -> dict[UUID, str | None]:
        """Keep those of (id, fence); of what is kept, why it was cancelled, if it was."""
        named = {
            "ids": [it for it, _ in mine],
            "fences": [fence for _, fence in mine],
            "holder": holder,
            "lease_s": LEASE_S,
        }
        rows = await self._database.rows(statement("sagas", "renew"), named)
        return {row[0]: row[1] for row in rows}

    async def release(self, holder: UUID, mine: Sequence[tuple[UUID, int]]) -> None:
        """Let others go on with those of (id, fence) at once."""
        ids, fences = [it for it, _ in mine], [fence for _, fence in mine]
        named = {"ids": ids, "fences": fences, "holder": holder}
        await self._database.rows(statement("sagas", "release"), named)

    async def release_all(self, holder: UUID) -> None:
        """Let others go on with all that `holder` has, at once."""
        await self._database.rows(statement("sagas", "release_all"), {"holder": holder})

    async def note(self, note: Note) -> tuple[Any, ...]:
        """Note that a step is done that wrote nothing here. Raises Fenced."""
        try:
            row = await self._database.row(note.statement, note.parameters)
        except psycopg.Error as error:
            if is_fenced(error):
                raise Fenced("Another process has this saga.") from error
            raise
        assert row is not None
        return row

    async def turn(
        self, live: Live, first: str, why: str, *, n: int, unknown: Mark | None = None
    ) -> bool:
        """From now on undo, the step `first` at first; False when another process has it.

        `unknown` is a remote step that may have taken effect, to be noted as the `n`th.
        """
        return await self._moved("turn", live, at=first, error=why[:2000], **_noting(n, unknown))

    async def failed(self, live: Live, error: str, wait_s: float) -> bool:
        """A try has failed; the next one is due in `wait_s` seconds, by whoever takes it up."""
        return await self._moved("failed", live, error=error[:2000], wait_s=wait_s)

    async def park(self, live: Live, due: datetime | None) -> bool:
        """It waits, until `due` or for ever; False when there are news for it."""
        return await self._moved("park", live, due=due)

    async def aside(self, live: Live, state: str, error: str) -> bool:
        """Leave it to people, as "stuck" or "changed"; False when there are news for it."""
        return await self._moved("aside", live, state=state, error=error[:2000])

    async def adopt(
        self,
        live: Live,
        version: int,
        marks: Sequence[Mark],
        at: str,
        *,
        n: int,
        unknown: Mark | None = None,
    ) -> bool:
        """It goes on by this declaration, at the step `at`; False when there are news for it."""
        named = {"version": version, "marks": marks_text(marks), "at": at}
        return await self._moved("adopt", live, **named, **_noting(n, unknown))

    async def end(self, live: Live, state: str) -> bool:
        """It is "done" or "undone", with nothing left to be done; False when there are news."""
        return await self._moved("end", live, state=state)

    async def signalled(self, saga_id: UUID, name: str) -> str | None:
        """The payload of a signal that was given, as JSON; None when it was not."""
        named = {"id": saga_id, "name": name}
        row = await self._database.row(statement("sagas", "signalled"), named)
        return None if row is None else str(row[0] or "null")

    async def _moved(self, name: str, live: Live, **named: Any) -> bool:
        named |= {"id": live.id, "fence": live.fence, "news": live.news}
        row = await self._database.row(statement("sagas", name), named)
        if row is not None:
            live.news = row[0]
        return row is not None

    # For everybody

    async def within(self, name: str, named: dict[str, Any], tx: Write | None) -> Any:
        """The row that one of the statements gives, at once or as a part of `tx`."""
        if tx is None:
            return await self._database.row(statement("sagas", name), named)
        return (await tx.execute(_for_session(name), named)).first()

    async def cancel(self, saga_id: UUID, why: str) -> bool:
        """Wish a saga to be undone; False when it has ended, or never was."""
        named = {"id": saga_id, "why": why[:2000]}
        return await self._database.row(statement("sagas", "cancel"), named) is not None

    async def retry(self, saga_id: UUID, *, anyway: bool) -> bool:
        """Make a saga due now; False when it has ended, or never was."""
        named = {"id": saga_id, "anyway": anyway}
        return await self._database.row(statement("sagas", "retry"), named) is not None

    async def state(self, saga_id: UUID) -> str | None:
        """A saga's state, or None when there is no such saga."""
        row = await self._database.row(statement("sagas", "state"), {"id": saga_id})
        return None if row is None else str(row[0])

    async def records(
        self,
        *,
        state: str | None = None,
        name: str | None = None,
        tenant: str | None = None,
        after: UUID | None = None,
        limit: int,
    ) -> list[SagaRecord]:
        """The latest sagas, without their steps."""
        named: dict[str, Any] = {"state": state, "name": name, "tenant": tenant}
        named |= {"after": after, "limit": limit}
        rows = await self._database.rows(statement("sagas", "list"), named)
        return [SagaRecord(*_with(row, 11, orjson.loads(row[11]))) for row in rows]

    async def record(self, saga_id: UUID) -> SagaRecord | None:
        """One saga with its steps, or None when there is no such saga."""
        row = await self._database.row(statement("sagas", "show"), {"id": saga_id})
        if row is None:
            return None
        steps = tuple(_step(it) for it in orjson.loads(row[17]))
        return SagaRecord(*_with(_with(row, 11, orjson.loads(row[11])), 17, steps))

    async def counts(self) -> list[Count]:
        """Per state, of what has not ended."""
        return [Count(*row) for row in await self._database.rows(statement("sagas", "counts"))]

    async def purge(self, keep_s: float, limit: int) -> int:
        """Forget at most `limit` sagas that ended more than `keep_s` seconds ago; how many."""
        named = {"keep_s": keep_s, "limit": limit}
        row = await self._database.row(statement("sagas", "purge"), named)
        return int(row[0]) if row else 0


@cache
def _for_session(name: str) -> sa.TextClause:
    """A statement as SQLAlchemy takes it."""
    text = statement("sagas", name).replace(":", r"\:")
    return sa.text(re.sub(r"%\((\w+)\)s", r":\1", text))


def _noting(n: int, unknown: Mark | None) -> dict[str, Any]:
    return {
        "n": n,
        "unknown": unknown and unknown.name,
        "unknown_version": unknown.version if unknown else 0,
        "attempts": 0,
    }


def _live(row: Sequence[Any]) -> Live:
    marks = tuple(Mark(**it) for it in orjson.loads(row[4]))
    steps = [Past(*it) for it in orjson.loads(row[19])]
    return Live(*_with(_with(_with(row, 4, marks), 5, orjson.loads(row[5])), 19, steps))


def _step(it: Sequence[Any]) -> StepRecord:
    undone_at = None if it[7] is None else datetime.fromisoformat(it[7])
    return StepRecord(*_with(_with(it, 4, datetime.fromisoformat(it[4])), 7, undone_at))


def _with(row: Sequence[Any], at: int, value: Any) -> list[Any]:
    """`row` with another value there."""
    return [*row[:at], value, *row[at + 1 :]]
