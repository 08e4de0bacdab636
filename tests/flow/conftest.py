"""What the tests on real engines share: one empty database a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import make_url

from polyplane.embedded import Engines


@pytest.fixture(scope="session")
def postgres_url(engines: Engines) -> str:
    """The shared PostgreSQL; its role may create databases and is no superuser."""
    return engines.urls["postgres"]


@pytest.fixture
async def database_url(postgres_url: str) -> AsyncIterator[str]:
    """A database of the test's own, dropped afterwards."""
    name = f"test_{uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_url(postgres_url).set(database=name).render_as_string(False)
        drop = sql.SQL("DROP DATABASE {}").format(sql.Identifier(name))
        try:
            await connection.execute(drop + sql.SQL(" WITH (FORCE)"))
        except InsufficientPrivilege:
            # A vacuum worker, or a login's last connection on its way out: neither is ours to
            # end. Without FORCE the server sends the first away and waits for the other.
            await connection.execute(drop)
