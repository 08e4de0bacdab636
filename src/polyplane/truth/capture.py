"""Capture: the triggers that write one outbox row per statement on a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol
from uuid import UUID

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects import postgresql

from polyplane.errors import Misconfigured
from polyplane.model.marks import owner_column, tenant_column
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


class Triggers(Protocol):
    """Triggers that note what is written to a table: on it, and on each of its partitions."""

    @property
    def name(self) -> str:
        """What they note, in logs; it tells them from all others."""
        ...

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted name of the table."""
        ...

    @property
    def column(self) -> str | None:
        """The column that they need of the table, if it may go and the table stay."""
        ...

    def trigger(self, action: str) -> str:
        """The name of the trigger for insert, update, delete or truncate."""
        ...

    def functions_sql(self) -> sql.Composed:
        """The statements that make their functions, named as `functions_of` has it."""
        ...


def suffix_of(name: str) -> str:
    """What identifiers of ours for `name` end in: hashed, since a name may be 63 bytes long."""
    return blake2b(name.encode(), digest_size=8).hexdigest()


def functions_of(triggers: Triggers) -> dict[str, sql.Identifier]:
    """Action -> the name of its trigger function."""
    suffix = suffix_of(triggers.name)
    return {a: sql.Identifier("polyplane", f"capture_{suffix}_{a}") for a in _ACTIONS}


def text_of(column: sa.Column[Any], alias: str = "r") -> sql.Composed:
    """The text of a column that holds a key."""
    return sql.Composed([sql.Identifier(alias, column.name), sql.SQL("::pg_catalog.text")])


def template(file: str, columns: Sequence[sa.Column[Any]]) -> tuple[sql.SQL, dict[str, sql.SQL]]:
    """A script of trigger functions, and what each fills in: `durable`, and the `settings` without
    which the text of `columns` would depend on the writer's session.
    """
    is_stable = not any(isinstance(column.type, _UNSTABLE) for column in columns)
    settings = sql.SQL("" if is_stable else _UNSTABLE_SETTINGS)
    return sql.SQL(script(file)), {"durable": _DURABLE, "settings": settings}


def _has_collation(kind: sa.types.TypeEngine[Any]) -> bool:
    return isinstance(kind, sa.String) and not (isinstance(kind, sa.Enum) and kind.native_enum)


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
    def key_columns(self) -> list[sa.Column[Any]]:
        """The columns of the primary key, in its order."""
        return list(self.table.primary_key.columns)

    @property
    def column(self) -> None:
        """None in particular: its key is the table's."""
        return None

    def trigger(self, action: str) -> str:
        """See `Triggers.trigger`."""
        return f"polyplane_{action}"

    def functions_sql(self) -> sql.Composed:
        """See `Triggers.functions_sql`."""
        text, parts = template("capture", self.key_columns)
        return text.format(
            name=sql.Literal(self.name),
            key=self.key(),
            old_key=self.key("o"),
            **_whose(self.table),
            **parts,
            **functions_of(self),
        )

    def key_types(self) -> list[str]:
        """The PostgreSQL types of the key columns, without length limits."""
        return [
            "bpchar"  # a plain char has one character
            if isinstance(column.type, sa.CHAR)
            else re.sub(r"\(.*?\)", "", column.type.compile(dialect=_DIALECT))
            for column in self.key_columns
        ]

    def key(self, alias: str = "r") -> sql.Composed:
        """The canonical text of a row's key: its text, or a JSON array for a composite key."""
        if len(self.key_columns) == 1:
            return text_of(self.key_columns[0], alias)
        columns = [sql.Identifier(alias, column.name) for column in self.key_columns]
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

    def key_order(self) -> sql.Composed:
        """What to order rows of alias r by so that their order depends on their keys alone.

        That is the order of the keys' types, but for texts, which no collation sorts.
        """
        return sql.SQL(", ").join(
            sql.SQL('{} COLLATE "C"' if _has_collation(column.type) else "{}").format(
                sql.Identifier("r", column.name)
            )
            for column in self.key_columns
        )

    def behind(self, after: str) -> tuple[sql.Composed, str]:
        """A condition on alias r: its key comes after `after`, by code points; and the value of the
        parameter `after` for it. The text need not be the key of a row, nor of the key's type.
        """
        if self.key_types() == ["UUID"] and _is_canonical_uuid(after):
            name = sql.Identifier("r", self.key_columns[0].name)
            return sql.SQL("{} > %(after)s::uuid").format(name), after
        # PostgreSQL has no text with a NUL, and what comes after one is what comes after the text
        # before it: there is nothing between the two.
        text = after.partition("\0")[0]
        return sql.SQL('({}) COLLATE "C" > %(after)s::text').format(self.key()), text

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


