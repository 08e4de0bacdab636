"""Requests that must be done once, however often they come: `Idempotency-Key`.

The transaction that does what was asked for stays open until the answer is known, and is committed
with it: either both are there afterwards, or neither.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from polyplane.errors import Conflict, Misconfigured, Refused
from polyplane.model.caller import Caller
from polyplane.steps import step
from polyplane.truth.database import Database, in_our_words
from polyplane.truth.statements import clause, statement

BODY_BYTES_MAX: Final = 256 << 10
"""A larger answer is not kept; that it was given is."""
SWEPT_MAX: Final = 1_000
"""Answers forgotten at a time."""
_HEADER: Final = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Repeated(Exception):
    """This was done before: `answer` is what was answered then. To be sent again, not shown."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("This was done before.")
        self.answer = answer


@dataclass(slots=True)
class Repeat:
    """One request under a key, of a caller who is known when it begins to write.

    `fingerprint`, 32 bytes, tells it from other requests under the same key.
    """

    key: str
    fingerprint: bytes
    session: AsyncSession | None = None
    """That of the transaction, once a block of it has ended."""
    hints: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """To be given when it is committed."""
    _afterwards: list[Callable[[], None]] = field(default_factory=list)
    _stack: AsyncExitStack | None = None
    _named: dict[str, Any] = field(default_factory=dict)
    _is_open: bool = False

    def is_for(self, caller: Caller) -> bool:
        """Whether it was not claimed yet, or for this one."""
        named = self._named
        return not named or (named["tenant"], named["actor"]) == (caller.tenant, caller.actor)

    @contextmanager
    def block(self) -> Iterator[None]:
        """A block of writes. Raises Misconfigured while another one has not ended."""
        if self._is_open:
            raise Misconfigured(
                "A request under an Idempotency-Key has two transactions at once.",
                fix="End the first before the second begins, or do not declare it repeatable.",
            )
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False

    async def claim(self, session: AsyncSession, caller: Caller) -> None:
        """See to it that nobody else does the same, in the transaction of `session`.

        Raises Repeated when it was done; Conflict when it is being done, or was and the answer was
        too large to keep; Refused when the key was for another request.
        """
        named = {"tenant": caller.tenant, "actor": caller.actor, "key": self.key}
        found = await session.execute(clause("repeats", "claim"), named)
        mine, fingerprint, status, headers, body = found.one()
        if not mine:
            raise Conflict(
                "A request under this Idempotency-Key is at work.",
                field=_HEADER,
                fix="Send it again in a moment, unchanged.",
            )
        self._named = {**named, "fingerprint": self.fingerprint}
        if fingerprint is None:
            step("repeat.claimed")
            return
        if bytes(fingerprint) != self._named["fingerprint"]:
            raise Refused(
                "This Idempotency-Key was used for another request.",
                field=_HEADER,
                fix="Take a new key for each request, and the same one only to send it again.",
            )
        if body is None:
            raise Conflict(
                "This was done; its answer was too large to keep.",
                field=_HEADER,
                fix="Read what it made.",
            )
        raise Repeated(Answer(status, headers, bytes(body)))

    def hold(
        self,
        session: AsyncSession,
        stack: AsyncExitStack,
        afterwards: list[Callable[[], None]],
    ) -> None:
        """Keep the transaction of `session`, which ends with `stack`, until the answer is known.

        `afterwards` is what to do when it is committed.
        """
        self.session = session
        self._afterwards += afterwards
        if self._stack is None:
            self._stack = stack

    async def commit(self, answer: Answer) -> None:
        """Commit what was held, and `answer` with it. Nothing when nothing is held.

        Raises Conflict when another one under the same key was faster by a hair.
        """
        session, stack = self.session, self._stack
        if session is None or stack is None:
            return
        self.session = self._stack = None
        kept = {
            "status": answer.status,
            "headers": orjson.dumps(dict(answer.headers)).decode(),
            "body": answer.body if len(answer.body) <= BODY_BYTES_MAX else None,
        }
        with in_our_words():
            async with stack:
                found = await session.execute(clause("repeats", "keep"), {**self._named, **kept})
                if found.one_or_none() is None:
                    raise Conflict(
                        "This was done under the same Idempotency-Key.", fix="Send it again."
                    )
                step("repeat.kept")
                await session.commit()
        step("repeat.committed")
        for call in self._afterwards:
            call()
        for hint in self.hints:
            await hint()

    async def give_up(self) -> None:
        """Roll back what was held, if anything was."""
        stack, self.session, self._stack = self._stack, None, None
        if stack is not None:
            await stack.aclose()


async def sweep(database: Database) -> int:
    """Forget answers that have expired, SWEPT_MAX at most; how many."""
    row = await database.row(statement("repeats", "sweep"))
    return int(row[0]) if row else 0
