"""The connection to PostgreSQL: one pool, deadlines on every call, errors in our words."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any, LiteralString, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping, TransactionStatus
from psycopg.rows import TupleRow, tuple_row
from psycopg.waiting import Ready, Wait
from sqlalchemy.exc import DBAPIError, TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from polyplane.errors import Misconfigured, TruthDown
from polyplane.model.caller import Caller
from polyplane.security.logins import SESSION, session_sql
from polyplane.truth.lending import Lender
from polyplane.truth.statements import statement

RV = TypeVar("RV")
Connection = psycopg.AsyncConnection[TupleRow]

# So that a key has one text, here and in the triggers.
_OPTIONS = " ".join(
    "-c {}={}".format(name, value.replace(" ", "\\ ")) for name, value in SESSION.items()
)
_AWAKE_POLL_S = 0.1
_KEPT = 12
"""Connections that stay open when nobody needs them: a new one costs as much as a lot of work."""
_TURN_S = 0.005
"""For how long one answer may keep the event loop from others."""
_POOLER = "In pgbouncer.ini: ignore_startup_parameters = options"
_FIX = "Check that PostgreSQL runs and that DATABASE_URL names it; then try again."
_DAMAGED = (psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted)
_MEND = (
    "An index can be made anew (REINDEX); a table comes from a backup: polyplane backup restore."
)


def alchemy_url(url: str) -> sa.URL:
    """`url` for SQLAlchemy with psycopg 3; Misconfigured when it is not a PostgreSQL URL."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise Misconfigured("DATABASE_URL is not a URL.") from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise Misconfigured(f"{parsed.get_backend_name()!r} is not PostgreSQL.")
    return parsed.set(drivername="postgresql+psycopg")


@contextmanager
def in_our_words() -> Iterator[None]:
    """Connection faults, and damage that PostgreSQL finds, become `TruthDown`; the rest passes."""
    try:
        yield
    except (psycopg.OperationalError, PoolTimeout) as error:
        raise _in_our_words(error) from error
    except _DAMAGED as error:
        raise _in_our_words(error) from error
    except DBAPIError as error:
        if isinstance(error.orig, (psycopg.OperationalError, *_DAMAGED)):
            raise _in_our_words(error.orig) from error
        raise


def _in_our_words(error: BaseException) -> Misconfigured | TruthDown:
    if "unsupported startup parameter" in str(error):
        return Misconfigured(f"The pooler refuses it ({_short(error)}).", fix=_POOLER)
    if isinstance(error, _DAMAGED):
        return TruthDown(f"PostgreSQL is damaged ({_short(error)}).", fix=_MEND)
    return TruthDown(f"PostgreSQL does not answer ({_short(error)}).", fix=_FIX)


def _short(error: BaseException) -> str:
    """The first line only: psycopg's further lines repeat the connection string's parts."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _at_once(gen: PQGen[RV], socket: int) -> PQGen[RV]:
    """`gen`, given what has come already: a long answer is read in pieces of some kilobytes, and a
    turn of the event loop for each takes as long as to make rows of it.
    """
    came = select.poll()
    came.register(socket, select.POLLIN)
    try:
        wanted = next(gen)
        turn_over = monotonic() + _TURN_S
        while True:
            if wanted == Wait.R and monotonic() < turn_over and came.poll(0):
                wanted = gen.send(Ready.R)
                continue
            ready = yield wanted
            turn_over = monotonic() + _TURN_S
            wanted = gen.send(ready)
    except StopIteration as ended:
        answer: RV = ended.value
        return answer


class _Answering(psycopg.AsyncConnection[Any]):
    """A connection that is given up when the server does not answer for `deadline_s`.

    A server that stands still takes bytes as ever; without this its clients would, too.
    """

    deadline_s: float = 60

    async def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg waits, but not for ever."""
        try:
            return await super().wait(
                _at_once(gen, self.pgconn.socket),
                interval,
                self.deadline_s if timeout is None else timeout,
            )
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # nobody may use it before that answer, if it ever comes
            raise


async def _is_pooled(connection: _Answering) -> bool:
    """Whether a pooler stands between us and PostgreSQL: another process answers than greeted us.

    Raises Misconfigured when sessions are not as the plane needs them, as behind a pooler that
    takes no options.
    """
    cursor = await connection.execute(statement("guard", "session"), prepare=False)
    row = await cursor.fetchone()
    await connection.rollback()
    assert row is not None
    strange = [name for name, have in zip(SESSION, row[1:], strict=True) if have != SESSION[name]]
    if strange:
        role = connection.info.user
        raise Misconfigured(
            f"Sessions of {role} have another {strange[0]}; the pooler passes no options on.",
            fix="; ".join(session_sql(role)) + ". Then have the pooler connect anew.",
        )
    return bool(row[0] != connection.info.backend_pid)


