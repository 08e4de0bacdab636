"""Does sagas in this process: takes up those that are due, keeps their leases, gives them back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Final
from uuid import UUID, uuid4

import structlog

from polyplane.errors import PolyplaneError, TruthDown
from polyplane.model.saga import Saga
from polyplane.saga.course import Course, Means
from polyplane.steps import step
from polyplane.truth.sagas import LEASE_S, Live

_log = structlog.get_logger(__name__)

IN_FLIGHT_MAX: Final = 64
"""Sagas at once in a process."""
DRAIN_S: Final = 5.0
"""For how long a stop waits for the steps that are at work."""
KEEP_S: Final = 30 * 86400.0
"""For how long a saga that has ended is shown, and its key taken."""
_BUSY_S: Final = 0.02
_IDLE_S: Final = 0.2
_RENEW_S: Final = LEASE_S / 4
_PURGE_S: Final = 60.0
_PURGE_MAX: Final = 1_000


class Runner:
    """Does the sagas it knows. `run` until cancelled, but `drain` first."""

    def __init__(self, sagas: Sequence[type[Saga[Any]]], means: Means) -> None:
        self._sagas: Mapping[str, type[Saga[Any]]] = {saga.name: saga for saga in sagas}
        self._means = means
        self.holder = uuid4()
        self._courses: dict[UUID, Course] = {}
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._ended: dict[UUID, list[asyncio.Event]] = {}
        self._renewed = self._purged = 0.0
        self.fault = ""
        """What keeps it from work at the moment."""

    @property
    def in_flight(self) -> int:
        """How many sagas are at work in this process."""
        return len(self._courses)

    @property
    def has_room(self) -> bool:
        """Whether it takes up a saga at once."""
        return len(self._courses) < IN_FLIGHT_MAX and not self._means.is_stopping

    def wake(self) -> None:
        """Look for due sagas now."""
        self._wake.set()

    def wake_in(self, after_s: float) -> None:
        """Look for due sagas then."""
        if after_s < 60:  # later ones are found by looking
            asyncio.get_running_loop().call_later(max(0.0, after_s), self._wake.set)

    def take(self, live: Live) -> None:
        """Go on with a saga that this process holds."""
        course = Course(self._sagas[live.name], live, self._means)
        self._courses[live.id] = course
        task = asyncio.create_task(self._drive(course), name=f"saga {live.id}")
        self._tasks[live.id] = task

    def does(self, saga_id: UUID) -> bool:
        """Whether it is at work here."""
        return saga_id in self._courses

    def cancelled(self, saga_id: UUID, why: str) -> None:
        """It was cancelled; its course need not wait to find out."""
        if course := self._courses.get(saga_id):
            course.cancel(why)
        self._wake.set()

    def ending(self, saga_id: UUID) -> asyncio.Event:
        """Set when this process sees the saga end, or left to people."""
        event = asyncio.Event()
        self._ended.setdefault(saga_id, []).append(event)
        return event

    def forget(self, saga_id: UUID, event: asyncio.Event) -> None:
        """Nobody waits for `event` any more."""
        events = self._ended.get(saga_id, [])
        if event in events:
            events.remove(event)
        if not events:
            self._ended.pop(saga_id, None)

    async def run(self) -> None:
        """Take up what is due, and keep what is held, until cancelled."""
        while True:
            was_busy = False
            try:
                await self._keep()
                was_busy = await self._claim()
                if monotonic() - self._purged > _PURGE_S:
                    await self.purge()
                self.fault = ""
            except (PolyplaneError, TimeoutError) as error:
                self.fault = str(error) or type(error).__name__
                _log.warning("sagas.waiting", error=self.fault)
            try:
                async with asyncio.timeout(_BUSY_S if was_busy else _IDLE_S):
                    await self._wake.wait()
            except TimeoutError:
                continue
            finally:
                self._wake.clear()

    async def drain(self) -> None:
        """Begin no further step, and wait for those at work, but not for long."""
        self._means.is_stopping = True
        if tasks := list(self._tasks.values()):
            await asyncio.wait(tasks, timeout=DRAIN_S)
        while tasks := [task for task in tasks if not task.done()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1)

    async def give_back(self) -> None:
        """Let others go on at once with what is held; to be called when `run` has ended."""
        try:
            await self._means.journal.release_all(self.holder)
        except PolyplaneError as error:
            _log.warning("sagas.kept", error=error.message)  # until their leases are over

    async def _claim(self) -> bool:
        room = IN_FLIGHT_MAX - len(self._courses)
        if room <= 0 or self._means.is_stopping or not self._sagas:
            return False
        found = await self._means.journal.claim(self.holder, list(self._sagas), min(room, 16))
        for live in found:
            step("saga.claimed")
            if live.id in self._courses:
                self._courses[live.id].lost()  # its lease was over, and this is a new one
                await self._means.journal.release(self.holder, [(live.id, live.fence)])
            else:
                self.take(live)
        return bool(found)

    async def _drive(self, course: Course) -> None:
        saga_id, state = course.live.id, ""
        try:
            state = await course.run()
            if state:
                step("saga.ended")
        except TruthDown as error:
            _log.warning("saga.waits_for_truth", saga=str(saga_id), error=error.message)
        except Exception:
            _log.exception("saga.fault", saga=str(saga_id))
        finally:
            self._courses.pop(saga_id, None)
            self._tasks.pop(saga_id, None)
            if state:
                for event in self._ended.pop(saga_id, ()):
                    event.set()

    async def _keep(self) -> None:
        """Renew the leases of what is at work, and hear what was cancelled or lost."""
        if monotonic() - self._renewed < _RENEW_S:
            return
        self._renewed = monotonic()
        mine = {it: course.live.fence for it, course in self._courses.items()}
        if not mine:
            return
        kept = await self._means.journal.renew(self.holder, list(mine.items()))
        for saga_id, fence in mine.items():
            course = self._courses.get(saga_id)
            if course is None or course.live.fence != fence:
                continue
            if saga_id not in kept:
                course.lost()
            elif (why := kept[saga_id]) is not None and course.live.cancelled is None:
                course.cancel(why)

    async def purge(self) -> int:
        """Forget some of the sagas that ended long ago; how many."""
        self._purged = monotonic()
        return await self._means.journal.purge(KEEP_S, _PURGE_MAX)
