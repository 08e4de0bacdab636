"""Capture: the triggers that write one outbox row per statement on a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects import postgresql

from polyplane.errors import Misconfigured
from polyplane.model.table import table_name
from polyplane.truth.database import Connection
from polyplane.truth.statements import script, statement

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_ACTIONS = ("insert", "update", "delete", "truncate")
_UNSTABLE = (sa.DateTime, sa.Date, sa.Time, sa.Interval, sa.Float, sa.LargeBinary)
_UNSTABLE_SETTINGS = (
    " SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres'"
    " SET extra_float_digits = 1 SET bytea_output = 'hex'"
)
_DURABLE = sql.SQL(
    "pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.<>) 'off'"
    " OR pg_catalog.set_config('synchronous_commit', 'on', true) IS NOT NULL"
)


@dataclass(frozen=True, slots=True)
class Captured:
    """A captured table: how its rows are named in changes and found again by key."""

    table: sa.Table

    def __post_init__(self) -> None:
        if not self.key_columns:
            raise Misconfigured(
                f"The table {self.name} has no primary key.", fix="Add one to have it captured."
            )

    @property
    def name(self) -> str:
        """`schema.table`."""
        return table_name(self.table)

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted `schema.table`."""
        return sql.Identifier(self.table.schema or "public", self.table.name)

    @property
    def key_columns(self) -> list[sa.Column[object]]:
        """The columns of the primary key, in its order."""
        return list(self.table.primary_key.columns)

    def key_types(self) -> list[str]:
        """The PostgreSQL types of the key columns, without length limits."""
        return [
            "bpchar"  # a plain char has one character
            if isinstance(column.type, sa.CHAR)
            else re.sub(r"\(.*?\)", "", column.type.compile(dialect=_DIALECT))
            for column in self.key_columns
        ]

    def settings(self) -> str:
        """What a trigger must set so that a key has one text, whatever the writer's session has."""
        is_stable = not any(isinstance(column.type, _UNSTABLE) for column in self.key_columns)
        return "" if is_stable else _UNSTABLE_SETTINGS

    def key(self, alias: str = "r") -> sql.Composed:
        """The canonical text of a row's key: its text, or a JSON array for a composite key."""
        columns = [sql.Identifier(alias, column.name) for column in self.key_columns]
        if len(columns) == 1:
            return sql.Composed([columns[0], sql.SQL("::pg_catalog.text")])
        return sql.SQL("pg_catalog.jsonb_build_array({})::pg_catalog.text").format(
            sql.SQL(", ").join(columns)
        )

    def in_key_order(self) -> sql.Composed:
        """How to order rows of alias r by the code points of their keys.

        A UUID sorts as its text does, so that its index will do; others have to be sorted.
        """
        if self.key_types() == ["UUID"]:
            return sql.SQL("ORDER BY {}").format(sql.Identifier("r", self.key_columns[0].name))
        return sql.SQL('ORDER BY ({}) COLLATE "C"').format(self.key())

    def by_keys(self) -> sql.Composed:
        """A condition on alias r: its key is among the texts of the parameter `keys`."""
        types = [sql.SQL(name) for name in self.key_types()]
        if len(types) == 1:
            return sql.SQL("{} = ANY(%(keys)s::text[]::{}[])").format(
                sql.Identifier("r", self.key_columns[0].name), types[0]
            )
        columns = sql.SQL(", ").join(sql.Identifier("r", c.name) for c in self.key_columns)
        parts = sql.SQL(", ").join(
            sql.SQL("(k.v ->> {})::{}").format(sql.Literal(i), t) for i, t in enumerate(types)
        )
        return sql.SQL("({}) IN (SELECT {} FROM unnest(%(keys)s::text[]::jsonb[]) AS k(v))").format(
            columns, parts
        )


def _functions(captured: Captured) -> dict[str, sql.Identifier]:
    """The names of the trigger functions; hashed, for a table's name may be 63 bytes long."""
    suffix = blake2b(captured.name.encode(), digest_size=8).hexdigest()
    return {a: sql.Identifier("polyplane", f"capture_{suffix}_{a}") for a in _ACTIONS}


def _render(captured: Captured) -> sql.Composed:
    return sql.SQL(script("capture")).format(
        table=captured.identifier,
        name=sql.Literal(captured.name),
        key=captured.key(),
        durable=_DURABLE,
        settings=sql.SQL(captured.settings()),
        **_functions(captured),
    )


async def install(connection: Connection, tables: Sequence[Captured]) -> list[str]:
    """Install or renew capture on `tables`, each in one transaction; the names that changed.

    Partitions get the triggers too, for rows written past their parent. Idempotent: a table whose
    capture is up to date is not locked.
    """
    changed = []
    for captured in tables:
        text = _render(captured).as_string(connection)
        definition = blake2b(text.encode(), digest_size=16).hexdigest()
        mark = _functions(captured)["insert"].as_string(connection)
        cursor = await connection.execute(statement("journal", "capture_definition"), [mark])
        found = await cursor.fetchone()
        relations = await _relations(connection, captured)
        if found and found[0] == definition and all(relations.values()):
            continue
        async with connection.transaction():
            await connection.execute(sql.SQL(text))
            for relation, has_capture in relations.items():
                await _arm(connection, captured, relation, has_capture)
            await connection.execute(
                sql.SQL("COMMENT ON FUNCTION {}() IS {}").format(
                    _functions(captured)["insert"], sql.Literal(definition)
                )
            )
        changed.append(captured.name)
    return changed


async def _relations(connection: Connection, captured: Captured) -> Mapping[str, bool]:
    """The table and its partitions, quoted -> whether each has its triggers."""
    name = captured.identifier.as_string(connection)
    cursor = await connection.execute(statement("journal", "capture_relations"), {"name": name})
    return {row[0]: row[1] for row in await cursor.fetchall()}


async def _arm(
    connection: Connection, captured: Captured, relation: str, has_capture: bool
) -> None:
    """Give a partition its triggers, and let all fire in replication role too."""
    target = sql.SQL(relation)
    own = captured.identifier.as_string(connection)
    functions = _functions(captured)
    if relation != own and not has_capture:
        for block in _ACTIONS:
            template = sql.SQL(statement("journal", f"partition_{block}"))
            await connection.execute(template.format(table=target, function=functions[block]))
    for action in _ACTIONS:
        await connection.execute(
            sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(
                target, sql.Identifier(f"polyplane_{action}")
            )
        )


async def remove(connection: Connection, captured: Captured) -> None:
    """Take capture off the table and its partitions, in one transaction. Idempotent."""
    relations = await _relations(connection, captured)
    async with connection.transaction():
        for relation in relations:
            for action in _ACTIONS:
                await connection.execute(
                    sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(
                        sql.Identifier(f"polyplane_{action}"),
                        sql.SQL(relation),
                    )
                )
        for function in _functions(captured).values():
            await connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(function))
