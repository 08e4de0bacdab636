"""Maintenance of PostgreSQL: space of dead rows given back, statistics of the planner renewed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from psycopg import sql

from polyplane.truth.database import Database
from polyplane.truth.statements import statement

VACUUM_TIMEOUT_S: Final = 3600.0
"""For one table."""


async def vacuum(owner: Database, schemas: Sequence[str], *, statistics_only: bool) -> int:
    """`VACUUM (ANALYZE)`, or only `ANALYZE`, of each table in `schemas` that is the owner's, one
    after the other; how many. Readers and writers are not held up. Raises TruthDown.
    """
    verb = sql.SQL("ANALYZE {}" if statistics_only else "VACUUM (ANALYZE) {}")
    async with owner.connection(deadline_s=VACUUM_TIMEOUT_S) as connection:
        found = await connection.execute(statement("upkeep", "tables"), {"schemas": list(schemas)})
        tables = [name for (name,) in await found.fetchall()]
        for name in tables:
            await connection.execute(verb.format(sql.SQL(name)))
    return len(tables)
