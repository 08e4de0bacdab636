"""A Ladybug database and the threads that may call it: turns, deadlines, and errors made ours.

One thread writes, a few read. A checkpoint, a bulk load and a change of tables have the database
alone: readers have crashed it during checkpoints.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, NoReturn, Self, TypeVar

import ladybug

from polyplane.errors import Misconfigured, NotFound, PolyplaneError, Refused, StoreDown

T = TypeVar("T")

READERS: Final = 3
"""Threads that read at the same time."""
ENGINE_THREADS: Final = 2
"""Threads of the engine for one query."""
BUFFER_BYTES: Final = 1 << 30
SIZE_MAX_BYTES: Final = 1 << 40
WAL_BYTES_MAX: Final = 1 << 25
"""So large a log is folded into the database."""
CALLS_MAX: Final = 5_000
"""So many queries by one connection; it never forgets a statement."""
GRACE_S: Final = 5.0
"""How much longer we wait than the engine's own deadline, before we call it hung."""


class Turns:
    """Many share, or one is alone. Who wants to be alone is let in before others that come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._alone = False
        self._wanting = 0

    @contextmanager
    def shared(self, timeout_s: float) -> Iterator[None]:
        """Beside others that share. TimeoutError when it does not come to that."""
        with self._changed:
            free = self._changed.wait_for(lambda: not self._alone and not self._wanting, timeout_s)
            if not free:
                raise TimeoutError
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, timeout_s: float) -> Iterator[None]:
        """Beside nobody. TimeoutError when it does not come to that."""
        with self._changed:
            self._wanting += 1
            try:
                if not self._changed.wait_for(self._is_empty, timeout_s):
                    raise TimeoutError
                self._alone = True
            finally:
                self._wanting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()

    def _is_empty(self) -> bool:
        return not self._alone and not self._sharing


class Session:
    """A connection in the hands of one thread, for as long as a call takes."""

    def __init__(self, database: ladybug.Database, timeout_s: float) -> None:
        self._connection = ladybug.Connection(database, ENGINE_THREADS)
        self._connection.set_query_timeout(max(1, int(timeout_s * 1_000)))
        self.calls = 0

    def run(self, statement: str, **parameters: Any) -> None:
        """Do it, and nothing is expected of it."""
        self._result(statement, parameters).close()

    def rows(self, statement: str, **parameters: Any) -> list[list[Any]]:
        """The rows of an answer."""
        with self._result(statement, parameters) as result:
            return [*result]

    def arrow(self, statement: str, **parameters: Any) -> Any:
        """The answer as a `pyarrow.Table`."""
        with self._result(statement, parameters) as result:
            return result.get_as_arrow(chunk_size=-1)

    def some(
        self, statement: str, parameters: dict[str, Any], limit: int
    ) -> tuple[list[str], list[list[Any]]]:
        """The columns, and at most `limit` rows."""
        with self._result(statement, parameters) as result:
            return result.get_column_names(), result.get_n(limit)

    def _result(self, statement: str, parameters: dict[str, Any]) -> ladybug.QueryResult:
        self.calls += 1
        result = self._connection.execute(statement, parameters)
        if isinstance(result, list):
            for one in result:
                one.close()
            raise RuntimeError("A statement is several.")
        return result

    def close(self) -> None:
        """Let go of it, and of every statement that it knows."""
        self._connection.close()


class Lane:
    """An open database; made by `open`."""

    def __init__(self, database: ladybug.Database, path: Path, timeout_s: float) -> None:
        self.path = path
        self._database = database
        self._timeout_s = timeout_s
        self._turns = Turns()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ladybug-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="ladybug-reader")
        self._idle: SimpleQueue[Session] = SimpleQueue()
        self._closed = False

    @classmethod
    async def open(cls, path: Path, timeout_s: float) -> Self:
        """The database in the file `path`, made when it is not there."""

        def opened() -> ladybug.Database:
            path.parent.mkdir(parents=True, exist_ok=True)
            return ladybug.Database(
                path,
                buffer_pool_size=BUFFER_BYTES,
                max_num_threads=ENGINE_THREADS,
                max_db_size=SIZE_MAX_BYTES,
                auto_checkpoint=False,
            )

        with translated("open"):
            async with asyncio.timeout(timeout_s + GRACE_S):
                return cls(await asyncio.to_thread(opened), path, timeout_s)

    async def read(
        self, call: Callable[[Session], T], *, what: str = "read", timeout_s: float | None = None
    ) -> T:
        """`call` in a thread that reads. With `timeout_s` by a connection of its own."""
        return await self._within(self._readers, self._read, call, timeout_s, what=what)

    async def write(
        self, call: Callable[[Session], T], *, what: str = "write", alone: bool = False
    ) -> T:
        """`call` as one transaction, in the thread that writes; nothing of it when it raises."""
        return await self._within(self._writer, self._write, call, alone, what=what)

    async def checkpoint(self, *, timeout_s: float) -> None:
        """Fold the log into the database."""
        await self._within(self._writer, self._fold, timeout_s, what="fold its log", s=timeout_s)

    async def _within(
        self,
        pool: ThreadPoolExecutor,
        call: Callable[..., T],
        *args: Any,
        what: str,
        s: float | None = None,
    ) -> T:
        if self._closed:
            raise StoreDown("Ladybug is closed.")
        # What waits and what runs each have their deadline in the thread itself.
        limit_s = 2 * (s or self._timeout_s) + GRACE_S
        with translated(what):
            async with asyncio.timeout(limit_s):
                return await asyncio.get_running_loop().run_in_executor(pool, call, *args)

    def _read(self, call: Callable[[Session], T], timeout_s: float | None) -> T:
        with self._turns.shared(self._timeout_s):
            if timeout_s is not None:
                session = Session(self._database, timeout_s)
                try:
                    return call(session)
                finally:
                    session.close()
            try:
                session = self._idle.get_nowait()
            except Empty:
                session = Session(self._database, self._timeout_s)
            try:
                return call(session)
            finally:
                if session.calls < CALLS_MAX and not self._closed:
                    self._idle.put(session)
                else:
                    session.close()

    def _write(self, call: Callable[[Session], T], alone: bool) -> T:
        turn = self._turns.alone if alone else self._turns.shared
        with turn(self._timeout_s):
            # One for each: it would keep the rows it was given as long as itself.
            session = Session(self._database, self._timeout_s)
            try:
                session.run("BEGIN TRANSACTION")
                try:
                    done = call(session)
                except BaseException:
                    with suppress(RuntimeError):  # the engine may have done so itself
                        session.run("ROLLBACK")
                    raise
                session.run("COMMIT")
            finally:
                session.close()
        with suppress(FileNotFoundError):
            if self.path.with_name(f"{self.path.name}.wal").stat().st_size > WAL_BYTES_MAX:
                self._fold(self._timeout_s)
        return done

    def _fold(self, timeout_s: float) -> None:
        with self._turns.alone(timeout_s):
            session = Session(self._database, timeout_s)
            try:
                session.run("CHECKPOINT")
            finally:
                session.close()

    async def close(self) -> None:
        """Wait for what runs, fold the log, and let go of the file."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._writer.shutdown(cancel_futures=True)
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()
        try:
            self._fold(self._timeout_s)
        finally:
            self._database.close()


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of the driver, made ours."""
    try:
        yield
    except PolyplaneError:
        raise
    except TimeoutError as error:
        raise StoreDown(f"Ladybug did not {what} in time.") from error
    except (RuntimeError, OSError, ValueError) as error:
        _raise(str(error).strip()[:500], what, error)


def _raise(text: str, what: str, error: Exception) -> NoReturn:
    """What an error of the engine means; it has but one kind, and words."""
    if "Could not set lock" in text:
        raise Misconfigured(
            "Another process has the Ladybug database open.",
            fix="Stop it: one process may open it, which is that of `polyplane up`.",
        ) from error
    if text.startswith("Binder exception") and "does not exist" in text and "Table" in text:
        raise NotFound("There is no such collection.", fix="Prepare it first.") from error
    raise StoreDown(f"Ladybug could not {what}: {text}") from error


@contextmanager
def callers(what: str) -> Iterator[None]:
    """What is wrong with a query that a caller has written is the caller's."""
    try:
        yield
    except RuntimeError as error:
        text = str(error).strip()[:500]
        if text.startswith("Interrupted"):
            raise Refused(
                f"The {what} took too long.", field="text", fix="Narrow it, or give it longer."
            ) from error
        raise Refused(f"Ladybug refuses the {what}: {text}", field="text") from error
