"""Capture on behalf of other tables: what is written to a table changes the rows it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from polyplane.model.projection import Projection
from polyplane.model.table import table_of
from polyplane.model.touches import touches_of
from polyplane.truth.capture import Captured, functions_of, suffix_of, template, text_of
from polyplane.truth.database import Connection
from polyplane.truth.statements import statement


@dataclass(frozen=True, slots=True)
class Touching:
    """Triggers on the table of `holder`, a column that holds keys of `parent`."""

    parent: Captured
    holder: sa.Column[Any]

    @property
    def related(self) -> Captured:
        """The table that has the triggers."""
        return Captured(self.holder.table)

    @property
    def name(self) -> str:
        """`schema.table(column) of schema.parent`."""
        return f"{self.related.name}({self.holder.name}) of {self.parent.name}"

    @property
    def identifier(self) -> sql.Identifier:
        """See `Triggers.identifier`."""
        return self.related.identifier

    @property
    def column(self) -> str:
        """See `Triggers.column`."""
        return self.holder.name

    def trigger(self, action: str) -> str:
        """Not that of the table's own capture, nor of another column."""
        return f"polyplane_{suffix_of(self.name)}_{action}"

    def functions_sql(self) -> sql.Composed:
        """See `Triggers.functions_sql`."""
        text, parts = template("touch", [self.holder])
        return text.format(
            parent=sql.Literal(self.parent.name),
            key=text_of(self.holder),
            belongs=sql.SQL("{} IS NOT NULL").format(sql.Identifier("r", self.holder.name)),
            **parts,
            **functions_of(self),
        )


def touching_of(projection: type[Projection[Any]]) -> list[Touching]:
    """What must be captured on behalf of `projection`, besides its own model."""
    parent = Captured(table_of(projection.model))
    return [Touching(parent, touch.column) for touch in touches_of(projection)]


async def unindexed(connection: Connection, wanted: Sequence[Touching]) -> list[str]:
    """The names of those whose related rows no index finds: a batch reads the whole table."""
    slow = []
    for touching in wanted:
        where = {
            "table": touching.identifier.as_string(connection),
            "column": touching.column,
        }
        cursor = await connection.execute(statement("journal", "capture_is_indexed"), where)
        if await cursor.fetchone() == (False,):
            slow.append(touching.name)
    return slow
