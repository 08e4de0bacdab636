"""The connection to a Neo4j server: transactions with deadlines, and its faults made ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, cast
from urllib.parse import unquote, urlsplit

from neo4j import (
    READ_ACCESS,
    WRITE_ACCESS,
    AsyncGraphDatabase,
    AsyncManagedTransaction,
    AsyncSession,
    NotificationMinimumSeverity,
    Query,
    Record,
    unit_of_work,
)
from neo4j.exceptions import (
    AuthError,
    ClientError,
    ConfigurationError,
    DatabaseUnavailable,
    DriverError,
    Neo4jError,
    TransientError,
)

from polyplane.errors import Misconfigured, Refused, StoreDown

T = TypeVar("T")

_CONNECTIONS: Final = 32
_AGAIN_S: Final = 2.0
"""For so long a transaction is tried again: after a deadlock with others, or when a connection
from before a restart of the server turns out to be none.
"""
_IDLE_S: Final = 10.0
"""A connection that nobody used for so long is asked first whether it still is one."""
_FETCH: Final = 1_000


class Server:
    """One database of a server, in transactions of at most `timeout_s` seconds.

    The server ends a transaction that takes longer, and so do we, should it not answer.
    """

    def __init__(self, url: str, *, user: str, password: str, timeout_s: float) -> None:
        """Raises Misconfigured for a URL that cannot work. Connects on first use."""
        parts = urlsplit(url)
        self.timeout_s = timeout_s
        self._database = unquote(parts.path.strip("/")) or None
        given = unquote(parts.username or ""), unquote(parts.password or "")
        login = (user or given[0] or "neo4j", password or given[1])
        try:
            if parts.query or not parts.hostname:
                raise ValueError("it has a query, or no host")
            self._driver = AsyncGraphDatabase.driver(
                f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
                auth=login if login[1] else None,
                connection_timeout=timeout_s,
                connection_acquisition_timeout=timeout_s,
                initial_retry_delay=0.05,
                liveness_check_timeout=_IDLE_S,
                max_connection_pool_size=_CONNECTIONS,
                max_transaction_retry_time=_AGAIN_S,
                notifications_min_severity=NotificationMinimumSeverity.OFF,
                telemetry_disabled=True,
                user_agent="polyplane",
            )
        except (ConfigurationError, ValueError) as error:
            raise Misconfigured("The URL of Neo4j is not one.", fix=_URL) from error

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._driver.close()

    async def read(
        self, what: str, statement: str, parameters: Mapping[str, Any] | None = None
    ) -> list[Record]:
        """The rows of one reading statement; `what` it is for, as errors say it."""
        return await self.reading(what, rows, statement, parameters)

    async def reading(self, what: str, work: Callable[..., Awaitable[T]], *given: Any) -> T:
        """As `writing`, in a transaction that cannot write."""
        async with self._session(READ_ACCESS, what) as session:
            bounded = unit_of_work(timeout=self.timeout_s)(work)
            return cast(T, await session.execute_read(bounded, *given))

    async def writing(self, what: str, work: Callable[..., Awaitable[T]], *given: Any) -> T:
        """What `work(tx, *given)` gives, in one transaction, or in another when that fails."""
        async with self._session(WRITE_ACCESS, what) as session:
            bounded = unit_of_work(timeout=self.timeout_s)(work)
            return cast(T, await session.execute_write(bounded, *given))

    async def alone(
        self, what: str, statement: str, parameters: Mapping[str, Any] | None = None
    ) -> None:
        """One statement that begins and commits by itself, several times even."""
        async with self._session(WRITE_ACCESS, what) as session:
            query = Query(cast(Any, statement), timeout=self.timeout_s)
            await (await session.run(query, dict(parameters or {}))).consume()

    @asynccontextmanager
    async def free(self, what: str, timeout_s: float) -> AsyncIterator[AsyncSession]:
        """A session that cannot write, for one query of somebody else's; its faults are as they
        are, only that a server that does not answer is StoreDown.
        """
        async with self._session(READ_ACCESS, what, timeout_s=timeout_s) as session:
            yield session

    @asynccontextmanager
    async def _session(
        self, access: str, what: str, *, timeout_s: float | None = None
    ) -> AsyncIterator[AsyncSession]:
        bound_s = self.timeout_s if timeout_s is None else timeout_s
        try:
            async with (
                asyncio.timeout(bound_s),
                self._driver.session(
                    database=self._database, default_access_mode=access, fetch_size=_FETCH
                ) as session,
            ):
                yield session
        except (Neo4jError, DriverError, OSError, TimeoutError) as error:
            raise meaning(error, what, bound_s) from error


async def rows(
    tx: AsyncManagedTransaction, statement: str, parameters: Mapping[str, Any] | None = None
) -> list[Record]:
    """Everything that a statement gives."""
    result = await tx.run(cast(Any, statement), dict(parameters or {}))
    return [record async for record in result]


async def done(
    tx: AsyncManagedTransaction, statement: str, parameters: Mapping[str, Any] | None = None
) -> None:
    """Run a statement that gives nothing."""
    await (await tx.run(cast(Any, statement), dict(parameters or {}))).consume()


_URL: Final = "Write bolt://user:password@host:7687/database, or neo4j://, with +s for TLS."


def meaning(error: Exception, what: str, timeout_s: float) -> Exception:
    """What a fault of the driver or of the server means here."""
    if isinstance(error, TimeoutError):
        return StoreDown(f"Neo4j did not {what} within {timeout_s:g} s.")
    if isinstance(error, AuthError) or _is(error, "Neo.ClientError.Security."):
        return Misconfigured("Neo4j refuses us.", fix="Check the user and the password.")
    if isinstance(error, ConfigurationError):
        return Misconfigured(f"Neo4j could not {what}: {error}", fix=_URL)
    if _is(error, "Neo.ClientError.Database.DatabaseNotFound"):
        return Misconfigured(f"Neo4j has no such database: {error}", fix=_URL)
    if _is(error, "Neo.ClientError.Transaction."):
        return StoreDown(f"Neo4j could not {what} within {timeout_s:g} s.")
    # What a reader was about to look at may be deleted meanwhile, which the next try does not meet.
    is_passing = isinstance(error, (TransientError, DatabaseUnavailable)) or _is(
        error, "Neo.ClientError.Statement.EntityNotFound"
    )
    if isinstance(error, ClientError) and not is_passing:
        return Refused(f"Neo4j could not {what}: {error.message}")
    return StoreDown(
        f"Neo4j could not {what} ({type(error).__name__}).",
        fix="Check that the server runs at its URL.",
    )


def is_taken(error: Refused) -> bool:
    """Whether a constraint has refused it: there is something under a key already."""
    cause = error.__cause__
    code = "Neo.ClientError.Schema.ConstraintValidationFailed"
    return isinstance(cause, Exception) and _is(cause, code)


def _is(error: Exception, code: str) -> bool:
    return isinstance(error, Neo4jError) and (error.code or "").startswith(code)
