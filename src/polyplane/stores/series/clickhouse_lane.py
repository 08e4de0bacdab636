"""A ClickHouse client and the threads that may call it: deadlines, and errors made ours."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self, TypeVar

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, ProgrammingError

from polyplane.errors import (
    EngineMissing,
    Misconfigured,
    PolyplaneError,
    Refused,
    StoreDown,
    TooLarge,
)

T = TypeVar("T")

RESULT_ROWS_MAX: Final = 1_000_000
"""Most rows of one answer."""
_GRACE_S: Final = 5.0
"""How much longer we wait than the engine's own deadline, before we call it hung."""
_TOO_MUCH: Final = {"TOO_MANY_ROWS", "TOO_MANY_BYTES", "TOO_MANY_ROWS_OR_BYTES"}
_DENIED: Final = {"AUTHENTICATION_FAILED", "ACCESS_DENIED", "REQUIRED_PASSWORD"}
_ABSENT: Final = {"UNKNOWN_TABLE", "UNKNOWN_DATABASE"}
_DOWN: Final = {
    "TIMEOUT_EXCEEDED",
    "MEMORY_LIMIT_EXCEEDED",
    "TOO_MANY_SIMULTANEOUS_QUERIES",
    "NETWORK_ERROR",
    "SOCKET_TIMEOUT",
    "NOT_ENOUGH_SPACE",
}


class Lane:
    """One client and the threads that may call it; the clients of both engines block."""

    def __init__(self, client: Client, threads: ThreadPoolExecutor, timeout_s: float) -> None:
        self._client = client
        self._threads = threads
        self._timeout_s = timeout_s

    @classmethod
    async def open(
        cls,
        target: Mapping[str, Any],
        settings: Mapping[str, Any],
        *,
        threads: int,
        timeout_s: float,
    ) -> Self:
        """A client of `target` for which `settings` hold, in their order."""
        pool = ThreadPoolExecutor(threads, thread_name_prefix="clickhouse")

        def opened() -> Client:
            client = clickhouse_connect.get_client(**target)
            for name, value in settings.items():
                client.set_client_setting(name, value)
            return client

        loop = asyncio.get_running_loop()
        try:
            client = await _within(loop.run_in_executor(pool, opened), timeout_s, False)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        _restore_stop_key()
        return cls(client, pool, timeout_s)

    async def run(self, call: Callable[[Client], T], *, sql_is_callers: bool = False) -> T:
        """`call(client)` in a thread, within the deadline; the driver's errors become ours.

        `sql_is_callers`: what the engine finds wrong with the SQL is Refused.
        """
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, self._call, call)
        return await _within(running, self._timeout_s, sql_is_callers)

    def _call(self, call: Callable[[Client], T]) -> T:
        try:
            return call(self._client)
        except ClickHouseError:
            # A chdb handle puts what a failed query had already written in front of its next
            # answer. Let that be an answer that nobody reads.
            self._client.ping()
            raise

    async def within_deadline(self, call: Awaitable[T]) -> T:
        """`call` within this lane's deadline, with its errors."""
        return await _within(call, self._timeout_s, False)

    async def close(self) -> None:
        """Wait for what runs, then let go of the connection."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._client.close)


async def _within(call: Awaitable[T], timeout_s: float, sql_is_callers: bool) -> T:
    try:
        return await asyncio.wait_for(call, timeout_s + _GRACE_S)
    except TimeoutError:
        raise StoreDown(f"ClickHouse did not answer within {timeout_s + _GRACE_S:g} s.") from None
    except ImportError as error:
        raise EngineMissing("chdb", "clickhouse") from error
    except DatabaseError as error:
        raise _translated(error, sql_is_callers) from error
    except (ClickHouseError, OSError) as error:
        raise StoreDown(f"ClickHouse does not answer ({type(error).__name__}).") from error


def _translated(error: DatabaseError, sql_is_callers: bool) -> PolyplaneError:
    """What an error of the driver or the engine means."""
    text = str(error).partition(" (version")[0].strip()[:500]
    if isinstance(error, ProgrammingError) and "Unable to open" in text:
        fix = "One process may open a chdb path, and a process one path: stop the other, or"
        return Misconfigured(text.partition(":")[0] + ".", fix=f"{fix} choose another path.")
    if error.name in _TOO_MUCH:
        return TooLarge(f"The result is larger than {RESULT_ROWS_MAX} rows.", fix="Narrow it.")
    if error.name in _DENIED:
        return Misconfigured(f"ClickHouse refuses access ({error.name}).")
    if error.name is None or error.name in _DOWN:
        return StoreDown(f"ClickHouse could not do it: {text}")
    if sql_is_callers:
        return Refused(f"ClickHouse refuses the query: {text}", field="sql")
    if error.name in _ABSENT:
        return Misconfigured(f"A table is not there: {text}", fix="Call prepare(stream) first.")
    return StoreDown(f"ClickHouse failed: {text}")


def _restore_stop_key() -> None:
    """chdb takes SIGTSTP for a crash and swallows it: give Ctrl-Z back its meaning.

    It leaves SIGINT and SIGTERM alone.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
