"""One child process that reads files, seen from the process that asks it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import polyplane
from polyplane.domains.assistant.parsing.parsed import (
    ChunkOptions,
    Failure,
    Limits,
    Parsed,
    Unreadable,
)
from polyplane.domains.assistant.parsing.wire import (
    LENGTH,
    Garbled,
    request_of,
    result_of,
    settings_text,
)

PROGRAM: Final = "polyplane.domains.assistant.parsing.child"
START_S: Final = 60.0
"""Until a child has said that it is there; a loaded machine takes its time."""
LATE_S: Final = 5.0
"""A child ends itself in time. If it cannot, it is ended so much later."""
END_S: Final = 10.0
_ANSWER_MORE: Final = 8 << 20
_CHARACTER_BYTES: Final = 6
"""Of a character in JSON, at most."""
_ROOT: Final = str(Path(polyplane.__file__).parents[1])


class Death(Exception):
    """A child is gone, or had to be ended. `code` and `reason` are those of the file it read."""

    def __init__(self, code: Failure, reason: str) -> None:
        super().__init__(reason)
        self.failure = Unreadable(code, reason)


class Reader:
    """A child process. It reads one batch at a time; `files` counts those it has read."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        limits: Limits,
    ) -> None:
        self._process = process
        self._output, self._input = streams
        self._limits = limits
        self._answer_max = _CHARACTER_BYTES * limits.text_characters + _ANSWER_MORE
        self.files = 0

    @classmethod
    async def start(cls, options: ChunkOptions, limits: Limits) -> Self:
        """Start a child. Raises Death when it does not come up."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = _spawned(theirs, settings_text(options, limits))
        reader = cls(process, await asyncio.open_connection(sock=ours, limit=1 << 20), limits)
        try:
            await reader._frame(START_S)
        except BaseException:
            await reader.end()
            raise
        return reader

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can read more."""
        return self._process.poll() is None

    def ask(self, files: Sequence[tuple[str, str | None, bytes]]) -> None:
        """Give it files to read; each is answered in turn."""
        self._input.write(request_of(files))

    async def answer(self) -> Parsed | Unreadable:
        """What the next file says. Raises Death."""
        body = await self._frame(self._limits.wall_s + LATE_S)
        self.files += 1
        try:
            return result_of(body)
        except Garbled as error:
            await self.end()
            raise Death("crashed", f"its reader gave an answer that is none ({error})") from error

    async def end(self) -> None:
        """End the process, at once, and see it gone."""
        self._process.kill()
        self._input.close()
        await asyncio.to_thread(self._process.wait, END_S)

    async def _frame(self, within_s: float) -> bytes:
        try:
            async with asyncio.timeout(within_s):
                size = LENGTH.unpack(await self._output.readexactly(LENGTH.size))[0]
                if size <= self._answer_max:
                    return await self._output.readexactly(size)
        except TimeoutError as error:
            await self.end()
            raise Death("timeout", f"no answer within {within_s:.0f} s") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            await self.end()
            raise self._death() from error
        await self.end()
        raise Death("too_large", "what came of it is too much")

    def _death(self) -> Death:
        code = self._process.returncode or 0
        if code == -signal.SIGALRM:
            return Death("timeout", f"reading it takes more than {self._limits.wall_s:g} s")
        if code == -signal.SIGXCPU:
            return Death(
                "timeout", f"reading it takes more than {self._limits.cpu_s} s of computing"
            )
        how = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit {code}"
        return Death("crashed", f"its reader ended ({how})")


def _spawned(theirs: socket.socket, settings: str) -> subprocess.Popen[bytes]:
    """A child at the other end of a socket. It takes milliseconds: no page of ours is copied, and
    nothing of ours is called on the way, as by the spawn of some event loops.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-B", "-X", "utf8", "-m", PROGRAM, settings, str(os.getpid())],
        stdin=theirs.fileno(),
        stdout=theirs.fileno(),
        stderr=subprocess.DEVNULL,
        cwd="/",
        # It knows no secret of ours: of the environment it has what Python needs.
        env={"PYTHONPATH": _ROOT, "PYTHONHASHSEED": "0"},
        start_new_session=True,
    )
