"""Who sees which rows: asked in batches, by keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from polyplane.model.caller import Caller
from polyplane.model.marks import owner_column, tenant_column
from polyplane.model.scope import OWNER_ID, TENANT_ID
from polyplane.model.table import Model, table_of
from polyplane.truth.capture import Captured, text_of
from polyplane.truth.context import SET, settings_of
from polyplane.truth.database import Connection, Database
from polyplane.truth.scan import array_text

_KEYS_MAX: Final = 2_000
"""Keys of one question."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """The rows of one table: whose they are, and which of them a caller sees."""

    captured: Captured
    marks: tuple[str, ...]
    columns: tuple[sql.Composable, ...]

    @classmethod
    def of(cls, model: type[Model]) -> Visibility:
        """As the marks of `model`'s columns say."""
        table = table_of(model)
        named = ((TENANT_ID, tenant_column(table)), (OWNER_ID, owner_column(table)))
        marked = [(name, text_of(column)) for name, column in named if column is not None]
        return cls(Captured(table), tuple(n for n, _ in marked), tuple(c for _, c in marked))

    async def whose(
        self, database: Database, keys: Sequence[str]
    ) -> dict[str, Mapping[str, str | None]]:
        """Key -> whose the row is, of those of `keys` that exist, as the plane itself sees them.

        Raises TruthDown.
        """
        found: dict[str, Mapping[str, str | None]] = {}
        query = self._query([self.captured.key(), *self.columns])
        for some in _pieces(keys):
            async with database.connection(deadline_s=database.call_timeout_s) as connection:
                cursor = await connection.execute(query, {"keys": array_text(some)})
                for key, *said in await cursor.fetchall():
                    found[key] = dict(zip(self.marks, said, strict=True))
        return found

    async def seen(self, database: Database, caller: Caller, keys: Sequence[str]) -> set[str]:
        """Those of `keys` whose rows PostgreSQL lets `caller` see. Raises TruthDown."""
        found: set[str] = set()
        for some in _pieces(keys):
            async with database.connection(deadline_s=database.call_timeout_s) as connection:
                found |= await self._seen(connection, caller, some)
        return found

    async def _seen(self, connection: Connection, caller: Caller, keys: Sequence[str]) -> set[str]:
        async with connection.transaction():
            await connection.execute(SET, settings_of(caller))
            query = self._query([self.captured.key()])
            cursor = await connection.execute(query, {"keys": array_text(keys)})
            return {row[0] for row in await cursor.fetchall()}

    def _query(self, columns: Sequence[sql.Composable]) -> sql.Composed:
        return sql.SQL("SELECT {} FROM {} r WHERE {}").format(
            sql.SQL(", ").join(columns), self.captured.identifier, self.captured.by_keys()
        )


def _pieces(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _KEYS_MAX):
        yield keys[start : start + _KEYS_MAX]
