"""What `plane.sagas` offers: start, wait for, signal, look at, cancel and retry sagas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from polyplane.errors import Conflict, NotFound, NotSettled, Refused
from polyplane.model.saga import In, Saga, SagaRecord, document
from polyplane.saga.runner import Runner
from polyplane.steps import step
from polyplane.truth.database import Database
from polyplane.truth.sagas import LEASE_S, Count, Live, SagaJournal, marks_text
from polyplane.truth.session import Write

PAGE_MAX: Final = 200
KEY_BYTES_MAX: Final = 255
STATES: Final = ("running", "undoing", "done", "undone", "stuck", "changed")
_FIRST_POLL_S: Final = 0.02
_LAST_POLL_S: Final = 0.25


class Sagas:
    """The sagas of a plane. Any process may ask; those that run sagas do them."""

    def __init__(
        self,
        declared: Sequence[type[Saga[Any]]],
        database: Database,
        runner: Callable[[], Runner | None],
    ) -> None:
        self._declared = {saga.name: saga for saga in declared}
        self._journal = SagaJournal(database)
        self._runner = runner

    async def start(
        self,
        saga: type[Saga[In]],
        input: In,
        *,
        actor: str = "",
        tenant: str = "default",
        key: str | None = None,
        tx: Write | None = None,
    ) -> UUID:
        """Start a saga; its id. It is durable when this returns, and is then finished or undone.

        The same `key` again starts nothing: the id is that of the first. Raises Conflict when that
        has another input; Refused or TooLarge when `input` is no JSON document of at most 256 KiB;
        NotFound when this plane does not declare `saga`. With `tx` it starts if and only if that
        transaction commits, under its actor and tenant.
        """
        self._known(saga)
        if key is not None and not 1 <= len(key.encode()) <= KEY_BYTES_MAX:
            raise Refused(f"A key has 1 to {KEY_BYTES_MAX} bytes.", field="key")
        text, value = document(input, "input")
        runner = self._runner()
        holder = runner.holder if runner and runner.has_room and tx is None else None
        marks = tuple(it.mark for it in saga.steps)
        named = {
            "tenant": tx.tenant if tx else tenant,
            "name": saga.name,
            "key": key,
            "version": saga.version,
            "marks": marks_text(marks),
            "input": text,
            "actor": tx.actor if tx else actor,
            "at": marks[0].name,
            "deadline_s": saga.deadline_s,
            "holder": holder,
            "lease_s": LEASE_S if holder else 0.0,
        }
        row = await self._journal.within("start", named, tx)
        if row is None:
            return await self._again(saga, named, text, tx)
        step("saga.started")
        if runner and holder:
            runner.take(_new(row, saga, named, value))
        else:
            self._wake(tx)
        saga_id: UUID = row[0]
        return saga_id

    async def finished(self, saga_id: UUID, *, timeout_s: float = 60.0) -> SagaRecord:
        """Return when the saga has ended; its state is then "done" or "undone".

        Returns at once, too, when it is "stuck" or "changed". Raises NotSettled when it has not
        ended within `timeout_s` seconds (it goes on), NotFound when there is none.
        """
        runner, loop = self._runner(), asyncio.get_running_loop()
        until, pause = loop.time() + timeout_s, _FIRST_POLL_S
        event = runner.ending(saga_id) if runner else asyncio.Event()
        try:
            # Whoever does it here knows when it ends; what others do has to be looked at.
            is_here = runner is not None and runner.does(saga_id)
            while is_here or await self._is_under_way(saga_id):
                left_s = until - loop.time()
                if left_s <= 0:
                    raise NotSettled(
                        f"The saga {saga_id} has not ended within {timeout_s:g} s.",
                        fix=f"It goes on. See: polyplane sagas show {saga_id}",
                    )
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(1.0 if is_here else pause, left_s)):
                        await event.wait()
                if event.is_set():
                    break
                is_here, pause = False, min(pause * 1.5, _LAST_POLL_S)
        finally:
            if runner:
                runner.forget(saga_id, event)
        return await self.show(saga_id)

    async def _is_under_way(self, saga_id: UUID) -> bool:
        state = await self._journal.state(saga_id)
        if state is None:
            raise NotFound(f"There is no saga {saga_id}.", fix="See: polyplane sagas list")
        return state in ("running", "undoing")

    async def signal(
        self, saga_id: UUID, name: str, payload: Any = None, *, tx: Write | None = None
    ) -> bool:
        """Give a saga what its step `name` waits for, or is going to; whether it was the first.

        Only the first is kept. Raises NotFound when there is no such saga or it never waits for
        `name`, Conflict when it has ended or is being undone. With `tx`: if and only if that
        commits.
        """
        text, _ = document(payload, "payload")
        row = await self._journal.within("tell", {"id": saga_id, "name": name, "payload": text}, tx)
        told = row[0] if row else None
        if told is None:
            raise NotFound(f"There is no saga {saga_id}.")
        if told == "never":
            raise NotFound(f"The saga {saga_id} has no step that waits for {name!r}.")
        if told in ("ended", "undoing"):
            state = "has ended" if told == "ended" else "is being undone"
            raise Conflict(f"The saga {saga_id} {state}; it takes no signal.")
        self._wake(tx)
        return bool(told == "first")

    async def find(
        self, saga: type[Saga[Any]], key: str, *, tenant: str = "default"
    ) -> UUID | None:
        """The id of the saga that was started with `key`, or None."""
        named = {"tenant": tenant, "name": saga.name, "key": key}
        row = await self._journal.within("with_key", named, None)
        return None if row is None else row[0]

    async def show(self, saga_id: UUID) -> SagaRecord:
        """One saga with its steps; NotFound when there is none."""
        found = await self._journal.record(saga_id)
        if found is None:
            raise NotFound(f"There is no saga {saga_id}.", fix="See: polyplane sagas list")
        return found

    async def counts(self) -> list[Count]:
        """Per state, of what has not ended."""
        return await self._journal.counts()

    async def list(
        self,
        *,
        state: str | None = None,
        name: str | None = None,
        tenant: str | None = None,
        after: UUID | None = None,
        limit: int = 50,
    ) -> list[SagaRecord]:
        """The latest sagas first, without their steps: at most 200, from `after` on."""
        if not 1 <= limit <= PAGE_MAX:
            raise Refused(f"limit must be from 1 to {PAGE_MAX}.", field="limit")
        if state is not None and state not in STATES:
            raise Refused(f"There is no state {state!r}.", field="state", fix=", ".join(STATES))
        return await self._journal.records(
            state=state, name=name, tenant=tenant, after=after, limit=limit
        )

    async def cancel(self, saga_id: UUID, why: str = "Cancelled.") -> SagaRecord:
        """Undo a saga, from wherever it is; as it stands now.

        A remote step that is at work is given up, and undone too. Raises Conflict when the saga
        has ended.
        """
        if not await self._journal.cancel(saga_id, why):
            raise Conflict(f"The saga {saga_id} is {(await self.show(saga_id)).state} already.")
        if runner := self._runner():
            runner.cancelled(saga_id, why)
        return await self.show(saga_id)

    async def retry(self, saga_id: UUID, *, anyway: bool = False) -> SagaRecord:
        """Try again at once what waits, or is stuck; as it stands now.

        A saga that is "changed" goes on with what is declared now only with `anyway`: steps that
        are done are known by their names. Raises Conflict when the saga has ended.
        """
        if not await self._journal.retry(saga_id, anyway=anyway):
            raise Conflict(f"The saga {saga_id} is {(await self.show(saga_id)).state} already.")
        self._wake(None)
        return await self.show(saga_id)

    def _wake(self, tx: Write | None) -> None:
        """Have this process look for due sagas at once, or as soon as `tx` has committed."""
        runner = self._runner()
        if runner and tx is None:
            runner.wake()
        elif runner and tx is not None:
            tx.afterwards.append(runner.wake)

    def _known(self, saga: type[Saga[Any]]) -> None:
        if self._declared.get(saga.name) is not saga:
            raise NotFound(
                f"This plane does not declare the saga {saga.__name__}.", fix="Add it to sagas."
            )

    async def _again(
        self, saga: type[Saga[Any]], named: dict[str, Any], text: str, tx: Write | None
    ) -> UUID:
        """The saga that has this key; Conflict when it has another input."""
        row = await self._journal.within("with_key", named, tx)
        if row is None:
            raise Conflict(f"The saga with key {named['key']!r} is gone.", fix="Do it again.")
        if row[1] != text:
            raise Conflict(
                f"{saga.name} was started with the key {named['key']!r} and another input.",
                field="key",
            )
        found: UUID = row[0]
        return found


def _new(row: Any, saga: type[Saga[Any]], named: dict[str, Any], value: Any) -> Live:
    """A saga that this process has just started, and holds."""
    saga_id, since, deadline_at = row
    return Live(
        id=saga_id,
        tenant=named["tenant"],
        name=saga.name,
        version=saga.version,
        marks=tuple(it.mark for it in saga.steps),
        input=value,
        actor=named["actor"],
        state="running",
        at=named["at"],
        since=since,
        attempt=0,
        entered=1,
        fence=1,
        news=0,
        adopt=False,
        cancelled=None,
        error="",
        deadline_at=deadline_at,
        now=since,
        steps=[],
    )
