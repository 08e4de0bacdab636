"""Programs that are born loaded: forked from a process that has imported everything already.

To import takes seconds; a program that is killed every second must not pay for it.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.crash.children import Child
from tests.crash.points import tell

REAP_EVERY_S = 0.02


def nurse(path: Path, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Fork one that does `run` for each connection; the connection is its input and output."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        tell(warm=True)
        while True:
            ready, _, _ = select.select([listener.fileno(), 0], [], [], REAP_EVERY_S)
            if 0 in ready:  # who started us has gone, or wants us to
                return
            if listener.fileno() in ready:
                connection, _ = listener.accept()
                if (pid := os.fork()) == 0:
                    listener.close()
                    _live(connection, run)
                connection.close()
                tell(born=pid)
            _reap()


def _live(connection: socket.socket, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    os.dup2(connection.fileno(), 0)
    os.dup2(connection.fileno(), 1)
    connection.close()
    status = 0
    try:
        asyncio.run(run())
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.stderr.flush()
        os._exit(status)  # what the parent has registered for its end is the parent's


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        tell(ended=pid, status=os.waitstatus_to_exitcode(status))


class Nursery:
    """The process that forks, as seen from the ring."""

    def __init__(self, home: Path, module: str = "program") -> None:
        self._home = home
        self._module = module
        self._path = home / "nursery"
        self._nurse: Child | None = None
        self._ended: dict[int, asyncio.Future[int]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()

    async def start(self) -> None:
        """Load everything."""
        log = self._home / f"{self._module}.err"
        self._nurse = await Child.start(self._module, log, self._path)
        await self._nurse.hear("warm", 120)
        self._listening = asyncio.create_task(self._listen(self._nurse))

    async def _listen(self, nurse: Child) -> None:
        while True:
            ended = await nurse.hear("ended", 1e6)
            self._ended.setdefault(ended["ended"], asyncio.Future()).set_result(ended["status"])

    async def bear(self) -> Child:
        """A new program, which waits for its order."""
        assert self._nurse is not None
        async with self._one:
            reader, writer = await asyncio.open_unix_connection(self._path, limit=2**24)
            pid = (await self._nurse.hear("born", 20))["born"]
        ended = self._ended.setdefault(pid, asyncio.Future())
        return Child(pid, reader, writer, ended)

    async def stop(self) -> None:
        """No more of them."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        if self._nurse is not None:
            await self._nurse.end()
