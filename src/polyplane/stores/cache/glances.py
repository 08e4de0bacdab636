"""Plain reads over one connection of their own; what is asked for meanwhile goes out together.

So a lone reader pays one round trip and no pool, and a thousand at once pay a few round trips
together. The connection knows which incarnation of the server it speaks to, and its clock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from time import time
from typing import Any, Final

from redis.asyncio import Connection
from redis.exceptions import ConnectionError as ConnectionLost, NoPermissionError

from polyplane.errors import PolyplaneError, StoreDown
from polyplane.stores.cache.server import Server, in_our_words

_KEYS: Final = 512
"""Names of one round trip, about."""
_WAITING_MAX: Final = 10_000
_TIMEOUT_S: Final = 2.0
"""Less than other calls have: whoever reads here can do without."""

Asked = tuple[list[str], "asyncio.Future[list[bytes | None]]"]


class Glances:
    """MGET, for many at once."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Connection | None = None
        self._asked: deque[Asked] = deque()
        self._is_busy = False
        self._task: asyncio.Task[None] | None = None
        self.incarnation = b""
        """What the server calls this run of its process; b"" while unknown, or not told to us."""
        self.ahead_ms = 0.0
        """How far the server's clock is ahead of ours."""

    async def mget(self, names: list[str]) -> list[bytes | None]:
        """What is held under `names`; None where there is nothing, or no string. StoreDown."""
        if not self._is_busy:
            self._is_busy = True
            try:
                return await self._answered(names)
            finally:
                self._is_busy = False
                if self._asked:
                    self._is_busy = True
                    self._task = asyncio.create_task(self._work(), name="glances")
        if len(self._asked) >= _WAITING_MAX:
            raise StoreDown("Too many wait for the cache.")
        answer: asyncio.Future[list[bytes | None]] = asyncio.get_running_loop().create_future()
        self._asked.append((names, answer))
        return await answer

    def now_ms(self) -> float:
        """The server's clock."""
        return time() * 1_000 + self.ahead_ms

    async def close(self) -> None:
        """Close the connection. Safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._drop()

    async def _work(self) -> None:
        """Serve those that wait, until nobody does."""
        try:
            while self._asked:
                await self._serve(self._some())
        finally:
            self._is_busy = False
            while self._asked:  # we are to end
                self._asked.popleft()[1].cancel()

    async def _serve(self, some: list[Asked]) -> None:
        try:
            found = await self._answered([name for names, _ in some for name in names])
        except PolyplaneError as error:
            for _, answer in some:
                if not answer.done():
                    answer.set_exception(type(error)(error.message, fix=error.fix))
            return
        except BaseException:
            for _, answer in some:
                answer.cancel()
            raise
        start = 0
        for names, answer in some:
            end = start + len(names)
            if not answer.done():
                answer.set_result(found[start:end])
            start = end

    def _some(self) -> list[Asked]:
        """Those that wait, as many as fit."""
        some = [self._asked.popleft()]
        count = len(some[0][0])
        while self._asked and count < _KEYS:
            some.append(self._asked.popleft())
            count += len(some[-1][0])
        return some

    async def _answered(self, names: list[str]) -> list[Any]:
        """Once more over a new connection, when the old one has died while it was idle."""
        try:
            with in_our_words():
                async with asyncio.timeout(min(self._server.timeout_s, _TIMEOUT_S)):
                    if self._connection is not None:
                        try:
                            return await self._asking(self._connection, names)
                        except (ConnectionLost, OSError):
                            await self._drop()
                    self._connection = await self._connected()
                    return await self._asking(self._connection, names)
        except BaseException:
            await self._drop()  # half an answer may still come
            raise

    async def _asking(self, connection: Connection, names: list[str]) -> list[Any]:
        await connection.send_command("MGET", *names, check_health=False)
        found: list[Any] = await connection.read_response()
        return found

    async def _connected(self) -> Connection:
        connection = self._server.connection()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            before_ms = time() * 1_000
            await connection.send_command("INFO", "server", check_health=False)
            try:
                told = await connection.read_response()
            except NoPermissionError:
                told = b""
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        fields = dict(line.split(b":", 1) for line in told.split(b"\r\n") if b":" in line)
        self.incarnation = fields.get(b"run_id", b"")
        if (clock_us := fields.get(b"server_time_usec", b"")).isdigit():
            self.ahead_ms = int(clock_us) / 1_000 - (before_ms + time() * 1_000) / 2
        return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError, ConnectionLost, TimeoutError):
                await connection.disconnect(nowait=True)
