"""The rows of data keys, and what is done to them: each call one statement, or one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString, NamedTuple

from psycopg import sql

from polyplane.model.digest import canonical
from polyplane.model.secret_rows import Scope, SecretRows
from polyplane.model.wrapping import Wrapped
from polyplane.truth.capture import Captured, text_of
from polyplane.truth.database import Connection, Database
from polyplane.truth.statements import statement
from polyplane.truth.touching import Touching

SECRETS: Final = "secrets"
DIGESTS: Final = "digests"
_DESTROY_S: Final = 900.0
"""How long the search for what a data key has encrypted may take, per statement."""

Execute = Callable[[LiteralString, Mapping[str, Any]], Awaitable[Sequence[Sequence[Any]]]]


class KeyRow(NamedTuple):
    """A data key as truth holds it. `wrapped` is None when it is destroyed."""

    id: str
    purpose: str
    scope: Scope
    wrapped: Wrapped | None

    def about(self) -> bytes:
        """What its wrapping is bound to: the key of one row is no good in another."""
        return canonical(["polyplane data key", self.id, self.purpose, *self.scope])

    @classmethod
    def of(cls, row: Sequence[Any]) -> KeyRow:
        """A row as the statements give it."""
        id_, purpose, tenant, person, kek, wrapped = row
        found = None if wrapped is None else Wrapped(kek, bytes(wrapped))
        return cls(id_, purpose, Scope(tenant, person), found)


class Count(NamedTuple):
    """How many data keys a key-encryption key wraps; without `kek`: how many are destroyed."""

    kek: str | None
    keys: int
    tenants: int
    persons: int
    since: Any


@dataclass(frozen=True, slots=True)
class Touched:
    """Rows that are to be projected again when data keys go.

    `rows` are those that hold the ciphertexts; of `parent` the projection is. Without `holder` they
    are the same.
    """

    rows: SecretRows
    holder: Touching | None = None

    @property
    def parent(self) -> str:
        """The table whose rows are projected."""
        return Captured(self.rows.table).name if self.holder is None else self.holder.parent.name


async def rows_in(execute: Execute, block: str, **given: Any) -> list[KeyRow]:
    """The data keys that a statement of data_keys.sql gives."""
    return [KeyRow.of(row) for row in await execute(statement("data_keys", block), given)]


async def add(execute: Execute, purpose: str, keys: Sequence[KeyRow]) -> None:
    """Add data keys; those whose scope has one by now are left out."""
    await execute(
        statement("data_keys", "add"),
        {
            "purpose": purpose,
            "ids": [key.id for key in keys],
            "tenants": [key.scope.tenant for key in keys],
            "persons": [key.scope.person for key in keys],
            "keks": [key.wrapped and key.wrapped.kek for key in keys],
            "wrapped": [key.wrapped and key.wrapped.body for key in keys],
        },
    )


async def is_any(database: Database) -> bool:
    """Whether any data key is alive."""
    return await database.row(statement("data_keys", "is_any")) == (True,)


async def counts(database: Database) -> list[Count]:
    """How many data keys there are, by what wraps them."""
    return [Count(*row) for row in await database.rows(statement("data_keys", "counts"))]


async def count_left(database: Database, primary: str) -> int:
    """How many are wrapped with another key than the primary one."""
    found = await database.row(statement("data_keys", "left"), {"primary": primary})
    return int(found[0]) if found else 0


async def rewrap(database: Database, pairs: Sequence[tuple[KeyRow, Wrapped]]) -> None:
    """Put new wrappings in the place of old ones, where those are as they were."""
    await database.rows(
        statement("data_keys", "rewrap"),
        {
            "ids": [key.id for key, _ in pairs],
            "old": [key.wrapped and key.wrapped.body for key, _ in pairs],
            "keks": [new.kek for _, new in pairs],
            "new": [new.body for _, new in pairs],
        },
    )


async def destroy(
    database: Database,
    chosen: Mapping[str, str | None],
    touched: Sequence[Touched],
    note: Callable[[list[str]], Awaitable[None]],
) -> tuple[list[str], dict[str, int]]:
    """Destroy the data keys `chosen` (`tenant`, `person`) and have what depends on them projected
    again, all in one transaction; the ids, and how many rows of each table.

    `note` hears the ids before it is committed. Those destroyed before are projected again, too.
    """
    async with database.connection(deadline_s=_DESTROY_S) as connection, connection.transaction():
        cursor = await connection.execute(statement("data_keys", "chosen"), chosen)
        ids = [id_ for id_, _ in await cursor.fetchall()]
        await connection.execute(statement("data_keys", "destroy"), {"ids": ids})
        rows: dict[str, int] = {}
        for it in touched if ids else ():
            found = await connection.execute(_touch(it), {"ids": ids, "table": it.parent})
            keys = sum([row[0] for row in await found.fetchall()])
            rows[it.parent] = rows.get(it.parent, 0) + keys
        await note(ids)
    return ids, rows


async def destroy_again(database: Database, ids: Sequence[str]) -> list[str]:
    """Destroy data keys of these ids that are alive, as after a restore; which were."""
    found = await database.rows(statement("data_keys", "destroy"), {"ids": list(ids)})
    return [id_ for (id_,) in found]


async def encrypted_with(
    database: Database, chosen: Mapping[str, str | None], tables: Sequence[SecretRows]
) -> tuple[int, dict[str, int]]:
    """How many data keys are alive of those `chosen`, and how many rows of each table hold a
    ciphertext of one.
    """
    async with database.connection(deadline_s=_DESTROY_S) as connection, connection.transaction():
        cursor = await connection.execute(statement("data_keys", "chosen"), chosen)
        alive = [id_ for id_, is_alive in await cursor.fetchall() if is_alive]
        rows = {it.name: await _count(connection, it, alive) for it in tables}
    return len(alive), rows


async def _count(connection: Connection, rows: SecretRows, ids: Sequence[str]) -> int:
    query = sql.SQL("SELECT count(*) FROM {} r WHERE {}").format(
        Captured(rows.table).identifier, _holds(rows)
    )
    found = await (await connection.execute(query, {"ids": list(ids)})).fetchone()
    return int(found[0]) if found else 0


def _holds(rows: SecretRows) -> sql.Composed:
    """A condition on alias r: one of its ciphertexts is of one of the keys of parameter `ids`."""
    one = sql.SQL("pg_catalog.split_part({}, '|', 2) = ANY (%(ids)s::text[])")
    return sql.SQL(" OR ").join(
        one.format(sql.Identifier("r", column)) for _, column in rows.secrets
    )


def _touch(it: Touched) -> sql.Composed:
    """Note a change of the rows, as `outbox.touch` does; how many keys."""
    captured = Captured(it.rows.table)
    key = captured.key() if it.holder is None else text_of(it.holder.holder)
    return sql.SQL(
        "SELECT count(*), polyplane.touch(%(table)s, array_agg(key), array_agg('R'::text))"
        " FROM (SELECT DISTINCT {key} AS key FROM {table} r WHERE {holds}) k"
        " WHERE key IS NOT NULL HAVING count(*) > 0"
    ).format(key=key, table=captured.identifier, holds=_holds(it.rows))
