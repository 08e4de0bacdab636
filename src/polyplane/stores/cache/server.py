"""The connection to a Valkey or Redis server: deadlines, and its faults made ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError as ConnectionLost,
    NoPermissionError,
    RedisError,
)

from polyplane.errors import Misconfigured, StoreDown

_CONNECTIONS: Final = 32


class Server:
    """A pool of connections; every key that goes through it begins with `prefix`, or with `root`
    and a tenant. A prefix is `<namespace>:<tenant of what has none>:`.
    """

    def __init__(self, url: str, prefix: str, timeout_s: float) -> None:
        """Raises Misconfigured for a URL or prefix that cannot work. Connects on first use."""
        if not prefix:
            raise Misconfigured("The cache needs a prefix for its keys.")
        try:
            pool = BlockingConnectionPool.from_url(
                url.replace("valkey://", "redis://", 1),
                max_connections=_CONNECTIONS,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                # Once, for a connection that died while it was idle; the caller decides the rest.
                retry=Retry(NoBackoff(), 1, (ConnectionLost,)),
            )
            # Without a deadline of its own for each read and write: their caller has one.
            self._apart = ConnectionPool.from_url(
                url.replace("valkey://", "redis://", 1),
                socket_timeout=None,
                socket_connect_timeout=timeout_s,
            )
        except ValueError as error:
            raise Misconfigured("The URL of the cache is not one.") from error
        self.prefix = prefix
        namespace, _, _ = prefix.removesuffix(":").rpartition(":")
        self.root = f"{namespace}:" if namespace and prefix.endswith(":") else f"{prefix}:"
        """What keys begin with before their tenant, where tenants have keys of their own."""
        self._client = Redis.from_pool(pool)
        self._url, self._timeout_s = url.replace("valkey://", "redis://", 1), timeout_s

    @asynccontextmanager
    async def calls(self) -> AsyncIterator[Redis]:
        """The client, for calls that together take at most `timeout_s` seconds.

        Raises StoreDown when the server does not answer or cannot do it, Misconfigured when it
        refuses us.
        """
        with in_our_words():
            async with asyncio.timeout(self._timeout_s):
                yield self._client

    def connection(self) -> Connection:
        """A connection of nobody else's, not connected yet; its user bounds its calls in time."""
        connection: Connection = self._apart.make_connection()  # type: ignore[no-untyped-call]
        return connection

    @property
    def timeout_s(self) -> float:
        """The deadline of a call."""
        return self._timeout_s

    def listening(self) -> Redis:
        """A client with a connection of its own, which never mends itself: whoever listens on it
        must know that it was lost. To be closed by the caller.
        """
        return Redis.from_url(
            self._url,
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
            retry=Retry(NoBackoff(), 0, (ConnectionLost,)),
            single_connection_client=False,
        )

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._client.aclose()


@contextmanager
def in_our_words() -> Iterator[None]:
    """Raise faults of the server as StoreDown, or Misconfigured."""
    try:
        yield
    except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
        raise Misconfigured("The cache refuses us.", fix="Check the URL's password.") from error
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreDown(f"The cache does not answer ({type(error).__name__}).") from error
