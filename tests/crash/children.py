"""Processes of the ring: they speak JSON, a line at a time, and one of them is always alive."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

AGAIN_S = 0.2


class Died(Exception):
    """The process ended before it said what was waited for."""


class Child:
    """A Python module that runs as a process."""

    def __init__(
        self,
        pid: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        status: Awaitable[int],
    ) -> None:
        self.pid = pid
        self.gone = asyncio.Event()
        self.exit_status: int | None = None
        self._writer = writer
        self._said: dict[str, asyncio.Queue[dict[str, Any]]] = defaultdict(asyncio.Queue)
        self._talking = asyncio.Lock()
        self._asked = 0
        self._reading = asyncio.create_task(self._read(reader, status))

    @classmethod
    async def start(cls, module: str, log: Path, *arguments: object) -> Child:
        """`python -m tests.crash.<module>`; what it does not say as JSON goes to `log`."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"tests.crash.{module}",
                *map(str, arguments),
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                limit=2**24,
            )
        assert process.stdin is not None and process.stdout is not None
        return cls(process.pid, process.stdout, process.stdin, process.wait())

    async def _read(self, reader: asyncio.StreamReader, status: Awaitable[int]) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                if line.startswith(b"{"):
                    said = json.loads(line)
                    self._said[next(iter(said))].put_nowait(said)
        self.exit_status = await status
        self.gone.set()

    async def hear(self, what: str, timeout_s: float) -> dict[str, Any]:
        """The next line that begins with the name `what`. Raises Died or TimeoutError."""
        get = asyncio.ensure_future(self._said[what].get())
        gone = asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({get, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if get.done():
                return get.result()
            raise Died(what) if gone.done() else TimeoutError(what)
        finally:
            get.cancel()
            gone.cancel()

    def say(self, line: str) -> None:
        """One line to it; lost if it has ended."""
        with suppress(OSError):
            self._writer.write(f"{line}\n".encode())

    async def ask(self, question: str, answer: str, timeout_s: float) -> Any:
        """Its answer. One at a time; answers that nobody waited for any more are passed over."""
        async with self._talking:
            self._asked += 1
            self.say(f"{self._asked} {question}")
            while (heard := await self.hear(answer, timeout_s))["to"] != self._asked:
                continue
            return heard[answer]

    def send(self, number: signal.Signals) -> bool:
        """Whether it was still there to get the signal."""
        if self.gone.is_set():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    async def end(self, line: str = "stop", timeout_s: float = 30) -> int | None:
        """Ask it to stop, and see to it; its exit status."""
        self.say(line)
        if self._writer.can_write_eof():
            with suppress(OSError):
                self._writer.write_eof()
        try:
            async with asyncio.timeout(timeout_s):
                await self.gone.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.gone.wait()
        return self.exit_status


class Life:
    """A program that is begun again whenever it has died."""

    def __init__(
        self,
        bear: Callable[[], Awaitable[Child]],
        order: Callable[[], Mapping[str, Any]],
        say: Callable[[str], None],
    ) -> None:
        self.now: Child | None = None
        self.open = asyncio.Event()
        self.told: dict[str, Any] = {}
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.deaths = Counter[str]()
        self.blown = Counter[str]()
        self.paused = Counter[str]()
        self.changed_at = 0.0
        self._bear = bear
        self._order = order
        self._say = say
        self._task: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.pause_s: Callable[[], float] = lambda: 4.0

    def begin(self) -> None:
        """From now on it lives."""
        self._task = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            await self.may_start.wait()
            child = await self._bear()
            order = self._order()
            child.say(json.dumps(order))
            self.now = child
            self._watching = asyncio.create_task(self._watch(child))
            await child.gone.wait()
            self.open.clear()
            self.changed_at = asyncio.get_running_loop().time()
            await self._watching
            self.deaths[_ending(child.exit_status)] += 1
            self._say(f"{order['role']} ended: {_ending(child.exit_status)}")
            if child.exit_status != -signal.SIGKILL:
                await asyncio.sleep(AGAIN_S)

    async def _watch(self, child: Child) -> None:
        """Notice that it is open; wake it from a pause; count at which step it ended."""
        opening = asyncio.create_task(child.hear("open", 600))
        opening.add_done_callback(self._opened)
        with suppress(Died):
            while True:
                blown = await child.hear("blown", 10_000)
                if blown["signal"] == "SIGSTOP":
                    self.paused[blown["blown"]] += 1
                    await asyncio.sleep(self.pause_s())
                    child.send(signal.SIGCONT)
                    self.changed_at = asyncio.get_running_loop().time()
                else:
                    self._say(f"died at {blown['blown']}")
                    self.blown[blown["blown"]] += 1
        await asyncio.wait([opening])

    def _opened(self, opening: asyncio.Task[dict[str, Any]]) -> None:
        if opening.exception() is None:
            self.told = opening.result()
            self.open.set()
            self._say(f"{opening.result()['role']} is open")

    def kill(self) -> bool:
        """kill -9; whether there was anything to kill. Who waits for it waits for the next."""
        self.open.clear()
        return self.now is not None and self.now.send(signal.SIGKILL)

    async def stop(self, line: str = "stop") -> int | None:
        """For good, in order; its exit status."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        status = await self.now.end(line, 60) if self.now is not None else None
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        return status


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        return signal.Signals(-status).name
    return f"exit {status}"


def of_home(home: Path) -> list[psutil.Process]:
    """Every process that works for this home."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.pid != os.getpid() and str(home) in " ".join(process.info["cmdline"] or ())
    ]
