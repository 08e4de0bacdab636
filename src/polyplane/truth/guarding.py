"""Row security and rights in PostgreSQL: given where they are meant to be, and looked at."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from psycopg import sql

from polyplane.errors import Misconfigured
from polyplane.security import grants, policies
from polyplane.security.catalog import (
    Found,
    PolicyFound,
    RelationFound,
    ViewFound,
    faults,
    needs,
    not_held,
)
from polyplane.security.logins import Logins
from polyplane.security.policies import Guarded
from polyplane.truth.database import Connection, Database
from polyplane.truth.statements import statement

_log = structlog.get_logger(__name__)
_NOTE = (
    "SELECT md5(concat_ws('|', p.polpermissive, p.polcmd, (SELECT array_agg("
    "CASE u.role WHEN 0 THEN 'public' ELSE pg_get_userbyid(u.role)::text END ORDER BY u.role)"
    " FROM unnest(p.polroles) AS u (role))::text, pg_get_expr(p.polqual, p.polrelid),"
    " pg_get_expr(p.polwithcheck, p.polrelid)))"
    " FROM pg_policy p WHERE p.polrelid = to_regclass(%s) AND p.polname = %s"
)


async def who(database: Database) -> str:
    """The role that `database` is connected as."""
    row = await database.row(statement("guard", "who"))
    assert row is not None
    return str(row[0])


async def install_policies(
    connection: Connection, tables: Sequence[Guarded], logins: Logins, *, anyway: bool = False
) -> list[str]:
    """Give `tables` and their partitions the policies that they lack; the names that changed.

    Each in one transaction; what is as it should be is not locked. What somebody has changed since
    is left so, for `check` to find, unless `anyway`.
    """
    readers = [it for it in (logins.projector, logins.backup) if it is not None]
    known = {it.identifier: it for it in tables}
    changed = []
    for found in await _relations(connection, tables):
        wanted = policies.policies(known[found.table], found.owner, readers)
        definition = policies.definition_of(wanted)
        if not needs(found, definition, len(wanted), anyway=anyway):
            continue
        async with connection.transaction():
            for line in policies.statements(found.relation, wanted):
                await _run(connection, line)
            for policy in wanted:
                cursor = await connection.execute(_NOTE, [found.relation, policy.name])
                row = await cursor.fetchone()
                assert row is not None
                await connection.execute(
                    sql.SQL("COMMENT ON POLICY {} ON {} IS {}").format(
                        sql.Identifier(policy.name),
                        sql.SQL(found.relation),
                        sql.Literal(f"polyplane {definition} {row[0]}"),
                    )
                )
        changed.append(found.relation)
    return changed


async def grant(connection: Connection, logins: Logins, schemas: Sequence[str]) -> bool:
    """Give every login its rights, where they have changed or there are new tables; whether so."""
    cursor = await connection.execute(statement("guard", "contents"), {"schemas": list(schemas)})
    contents = [(row[0], row[1]) for row in await cursor.fetchall()]
    cursor = await connection.execute(statement("guard", "own"))
    own = {row[0] for row in await cursor.fetchall()}
    lines = grants.statements(logins, schemas, contents, own)
    if not lines:
        return False
    note = f"rights {grants.definition_of(lines)}"
    cursor = await connection.execute(statement("guard", "granted"))
    if (row := await cursor.fetchone()) and row[0] == note:
        return False
    async with connection.transaction():
        for line in lines:
            await _run(connection, line)
        await connection.execute(
            sql.SQL("COMMENT ON SCHEMA polyplane IS {}").format(sql.Literal(note))
        )
    return True


async def check(database: Database, tables: Sequence[Guarded], logins: Logins) -> list[str]:
    """Raise Misconfigured when rows of `tables` could be got at by whom they are not for.

    Names the first such thing, how many more there are, and the fix. Returns what a login of its
    own would hold the application from, where it has none.
    """
    if not tables:
        return []
    found = await look(database, tables, logins.app)
    if wrong := faults(found, logins):
        more = f" And {len(wrong) - 1} more like that." if len(wrong) > 1 else ""
        raise Misconfigured(wrong[0].what + more, fix=wrong[0].fix)
    return [] if logins.are_separate else not_held(found, logins)


async def look(database: Database, tables: Sequence[Guarded], app: str) -> Found:
    """What the catalog says of `tables` and of the login `app`."""
    named = {"names": [it.identifier for it in tables], "app": app}
    async with database.connection() as connection:
        relations = await _relations(connection, tables)
        cursor = await connection.execute(statement("guard", "views"), named)
        views = [ViewFound(*row) for row in await cursor.fetchall()]
        cursor = await connection.execute(statement("guard", "definers"))
        definers = [row[0] for row in await cursor.fetchall()]
        cursor = await connection.execute(statement("guard", "login"), named)
        row = await cursor.fetchone()
    assert row is not None
    return Found(relations, views, definers, row[0], row[1], row[2])


async def _relations(connection: Connection, tables: Sequence[Guarded]) -> list[RelationFound]:
    cursor = await connection.execute(
        statement("guard", "relations"), {"names": [it.identifier for it in tables]}
    )
    return [
        RelationFound(row[0], row[1], row[2], row[3], row[4], [PolicyFound(*it) for it in row[5]])
        for row in await cursor.fetchall()
    ]


async def _run(connection: Connection, line: str) -> None:
    """A statement that a pure function has made, every name in it quoted."""
    await connection.execute(line.encode())
