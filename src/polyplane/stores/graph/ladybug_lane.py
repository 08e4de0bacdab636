"""A Ladybug database and the threads that may call it: turns, deadlines, and errors made ours.

One thread writes, a few read. A checkpoint and a change of tables have the database alone: readers
have crashed it during checkpoints.

What is loaded in bulk (COPY) is in no log: it is durable, and safe to be referred to by what is
logged, only after the next checkpoint. And a bulk load that fails leaves the table wrong: then
nothing is answered any more, and nothing of what is in memory comes to the file.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, NoReturn, Self, TypeVar

import ladybug
import pyarrow as pa
import structlog

from polyplane.errors import Misconfigured, NotFound, PolyplaneError, Refused, StoreDown

T = TypeVar("T")
_log = structlog.get_logger(__name__)

READERS: Final = 3
"""Threads that read at the same time."""
ENGINE_THREADS: Final = 2
"""Threads of the engine for one query."""
BUFFER_BYTES: Final = 1 << 30
SIZE_MAX_BYTES: Final = 1 << 40
WAL_BYTES_MAX: Final = 1 << 25
"""So large a log is folded into the database."""
LOOSE_ROWS_MAX: Final = 1_000_000
"""So many rows that were loaded in bulk are folded, too."""
CALLS_MAX: Final = 5_000
"""So many queries by one connection; it never forgets a statement."""
OPEN_TIMEOUT_S: Final = 300.0
"""Replaying a log included."""
FOLD_TIMEOUT_S: Final = 1800.0
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
        self._calls = 0

    @property
    def is_spent(self) -> bool:
        """Whether to let go of it: it keeps each statement, and the tables it was given."""
        return self._calls >= CALLS_MAX

    def run(self, statement: str, **parameters: Any) -> None:
        """Do it, and nothing is expected of it."""
        self._result(statement, parameters).close()

    def rows(self, statement: str, **parameters: Any) -> list[list[Any]]:
        """The rows of an answer."""
        with self._result(statement, parameters) as result:
            return [*result]

    def arrow(self, statement: str, **parameters: Any) -> pa.Table:
        """The answer as a table."""
        with self._result(statement, parameters) as result:
            return result.get_as_arrow(chunk_size=-1)

    def some(
        self, statement: str, parameters: dict[str, Any], limit: int
    ) -> tuple[list[str], list[Any]]:
        """The columns, and at most `limit` rows."""
        with self._result(statement, parameters) as result:
            return result.get_column_names(), result.get_n(limit)

    def _result(self, statement: str, parameters: dict[str, Any]) -> ladybug.QueryResult:
        is_table = any(isinstance(value, pa.Table) for value in parameters.values())
        self._calls += CALLS_MAX if is_table else 1
        result = self._connection.execute(statement, parameters)
        if isinstance(result, list):
            for one in result:
                one.close()
            raise RuntimeError("A statement is several.")
        return result

    def close(self) -> None:
        """Let go of it, and of every statement that it knows."""
        self._connection.close()


class Writer(Session):
    """The one connection that writes."""

    def __init__(self, lane: Lane, database: ladybug.Database, timeout_s: float) -> None:
        super().__init__(database, timeout_s)
        self._lane = lane

    @contextmanager
    def logged(self, *, alone: bool = False) -> Iterator[None]:
        """A transaction that is durable when it ends; nothing of it when it is left by an error."""
        if self._lane.loose_rows:
            self._lane.fold()
        with self._lane.turns.alone(self._lane.timeout_s) if alone else nullcontext():
            self.run("BEGIN TRANSACTION")
            try:
                yield
            except BaseException:
                with suppress(RuntimeError):  # the engine may have done so itself
                    self.run("ROLLBACK")
                raise
            self.run("COMMIT")

    @contextmanager
    def loaded(self, rows: int) -> Iterator[None]:
        """A transaction of nothing but bulk loads, not durable before the next checkpoint."""
        self._connection.set_query_timeout(0)  # an interrupted one has failed
        self.run("BEGIN TRANSACTION")
        try:
            yield
            self.run("COMMIT")
        except BaseException as error:
            self._lane.broken = str(error)
            raise
        self._lane.loose_rows += rows


class Lane:
    """An open database; made by `open`."""

    def __init__(self, database: ladybug.Database, path: Path, timeout_s: float) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self.turns = Turns()
        self.loose_rows = 0
        self.broken = ""
        self._database = database
        self._threads = {
            "write": ThreadPoolExecutor(1, thread_name_prefix="ladybug-writer"),
            "read": ThreadPoolExecutor(READERS, thread_name_prefix="ladybug-reader"),
        }
        self._idle: SimpleQueue[Session] = SimpleQueue()
        self._writer: Writer | None = None
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
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                return cls(await asyncio.to_thread(opened), path, timeout_s)

    async def read(
        self, call: Callable[[Session], T], *, what: str = "read", timeout_s: float | None = None
    ) -> T:
        """`call` in a thread that reads. With `timeout_s` by a connection of its own."""
        return await self._within("read", self._read, call, timeout_s, what=what)

    async def write(self, call: Callable[[Writer], T], *, what: str = "write") -> T:
        """`call` in the thread that writes."""
        return await self._within("write", self._write, call, what=what)

    async def checkpoint(self, *, only_loose: bool = False, timeout_s: float) -> None:
        """Fold the log into the database (`only_loose`: when something is in no log)."""

        def folded() -> None:
            if self.loose_rows or not only_loose:
                self.fold()

        await self._within("write", folded, what="fold its log", limit_s=timeout_s)

    async def _within(
        self,
        threads: str,
        call: Callable[..., T],
        *args: Any,
        what: str,
        limit_s: float | None = None,
    ) -> T:
        if self._closed:
            raise StoreDown("Ladybug is closed.")
        if self.broken:
            raise StoreDown(
                f"Ladybug failed in a bulk load: {self.broken}", fix="Start the process again."
            )
        loop = asyncio.get_running_loop()
        # What waits for its turn and what runs have each their deadline in the thread itself.
        with translated(what):
            async with asyncio.timeout(limit_s or 2 * self.timeout_s + GRACE_S):
                return await loop.run_in_executor(self._threads[threads], call, *args)

    def _read(self, call: Callable[[Session], T], timeout_s: float | None) -> T:
        with self.turns.shared(self.timeout_s):
            if timeout_s is not None:
                with closing(Session(self._database, timeout_s)) as session:
                    return call(session)
            try:
                session = self._idle.get_nowait()
            except Empty:
                session = Session(self._database, self.timeout_s)
            try:
                return call(session)
            finally:
                if session.is_spent or self._closed:
                    session.close()
                else:
                    self._idle.put(session)

    def _write(self, call: Callable[[Writer], T]) -> T:
        if self._writer is None:
            self._writer = Writer(self, self._database, self.timeout_s)
        try:
            done = call(self._writer)
        except BaseException:
            self._let_go_of_writer()
            raise
        if self._writer.is_spent:
            self._let_go_of_writer()
        with suppress(FileNotFoundError):
            log_bytes = self.path.with_name(f"{self.path.name}.wal").stat().st_size
            if log_bytes > WAL_BYTES_MAX or self.loose_rows > LOOSE_ROWS_MAX:
                self.fold()
        return done

    def _let_go_of_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def fold(self) -> None:
        """Fold the log, and what is in no log, into the database; by the thread that writes."""
        with (
            self.turns.alone(self.timeout_s),
            closing(Session(self._database, FOLD_TIMEOUT_S)) as session,
        ):
            session.run("CHECKPOINT")
        self.loose_rows = 0

    async def close(self) -> None:
        """Wait for what runs, fold the log, and let go of the file."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=True)
        self._let_go_of_writer()
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()
        try:
            if not self.broken:
                self.fold()
        except (RuntimeError, TimeoutError) as error:
            _log.warning("ladybug.not_folded", error=str(error))  # what counts is in its log
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
    except (RuntimeError, ValueError) as error:
        text = str(error).strip()[:500]
        if text.startswith("Interrupted"):
            raise Refused(
                f"The {what} took too long.", field="text", fix="Narrow it, or give it longer."
            ) from error
        raise Refused(f"Ladybug refuses the {what}: {text}", field="text") from error
