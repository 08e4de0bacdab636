"""Adding the plane to a database that is in use, and taking it back: truth's side of it.

Triggers need a lock that waits for running transactions, and whoever comes later waits behind it.
So each table is locked for itself, with a short patience and several tries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import psycopg
import sqlalchemy as sa
from psycopg import sql

from polyplane.errors import Conflict, Misconfigured, Unavailable
from polyplane.ops.migrate import (
    CORE,
    check_removable,
    migrate_down,
    migrate_up,
    migration_status,
)
from polyplane.truth.capture import Captured, install
from polyplane.truth.database import Connection, Database
from polyplane.truth.journal import Journal
from polyplane.truth.statements import statement

LOCK_S: Final = 2
"""How long a table's other users may have to wait behind us."""
TRIES: Final = 15
PAUSE_S: Final = 1.0

Tell = Callable[[str], None]

__all__ = ["add", "check_removable", "collections", "is_there", "remove"]


async def add(database: Database, url: str, tables: Sequence[sa.Table], tell: Tell) -> None:
    """Install the plane's schema, and capture on `tables`. Idempotent.

    Raises Unavailable when a table stays locked by others; what was installed until then stays.
    """
    await migrate_up(url, [CORE])
    async with database.connection() as connection:
        for table in tables:
            captured = Captured(table)

            async def arm(captured: Captured = captured) -> None:
                for name in await install(connection, [captured]):
                    tell(f"capture: {name}")

            await _patiently(connection, captured.name, arm)


async def is_there(url: str) -> bool:
    """Whether the plane's schema is installed in the database."""
    (core,) = await migration_status(url, [CORE])
    return core.current is not None


async def collections(database: Database) -> list[str]:
    """The collections that were filled from this database, by their names in the stores.

    Raises Conflict while a plane runs on the database.
    """
    if (row := await database.row(statement("adopt", "is_running"))) and row[0]:
        raise Conflict("A plane runs on this database.", fix="Stop it first, then try again.")
    return sorted(row.name for row in await Journal(database).collections.rows())


async def remove(database: Database, url: str, tell: Tell) -> list[str]:
    """Take triggers, functions and the schema `polyplane` away; the tables that were captured.

    Ask `check_removable` first. Raises Conflict when something stands on the schema, Unavailable
    when a table stays locked by others; what was removed until then stays removed.
    """
    found = await database.rows(statement("adopt", "captured"))
    async with database.connection() as connection:
        for schema, name, triggers in found:
            relation = sql.Identifier(schema, name)

            async def disarm(
                relation: sql.Identifier = relation, triggers: Sequence[str] = triggers
            ) -> None:
                async with connection.transaction():
                    for trigger in map(sql.Identifier, triggers):
                        await connection.execute(
                            sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(trigger, relation)
                        )

            await _patiently(connection, f"{schema}.{name}", disarm)
            tell(f"capture taken off: {schema}.{name}")
    await migrate_down(url, CORE, "base")
    return [f"{schema}.{name}" for schema, name, _ in found]


async def _patiently(
    connection: Connection, name: str, work: Callable[[], Awaitable[None]]
) -> None:
    """Do `work`, which locks the table `name`, in one of several short moments."""
    await connection.execute(f"SET lock_timeout = '{LOCK_S}s'")
    try:
        for _ in range(TRIES):
            try:
                await work()
                return
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                await asyncio.sleep(PAUSE_S)
            except psycopg.errors.InsufficientPrivilege as error:
                raise Misconfigured(f"{name}: {error.diag.message_primary}.") from error
        raise Unavailable(
            f"{name} is held by other transactions: no lock in {TRIES} tries of {LOCK_S} s.",
            fix="Look for a long transaction in pg_stat_activity, then try again.",
        )
    finally:
        await connection.execute("RESET lock_timeout")
