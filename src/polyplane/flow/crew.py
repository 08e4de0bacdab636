"""The tasks that move data in this process: kept running, and stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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

    async def stop(self) -> None:
        """Cancel every task and wait until all are gone."""
        while self._tasks:
            # Again and again: libraries swallow a cancellation now and then.
            for task in self._tasks:
                task.cancel()
            _, gone_on = await asyncio.wait(self._tasks, timeout=_STOP_AGAIN_S)
            self._tasks = list(gone_on)
