"""The tasks that move data in this process: kept running, and stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

_log = structlog.get_logger(__name__)

_RESTART_S: Final = 1.0
_STOP_AGAIN_S: Final = 1.0


class Crew:
    """Named tasks. One that fails with a fault of ours is logged, shown, and begun again."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self.faults: dict[str, str] = {}

    def add(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run `run` for as long as the crew works."""
        self._tasks.append(asyncio.create_task(self._keep(name, run), name=name))

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
                return
            except Exception as error:
                self.faults[name] = f"{type(error).__name__}: {error}"
                _log.exception("crew.restart", task=name)
                await asyncio.sleep(_RESTART_S)

    async def end(self, name: str) -> None:
        """Cancel the tasks of this name, if there are any, and wait until they are gone."""
        ended = [task for task in self._tasks if task.get_name() == name]
        self._tasks = [task for task in self._tasks if task not in ended]
        await _cancelled(ended)

    async def stop(self) -> None:
        """Cancel every task and wait until all are gone."""
        await _cancelled(self._tasks)
        self._tasks = []


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    while tasks := [task for task in tasks if not task.done()]:
        # Again and again: libraries swallow a cancellation now and then.
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_STOP_AGAIN_S)