class Database:
    """A pool of connections to the truth. Opening is lazy; `close` when done."""

    def __init__(
        self,
        url: str,
        *,
        max_connections: int = 20,
        pool_timeout_s: float = 30,
        call_timeout_s: float = 5,
        statement_timeout_s: float = 60,
    ) -> None:
        self.url = alchemy_url(url)
        self.call_timeout_s = call_timeout_s
        self.statement_timeout_s = statement_timeout_s
        self.engine: AsyncEngine = create_async_engine(
            self.url,
            pool_size=min(_KEPT, max_connections),
            max_overflow=max(0, max_connections - _KEPT),
            pool_timeout=pool_timeout_s,
            pool_pre_ping=False,
            pool_recycle=1800,
            connect_args={
                "connect_timeout": max(2, int(call_timeout_s)),
                "application_name": "polyplane",
                "options": _OPTIONS,
                "async_creator_fn": self._connect,
            },
        )
        self.snapshots = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        """The same pool for who only reads, on one snapshot: BEGIN says so, in no further trip."""
        autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self.lender = Lender(autocommit, max_connections)
        self.session_of: Callable[[Caller], Mapping[str, Any]] = lambda _: {}
        """How a session for somebody is to be made; another where rows have secrets."""
        self._is_pooled: bool | None = None

    async def _connect(self, *args: Any, **kwargs: Any) -> _Answering:
        connection = await _Answering.connect(*args, **kwargs)
        connection.deadline_s = self.statement_timeout_s
        if self._is_pooled is None:
            try:
                self._is_pooled = await _is_pooled(connection)
            except BaseException:
                await connection.close()
                raise
        if self._is_pooled:  # what is prepared stays with a server connection, which others get
            connection.prepare_threshold = None
        return connection

    @asynccontextmanager
    async def connection(self, *, deadline_s: float | None = None) -> AsyncIterator[Connection]:
        """A psycopg connection in autocommit, back to the pool afterwards.

        Each answer must come within `deadline_s`. Raises TruthDown when none is to be had, or
        when it breaks inside the block.
        """
        with in_our_words():
            lent = await self.lender.lend()
            driver = lent.driver
            assert isinstance(driver, _Answering)
            driver.row_factory = tuple_row
            driver.deadline_s = deadline_s or self.statement_timeout_s
            try:
                yield driver
            finally:
                driver.deadline_s = self.statement_timeout_s
                # A cancelled or broken call must not hand its connection to the next caller.
                await self.lender.take(lent)

    async def rows(
        self, statement: LiteralString, parameters: Any = None, *, timeout_s: float | None = None
    ) -> list[TupleRow]:
        """Run one statement in autocommit; all its rows. TruthDown after the deadline."""
        deadline_s = timeout_s or self.call_timeout_s
        try:
            # It includes the wait for a connection, and must not cut off the answer's own.
            async with asyncio.timeout(deadline_s * 1.2):
                async with self.connection(deadline_s=deadline_s) as connection:
                    cursor = await connection.execute(statement, parameters)
                    return await cursor.fetchall() if cursor.description else []
        except TimeoutError as error:
            raise TruthDown(f"PostgreSQL is busy for {deadline_s:g} s.", fix=_FIX) from error

    async def row(self, statement: LiteralString, parameters: Any = None) -> TupleRow | None:
        """The first row of one statement, or None."""
        found = await self.rows(statement, parameters)
        return found[0] if found else None

    async def awake(self, timeout_s: float) -> None:
        """Return when PostgreSQL does not turn everyone away any more, as when it recovers.

        One that does not answer at all is for the first statement to tell. TruthDown after
        `timeout_s`.
        """
        where = self.url.translate_connect_args(username="user", database="dbname")
        where |= {name: self.url.query[name] for name in ("host", "port") if name in self.url.query}
        info = make_conninfo(**where, connect_timeout=max(2, int(self.call_timeout_s))).encode()
        deadline = asyncio.get_running_loop().time() + timeout_s
        while await asyncio.to_thread(PGconn.ping, info) == Ping.REJECT:
            if asyncio.get_running_loop().time() > deadline:
                raise TruthDown(f"PostgreSQL has taken nobody for {timeout_s:g} s.", fix=_FIX)
            await asyncio.sleep(_AWAKE_POLL_S)

    async def ping(self) -> None:
        """Return when PostgreSQL answers; TruthDown when it does not."""
        await self.rows("SELECT 1")

    async def close(self) -> None:
        """Close every connection."""
        with in_our_words():
            await self.lender.close()
        await self.engine.dispose()
