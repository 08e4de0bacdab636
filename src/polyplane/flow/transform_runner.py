"""Does transformations in this process: takes up those that are due, and keeps their leases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import random
from typing import Any, Final
from uuid import uuid4

import structlog

from polyplane.errors import EngineFailed, Fenced, PolyplaneError, Unavailable
from polyplane.flow.sifting import told
from polyplane.flow.transforming import Transforming
from polyplane.model.transformation import Transformation, form_of
from polyplane.steps import step
from polyplane.truth.database import Database
from polyplane.truth.transforms import LEASE_S, Live, TransformJournal

_log = structlog.get_logger(__name__)

AT_ONCE_MAX: Final = 4
"""Transformations in a process; each holds two connections at most."""
_IDLE_S: Final = 0.25
_FIRST_WAIT_S: Final = 0.5
_LAST_WAIT_S: Final = 60.0
_ENGINE_FAULTS: Final = (Unavailable, EngineFailed, TimeoutError, OSError)


class TransformRunner:
    """Goes on with the transformations it knows. `run` until cancelled, then `give_back`."""

    def __init__(
        self,
        declared: Sequence[type[Transformation[Any, Any]]],
        app: Database,
        projector: Database,
        epoch: Callable[[], int],
    ) -> None:
        self._forms: Mapping[str, Any] = {it.name: form_of(it) for it in declared}
        self._pools = app, projector
        self._journal = TransformJournal(app)
        self._epoch = epoch
        self.holder = uuid4()
        self._held: dict[str, Live] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._renewed = 0.0

    async def run(self) -> None:
        """Take up what is due, and keep what is held, until cancelled."""
        while True:
            try:
                await self._keep()
                await self._claim()
            except (PolyplaneError, TimeoutError) as error:
                _log.warning("transforms.waiting", error=str(error) or type(error).__name__)
            await asyncio.sleep(_IDLE_S)

    async def give_back(self) -> None:
        """End what is at work, whose last page is lost, and let others go on with it at once."""
        while tasks := [task for task in self._tasks.values() if not task.done()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1)
        try:
            await self._journal.release(self.holder)
        except PolyplaneError as error:
            _log.warning("transforms.kept", error=error.message)  # until the leases are over

    async def _claim(self) -> None:
        known = {name: f.it.version for name, f in self._forms.items() if name not in self._held}
        room = AT_ONCE_MAX - len(self._held)
        if not known or room <= 0:
            return
        for live in await self._journal.claim(self.holder, known, room):
            step("transform.claimed")
            self._held[live.name] = live
            self._tasks[live.name] = asyncio.create_task(
                self._drive(live), name=f"transformation {live.name}"
            )

    async def _keep(self) -> None:
        """Renew the leases of what is at work, and end what is another's by now."""
        now = asyncio.get_running_loop().time()
        if not self._held or now - self._renewed < LEASE_S / 4:
            return
        self._renewed = now
        held = dict(self._held)
        kept = await self._journal.renew(list(held.values()))
        for name, live in held.items():
            if name not in kept and self._held.get(name) is live:
                self._tasks[name].cancel()

    async def _drive(self, live: Live) -> None:
        work = Transforming(self._forms[live.name], live, *self._pools, self._epoch)
        try:
            while await work.advance():
                pass
            _log.info("transformation.done", name=live.name)
        except Fenced as error:
            _log.info("transformation.left", name=live.name, why=error.message)
        except _ENGINE_FAULTS as error:
            wait_s = min(_LAST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(live.attempt, 20))
            await self._failed(live, error, wait_s * (0.5 + random() / 2), final=False)
        except Exception as error:
            await self._failed(live, error, 0.0, final=True)
        finally:
            self._held.pop(live.name, None)
            self._tasks.pop(live.name, None)

    async def _failed(self, live: Live, error: Exception, wait_s: float, *, final: bool) -> None:
        said = error.message if isinstance(error, PolyplaneError) else told(error)
        _log.warning("transformation.failed", name=live.name, error=said, final=final)
        try:
            await self._journal.failed(live, said, wait_s, final=final)
        except (PolyplaneError, TimeoutError):
            return  # its lease will be over