def _whose(table: sa.Table) -> dict[str, sql.Composable]:
    """What notes, beside the keys of deleted rows, whose they were; nothing where nobody's are."""
    marked = (tenant_column(table), owner_column(table))
    if all(it is None for it in marked):
        return dict.fromkeys(("body", "whose", "named", "each"), sql.SQL(""))
    texts = [sql.SQL("NULL::pg_catalog.text") if it is None else text_of(it) for it in marked]
    whose = sql.SQL(", pg_catalog.jsonb_build_array({})").format(sql.SQL(", ").join(texts))
    return {
        "body": sql.SQL(", body"),
        "whose": whose,
        "named": whose + sql.SQL(" AS w"),
        "each": sql.SQL(", s.w"),
    }


def _is_canonical_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


async def install(connection: Connection, wanted: Sequence[Triggers]) -> list[str]:
    """Install or renew triggers, each table's in one transaction; the names that changed.

    Partitions get them too, for rows written past their parent. Idempotent: a table whose triggers
    are up to date is not locked.
    """
    changed = []
    for triggers in wanted:
        functions = triggers.functions_sql()
        own = _triggers_sql(triggers, triggers.identifier)
        text = sql.Composed([functions, own]).as_string(connection)
        definition = blake2b(text.encode(), digest_size=16).hexdigest()
        first = functions_of(triggers)["insert"]
        cursor = await connection.execute(
            statement("journal", "capture_definition"), [first.as_string(connection)]
        )
        found = await cursor.fetchone()
        relations = await _relations(connection, triggers)
        if found and found[0] == definition and all(relations.values()):
            continue
        async with connection.transaction():
            await connection.execute(functions)
            for relation in relations:
                await connection.execute(_triggers_sql(triggers, sql.SQL(relation)))
            await connection.execute(
                sql.SQL("COMMENT ON FUNCTION {}() IS {}").format(first, sql.Literal(definition))
            )
        changed.append(triggers.name)
    return changed


async def _relations(connection: Connection, triggers: Triggers) -> Mapping[str, bool]:
    """The table and its partitions, quoted -> whether each has its triggers."""
    names = [triggers.trigger(action) for action in _ACTIONS]
    cursor = await connection.execute(
        statement("journal", "capture_relations"),
        {"name": triggers.identifier.as_string(connection), "triggers": names},
    )
    return {row[0]: row[1] for row in await cursor.fetchall()}


def _triggers_sql(triggers: Triggers, relation: sql.Composable) -> sql.Composed:
    """Give a table or partition its triggers, and let all fire in replication role too."""
    functions, column = functions_of(triggers), triggers.column
    return sql.SQL("; ").join(
        sql.SQL(statement("journal", f"trigger_{action}")).format(
            trigger=sql.Identifier(triggers.trigger(action)),
            table=relation,
            function=functions[action],
            column=sql.SQL("") if column is None else sql.Literal(column),
        )
        for action in _ACTIONS
    )


async def remove(connection: Connection, triggers: Triggers) -> None:
    """Take triggers off their table and its partitions, in one transaction. Idempotent."""
    relations = await _relations(connection, triggers)
    async with connection.transaction():
        for relation in relations:
            for action in _ACTIONS:
                await connection.execute(
                    sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(
                        sql.Identifier(triggers.trigger(action)), sql.SQL(relation)
                    )
                )
        for function in functions_of(triggers).values():
            await connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(function))


async def remove_dangling(connection: Connection) -> None:
    """Take off triggers whose column is gone from its table: they let no write to it succeed."""
    cursor = await connection.execute(statement("journal", "capture_dangling"))
    for (function,) in await cursor.fetchall():
        await connection.execute(sql.SQL("DROP FUNCTION {} CASCADE").format(sql.SQL(function)))
