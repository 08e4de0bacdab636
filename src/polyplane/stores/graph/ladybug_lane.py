"""A Ladybug database and the threads that may call it.

One thread writes, a few read. A checkpoint and a change of tables have the database alone: readers
have crashed it during checkpoints.

What is loaded in bulk (COPY) is in no log: it is durable, and safe to be referred to by what is
logged, only after the next checkpoint. And a bulk load that fails leaves the table wrong: then
nothing is answered any more, and nothing of what is in memory comes to the file. One large load is
quicker than many small ones, so such rows wait for more of the same collection, until anything else
is asked for: before any statement is run, they are loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Self, TypeVar

import ladybug
import pyarrow as pa
import structlog

from polyplane.errors import StoreDown
from polyplane.stores.graph import ladybug_custody
from polyplane.stores.graph.cypher_text import quoted
from polyplane.stores.graph.ladybug_faults import translated
from polyplane.stores.graph.ladybug_known import Known
from polyplane.stores.graph.ladybug_turns import Turns
from polyplane.stores.graph.ladybug_waiting import Waiting

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


class Session:
    """A connection in the hands of one thread, for as long as a call takes."""

    def __init__(self, database: ladybug.Database, timeout_s: float) -> None:
        self._connection = ladybug.Connection(database, ENGINE_THREADS)
        self._timeout_ms = max(1, int(timeout_s * 1_000))
        self._connection.set_query_timeout(self._timeout_ms)
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

    def known(self, label: str) -> Known:
        """What is known of a table of nodes that is there."""
        if label not in self._lane.known:
            some = self.rows(f"MATCH (n:{quoted(label)}) RETURN n.`_key` LIMIT 1")
            self._lane.known[label] = Known(is_empty=not some)
        return self._lane.known[label]

    def forget(self, label: str) -> None:
        """The table is there no more."""
        self._lane.known.pop(label, None)

    def load(self, name: str, parts: Mapping[str, pa.Table]) -> None:
        """Load rows in bulk (what to copy to -> rows, in the order they are copied), with others
        of the same `name`, before anything else is done.
        """
        waiting = self._lane.waiting
        if waiting and waiting.name != name:
            self.flush()
            waiting = None
        if waiting is None:
            waiting = self._lane.waiting = Waiting(name)
        if waiting.add(parts):
            self.flush()

    def flush(self) -> None:
        """Load what waits."""
        waiting, self._lane.waiting = self._lane.waiting, None
        if waiting:
            with self._loaded(waiting.rows):
                for target, rows in waiting.parts():
                    self.run(f"COPY {target} FROM $rows", rows=rows)

    @contextmanager
    def logged(self, *, alone: bool = False) -> Iterator[None]:
        """A transaction that is durable when it ends; nothing of it when it is left by an error."""
        self.flush()
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
    def _loaded(self, rows: int) -> Iterator[None]:
        """A transaction of nothing but bulk loads, not durable before the next checkpoint."""
        self._connection.set_query_timeout(0)  # an interrupted one has failed
        self.run("BEGIN TRANSACTION")
        try:
            yield
            self.run("COMMIT")
        except BaseException as error:
            self._lane.broken = str(error)
            raise
        self._connection.set_query_timeout(self._timeout_ms)
        self._lane.loose_rows += rows

    def _result(self, statement: str, parameters: dict[str, Any]) -> ladybug.QueryResult:
        self.flush()
        return super()._result(statement, parameters)


class Lane:
    """An open database; made by `open`."""

    def __init__(
        self,
        database: ladybug.Database | None,
        path: Path,
        timeout_s: float,
        *,
        damage: str,
        is_known: bool,
    ) -> None:
        """Without a `database` when that in `path` is damaged. `is_known`: it is as it was left."""
        self.path = path
        self.timeout_s = timeout_s
        self.damage = damage
        self.is_known = is_known
        self.turns = Turns()
        self.loose_rows = 0
        self.broken = ""
        self.known: dict[str, Known] = {}
        self.waiting: Waiting | None = None
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
        """The database in the file `path`, made when it is not there.

        What is damaged is not opened, and nothing is answered, until it is begun `anew`.
        """
        with translated("open"):
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                damage, is_known = await asyncio.to_thread(ladybug_custody.looked_at, path)
                try:
                    database = None if damage else await asyncio.to_thread(_opened, path)
                except RuntimeError as error:
                    damage = ladybug_custody.says_damaged(error)
                    if not damage:
                        raise
                    database = None
                return cls(database, path, timeout_s, damage=damage, is_known=is_known)

    async def anew(self) -> None:
        """Delete what is damaged, and begin with nothing."""

        def renewed() -> None:
            if self._database is not None:
                self._let_go()
                self._database.close()
            ladybug_custody.take_away(self.path)
            self._database, self.damage, self.broken = _opened(self.path), "", ""
            self.known.clear()

        with translated("begin anew"):
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await asyncio.to_thread(renewed)

    async def read(
        self, call: Callable[[Session], T], *, what: str = "read", timeout_s: float | None = None
    ) -> T:
        """`call` in a thread that reads. With `timeout_s` by a connection of its own."""
        if self.waiting is not None:
            await self.write(Writer.flush)
        return await self._within("read", self._read, call, timeout_s, what=what)

    async def write(self, call: Callable[[Writer], T], *, what: str = "write") -> T:
        """`call` in the thread that writes."""
        return await self._within("write", self._write, call, what=what)

    async def checkpoint(self, *, only_loose: bool = False, timeout_s: float) -> None:
        """Fold the log into the database (`only_loose`: when something is in no log)."""

        def folded(writer: Writer) -> None:
            writer.flush()
            if self.loose_rows or not only_loose:
                self.fold()

        await self._within("write", self._write, folded, what="fold its log", limit_s=timeout_s)

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
        if self.damage:
            raise StoreDown(
                f"The graph is damaged: {self.damage}.", fix="`polyplane up` fills it again."
            )
        if self.broken:
            raise StoreDown(
                f"Ladybug failed in a bulk load: {self.broken}", fix="Start the process again."
            )
        loop = asyncio.get_running_loop()
        # What waits for its turn and what runs have each their deadline in the thread itself.
        with translated(what):
            async with asyncio.timeout(limit_s or 2 * self.timeout_s + GRACE_S):
                return await loop.run_in_executor(self._threads[threads], call, *args)

    def _held(self) -> ladybug.Database:
        if self._database is None:
            raise StoreDown(f"The graph is damaged: {self.damage}.")
        return self._database

    def _read(self, call: Callable[[Session], T], timeout_s: float | None) -> T:
        with self.turns.shared(self.timeout_s):
            if timeout_s is not None:
                with closing(Session(self._held(), timeout_s)) as session:
                    return call(session)
            try:
                session = self._idle.get_nowait()
            except Empty:
                session = Session(self._held(), self.timeout_s)
            try:
                return call(session)
            finally:
                if session.is_spent or self._closed:
                    session.close()
                else:
                    self._idle.put(session)

    def _write(self, call: Callable[[Writer], T]) -> T:
        if self._writer is None:
            self._writer = Writer(self, self._held(), self.timeout_s)
        try:
            done = call(self._writer)
        except BaseException:
            self._let_go_of_writer()
            self.known.clear()  # it may be what was not done, after all
            raise
        if self._writer.is_spent:
            self._let_go_of_writer()
        with suppress(FileNotFoundError):
            log_bytes = self.path.with_name(f"{self.path.name}.wal").stat().st_size
            if log_bytes > WAL_BYTES_MAX or self.loose_rows > LOOSE_ROWS_MAX:
                self.fold()
        return done

    def _let_go(self) -> None:
        """Close all connections."""
        self._let_go_of_writer()
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    def _let_go_of_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def fold(self) -> None:
        """Fold the log, and what is in no log, into the database; by the thread that writes."""
        with (
            self.turns.alone(self.timeout_s),
            closing(Session(self._held(), FOLD_TIMEOUT_S)) as session,
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
        if self._database is None:
            return
        if self.waiting is not None and not self.broken:
            try:
                self._write(Writer.flush)
            except (RuntimeError, ValueError) as error:  # it was not durable yet
                _log.warning("ladybug.not_loaded", error=str(error))
        self._let_go()
        try:
            if not self.broken:
                self.fold()
        except (RuntimeError, TimeoutError) as error:
            _log.warning("ladybug.not_folded", error=str(error))  # what counts is in its log
        finally:
            self._database.close()
        try:
            ladybug_custody.leave(self.path)
        except OSError as error:  # a full disk: what is not noted is only not recognised
            _log.warning("seal.not_written", folder=str(self.path.parent), error=str(error))


def _opened(path: Path) -> ladybug.Database:
    path.parent.mkdir(parents=True, exist_ok=True)
    return ladybug.Database(
        path,
        buffer_pool_size=BUFFER_BYTES,
        max_num_threads=ENGINE_THREADS,
        max_db_size=SIZE_MAX_BYTES,
        auto_checkpoint=False,
    )
