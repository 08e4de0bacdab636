"""One saga that this process holds: step after step, until it waits, ends or is somebody else's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final

import orjson
import structlog

from polyplane.errors import Fenced, NotSettled, PolyplaneError, SagaRefused, TruthDown
from polyplane.model.caller import Caller
from polyplane.model.position import Token
from polyplane.model.saga import Context, Kind, Saga, Step, document, key_of
from polyplane.saga.plan import Adopt, Aside, Do, End, Turn, Undo, plan, turned
from polyplane.steps import step
from polyplane.truth.database import Database
from polyplane.truth.noted import Desk, Work
from polyplane.truth.sagas import Done, Live, Note, Past, SagaJournal, step_note, undo_note
from polyplane.truth.session import Write

_log = structlog.get_logger(__name__)

LOCAL_MAX: Final = 8
"""Local steps at once in a process: each has a connection."""
_SETTLE_S: Final = 1.0
"""For how long one look at the stores waits for them."""
_LOOK_AGAIN_S: Final = 0.3
_OUT: Final = ""
"""It is out of our hands."""


@dataclass(slots=True)
class Means:
    """What sagas are done with in this process.

    `settled(token, projections, timeout_s)` raises NotSettled; `wake_in(seconds)` has due sagas
    looked for then; `epoch` gives the present one.
    """

    database: Database
    journal: SagaJournal
    plane: Any
    epoch: Callable[[], int]
    settled: Callable[[Token, Sequence[str], float], Awaitable[None]]
    wake_in: Callable[[float], None]
    is_stopping: bool = False
    local: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LOCAL_MAX))


class Course:
    """Drives one saga: `run` it. `cancel` and `lost` may come meanwhile."""

    def __init__(self, saga: type[Saga[Any]], live: Live, means: Means) -> None:
        self._saga = saga
        self.live = live
        self._means = means
        self._journal = means.journal
        self._begun = False
        self._is_lost = False
        self._attempt: asyncio.Task[Any] | None = None
        self._desk: Desk | None = None
        self._kinds = {step.name: step.kind for step in saga.steps}
        self._read_at = monotonic()

    def cancel(self, why: str) -> None:
        """Somebody wishes it undone: a remote step that is at work is given up."""
        self.live.cancelled = why
        if self._attempt is not None and self.live.state == "running":
            self._attempt.cancel()

    def lost(self) -> None:
        """Another process has it: what is at work is given up, and nothing noted."""
        self._is_lost = True
        if self._attempt is not None:
            self._attempt.cancel()

    async def run(self) -> str:
        """Go on with it; the state that it has come to, or '' when it waits or is not ours.

        Raises TruthDown: whoever finds its lease over takes it up then.
        """
        try:
            while not self._means.is_stopping:
                out = await self._once()
                if out is not None:
                    return out
        except Fenced as error:
            _log.info("saga.fenced", saga=str(self.live.id), error=error.message)
        finally:
            await self._leave_desk()
        return _OUT

    async def _once(self) -> str | None:
        """One thing of the plan; None to go on."""
        live = self.live
        following = plan(self._saga, live, begun=self._begun)
        if not (isinstance(following, Do | Undo) and following.step.kind is Kind.LOCAL):
            await self._leave_desk()
        match following:
            case Do():
                try:
                    if following.step.kind in (Kind.LOCAL, Kind.REMOTE):
                        return await self._try(following)
                    return await self._wait(following)
                except (Fenced, TruthDown):
                    raise
                except Exception as error:  # the step's own
                    return await self._failed(following.step, error)
            case Undo():
                return await self._undo(following)
            case Turn() | Aside():
                return await self._turn(following)
            case Adopt(at=at, unknown=unknown):
                marks, n = [spec.mark for spec in self._saga.steps], len(live.steps)
                await self._journal.adopt(live, self._saga.version, marks, at, n=n, unknown=unknown)
                return await self._reload()
            case End(state=state):
                return state if await self._journal.end(live, state) else await self._reload()

    # Forward

    async def _try(self, it: Do) -> str | None:
        spec, left_s = it.step, self._left_s(it.step)
        if left_s is not None and left_s <= 0:
            return await self._back(f"{spec.name}: its time is over. {self.live.error}".strip())
        timeout_s = spec.timeout_s if left_s is None else min(spec.timeout_s, left_s)
        try:
            if spec.kind is Kind.LOCAL:
                return await self._local(it, timeout_s)
            return await self._remote(it, timeout_s)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_lost:
                raise Fenced("Another process has this saga.") from None
            if task is not None and task.cancelling():
                raise
            return None  # it was cancelled, and the plan turns back

    async def _local(self, it: Do, timeout_s: float) -> str | None:
        """The step's effect and the note of it in one transaction."""
        spec, value = it.step, None

        async def work(tx: Write) -> Note:
            nonlocal value
            assert spec.do is not None
            async with asyncio.timeout(timeout_s):
                result = await spec.do(tx, self._context(spec, timeout_s=timeout_s))
                await tx.flush()  # what truth refuses is the step's fault
            text, value = document(result, "The result")
            return self._note(it, text, self._means.epoch())

        row = await self._transaction(work, it.following)
        step("saga.local_noted")
        return self._done(it, Done(*row), value)

    async def _remote(self, it: Do, timeout_s: float) -> str | None:
        """The step's effect, and then the note of it: a crash between them has it done again."""
        spec, self._begun = it.step, True
        assert spec.do is not None
        step("saga.remote_begun")
        context = self._context(spec, timeout_s=timeout_s)
        result = await self._outside(spec.do(context), timeout_s)
        text, value = document(result, "The result")
        step("saga.remote_called")
        row = await self._journal.note(self._note(it, text, 0))
        step("saga.remote_noted")
        return self._done(it, Done(*row), value)

    async def _outside(self, work: Awaitable[Any], timeout_s: float) -> Any:
        """Do something that no transaction is open for, and that can be given up alone."""

        async def limited() -> Any:
            async with asyncio.timeout(timeout_s):
                return await work

        self._attempt = asyncio.create_task(limited())
        try:
            return await self._attempt
        finally:
            self._attempt = None

    async def _transaction(self, work: Work, then: str) -> tuple[Any, ...]:
        """`work` at a desk that is kept while local steps follow."""
        live, means, kinds = self.live, self._means, self._kinds
        more = kinds.get(then) is Kind.LOCAL and not means.is_stopping
        if self._desk is None:
            await means.local.acquire()
            self._desk = Desk(means.database, caller=Caller(live.actor, live.tenant))
        return await self._desk.write(work, epoch=means.epoch(), more=more)

    async def _leave_desk(self) -> None:
        """Let others have the connection."""
        desk, self._desk = self._desk, None
        if desk is not None:
            self._means.local.release()
            await desk.close()

    def _note(self, it: Do, result: str, epoch: int) -> Note:
        tries, then = self.live.attempt + 1, it.following
        return step_note(self.live, it.n, it.step.mark, tries, result, epoch=epoch, following=then)

    def _done(self, it: Do, done: Done, value: Any) -> str | None:
        """What the journal has noted, for the plan."""
        live, spec = self.live, it.step
        token = done.token if spec.kind is Kind.LOCAL else None
        live.steps.append(Past(it.n, spec.name, spec.version, "done", value, token))
        live.at, live.since, live.attempt, live.error = it.following, done.now, 0, ""
        live.entered, live.news, live.now = live.fence, done.news, done.now
        live.cancelled = done.cancelled
        self._begun, self._read_at = False, monotonic()
        return "done" if done.ended else None

    async def _failed(self, spec: Step, error: Exception) -> str | None:
        """Try it again later, or turn back."""
        await self._leave_desk()
        live, final = self.live, isinstance(error, (SagaRefused, *spec.final))
        why, tries, left_s = f"{spec.name}: {_told(error)}", live.attempt + 1, self._left_s(spec)
        if final or tries >= spec.retries.attempts_max or (left_s is not None and left_s <= 0):
            # The first try of all has said that it did nothing.
            self._begun = not (final and tries == 1 and live.entered == live.fence)
            return await self._back(why)
        wait_s = spec.retries.wait_s(tries, random.random())
        return await self._later(why, wait_s if left_s is None else min(wait_s, left_s))

    async def _later(self, why: str, wait_s: float) -> str:
        _log.info("saga.tries_again", saga=str(self.live.id), error=why, wait_s=round(wait_s, 3))
        await self._journal.failed(self.live, why, wait_s)
        step("saga.failed")
        self._means.wake_in(wait_s)
        return _OUT

    # Waiting

    async def _wait(self, it: Do) -> str | None:
        spec, left_s = it.step, self._left_s(it.step)
        is_over, found, due = await self._look(spec)
        if is_over:
            row = await self._journal.note(self._note(it, found, 0))
            step("saga.waited")
            return self._done(it, Done(*row), orjson.loads(found))
        if left_s is not None and left_s <= 0:
            return await self._back(f"{spec.name}: what it waits for has not come in time.")
        ends = None if left_s is None else self._now() + timedelta(seconds=left_s)
        due = min((at for at in (due, ends) if at is not None), default=None)
        if not await self._journal.park(self.live, due):
            return await self._reload()
        step("saga.parked")
        if due is not None:
            self._means.wake_in((due - self._now()).total_seconds())
        return _OUT

    async def _look(self, spec: Step) -> tuple[bool, str, datetime | None]:
        """Whether it has come, the result as JSON if so, and when to look again if not."""
        if spec.kind is Kind.SIGNAL:
            payload = await self._journal.signalled(self.live.id, spec.name)
            return payload is not None, payload or "", None
        if spec.kind is Kind.PAUSE:
            until = self.live.since + timedelta(seconds=spec.deadline_s or 0)
            if spec.do is not None:
                until = spec.do(self._context(spec))
            return self._now() >= until, f'"{until.isoformat()}"', until
        wrote = (past.token for past in reversed(self.live.steps) if spec.after in ("", past.name))
        token = next((Token.parse(text) for text in wrote if text is not None), None)
        try:
            if token is not None:
                await self._means.settled(token, spec.projections, _SETTLE_S)
        except NotSettled:
            return False, "", self._now() + timedelta(seconds=_LOOK_AGAIN_S)
        return True, f'"{token}"', None

    # Back

    async def _back(self, why: str) -> str | None:
        return await self._turn(turned(self._saga, self.live, why, begun=self._begun))

    async def _turn(self, it: Turn | Aside) -> str | None:
        live = self.live
        if isinstance(it, Aside):
            if not await self._journal.aside(live, it.state, it.why):
                return await self._reload()
            _log.warning("saga.aside", saga=str(live.id), state=it.state, why=it.why)
            return it.state
        n = len(live.steps)
        if not await self._journal.turn(live, it.first, it.why, n=n, unknown=it.unknown):
            raise Fenced("Another process has this saga.")
        step("saga.turned")
        _log.info("saga.undone_from_now", saga=str(live.id), why=it.why)
        if it.unknown is not None:
            live.steps.append(Past(n, it.unknown.name, it.unknown.version, "unknown"))
        live.state, live.error, live.at, live.attempt = "undoing", it.why, it.first, 0
        return None if it.first else "undone"

    async def _undo(self, it: Undo) -> str | None:
        live, spec = self.live, it.step
        assert spec.undo is not None
        context = self._context(spec, timeout_s=spec.timeout_s, undo=True)
        note, undo = undo_note(live, it.past.n, it.following), spec.undo
        try:
            if spec.kind is Kind.LOCAL:

                async def work(tx: Write) -> Note:
                    async with asyncio.timeout(spec.timeout_s):
                        await undo(tx, context)
                        await tx.flush()
                    return note

                await self._transaction(work, it.following)
            else:
                await self._outside(undo(context), spec.timeout_s)
                step("saga.undo_called")
                await self._journal.note(note)
        except (Fenced, TruthDown):
            raise
        except asyncio.CancelledError:
            if self._is_lost:
                raise Fenced("Another process has this saga.") from None
            raise
        except Exception as error:  # the undo's own
            await self._leave_desk()
            why, tries = f"The undo of {spec.name}: {_told(error)}", live.attempt + 1
            if isinstance(error, SagaRefused) or tries >= spec.undo_retries.attempts_max:
                return await self._turn(Aside("stuck", why))
            return await self._later(why, spec.undo_retries.wait_s(tries, random.random()))
        step("saga.undo_noted")
        live.steps[:] = [p._replace(undone=True) if p.n == it.past.n else p for p in live.steps]
        live.at, live.attempt = it.following, 0
        return None if it.following else "undone"

    # What it is told, and what time it is

    def _context(
        self, spec: Step, *, timeout_s: float | None = None, undo: bool = False
    ) -> Context[Any]:
        live = self.live
        return Context(
            saga_id=live.id,
            input=live.input,
            results={past.name: past.result for past in live.steps if past.outcome == "done"},
            attempt=live.attempt + 1,
            idempotency_key=key_of(live.id, spec.name, undo=undo),
            deadline=None if timeout_s is None else self._now() + timedelta(seconds=timeout_s),
            tenant=live.tenant,
            actor=live.actor,
            plane=self._means.plane,
            error=live.error if undo else "",
        )

    def _now(self) -> datetime:
        """PostgreSQL's clock, as far as it is known here."""
        return self.live.now + timedelta(seconds=monotonic() - self._read_at)

    def _left_s(self, spec: Step) -> float | None:
        """How long the step may still take, all tries together; None: for ever."""
        live, ends = self.live, []
        if spec.deadline_s is not None and spec.kind is not Kind.PAUSE:
            ends.append(live.since + timedelta(seconds=spec.deadline_s))
        if live.deadline_at is not None:
            ends.append(live.deadline_at)
        return (min(ends) - self._now()).total_seconds() if ends else None

    async def _reload(self) -> str | None:
        """Read it again, for somebody has told it something; Fenced when it is not ours."""
        found = await self._journal.held([(self.live.id, self.live.fence)])
        if not found:
            raise Fenced("Another process has this saga.")
        self.live, self._read_at = found[0], monotonic()
        return None


def _told(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "it did not end in time."
    text = error.message if isinstance(error, PolyplaneError) else str(error)
    return f"{type(error).__name__}: {text}"[:1000]
