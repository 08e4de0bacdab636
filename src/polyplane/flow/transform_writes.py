"""What one transaction of a transformation writes: rows of the target, and those it refuses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from polyplane.errors import Refused
from polyplane.flow.sifting import Failures, sift
from polyplane.model.audit import is_audited
from polyplane.model.caller import Caller
from polyplane.model.marks import tenant_column
from polyplane.model.table import table_name, table_of
from polyplane.model.transformation import Form, Made
from polyplane.truth.arrays import how_written, insert_sql, parameters, update_sql
from polyplane.truth.context import SET_IN_SESSION, settings_of
from polyplane.truth.database import Connection, in_our_words
from polyplane.truth.session import Write, constraints_in_our_words

_TOO_MUCH: Final = "54"
"""SQLSTATEs of a row that is more than PostgreSQL takes: nothing is wrong with the server."""
_Names = tuple[str, ...]


class Item(NamedTuple):
    """What is to be written for the source's row `key`."""

    key: str
    made: Made


class Writes:
    """Writes what was made of rows, on behalf of their tenants, in a session's transaction."""

    def __init__(self, form: Form, session: AsyncSession, actor: str) -> None:
        self._form = form
        self._session = session
        self._actor = actor
        self._table = table_of(form.it.target)
        self._written = {it.key: how_written(it) for it in self._table.columns}
        self._json = [it.key for it in self._table.columns if isinstance(it.type, sa.JSON)]
        self._keys = [sa.inspect(form.it.target).get_property(to).columns[0] for _, to in form.keys]

    async def put(self, items: Iterable[Item]) -> Failures:
        """Write them; the keys of those that truth refuses, and why. Raises faults of PostgreSQL.

        Of several with one key of the target the last one stays.
        """
        bad: Failures = {}
        for tenant, some in _by_tenant(items).items():
            last = {item.made.key: item for item in some}
            await self.act_for(tenant)
            for item, error in await sift(list(last.values()), self._put, lambda it: it.key):
                bad[item.key] = error
            await self._tell(tenant)
        return bad

    async def drop(self, tenant: str, keys: Sequence[Sequence[Any]]) -> None:
        """Delete the rows with these keys of the target that belong to `tenant`."""
        await self.act_for(tenant)
        gone = sa.delete(self._table).where(*self._is_key())
        with _row_faults():
            await self._session.execute(gone, [_keyed(key) for key in keys])
        await self._tell(tenant)

    async def act_for(self, tenant: str) -> None:
        """From now on nothing is seen or written but what is the tenant's."""
        with in_our_words():
            await self._session.execute(SET_IN_SESSION, settings_of(self._caller(tenant)))

    def _caller(self, tenant: str) -> Caller:
        return Caller(self._actor or f"transformation:{self._form.name}", tenant)

    async def _tell(self, tenant: str) -> None:
        """Leave in audit what was done for a tenant."""
        await Write(self._session, caller=self._caller(tenant), epoch=0).send()

    async def _put(self, items: Sequence[Item]) -> None:
        write = self._change if self._form.in_place else self._insert
        with _row_faults():
            async with self._session.begin_nested():
                alike: dict[tuple[_Names, _Names], list[Made]] = defaultdict(list)
                for item in items:
                    alike[self._given(item.made.values)].append(item.made)
                for (given, nulls), some in alike.items():
                    if nulls or not await self._at_once(given, some):
                        await write(given, nulls, some)

    async def _at_once(self, given: _Names, some: Sequence[Made]) -> bool:
        """Write rows of plain values in one statement; False where they are not plain."""
        table, key = self._table, [column.key for column in self._keys]
        written = [how for name in given if (how := self._written[name])]
        arrays = None
        if len(written) == len(given):
            arrays = parameters([it.values for it in some], given, written)
        if arrays is None:
            return False
        if self._form.in_place and set(given) <= set(key):
            return True
        tenant = tenant_column(table)
        statement = (
            update_sql(table, given, key)
            if self._form.in_place
            else insert_sql(table, given, key, "" if tenant is None else tenant.key)
        )
        driver = await driver_of(self._session)
        cursor = await driver.execute(statement, arrays)
        if cursor.rowcount < len(some):
            raise Refused("Another tenant has a row with this key.")
        if is_audited(table):
            verb = "changed" if self._form.in_place else "created"
            writer = Write(self._session, caller=self._caller(some[0].tenant), epoch=0)
            writer.audit(f"rows.{verb}", table_name(table), None, {"rows": len(some)})
        return True

    def _given(self, values: Mapping[str, Any]) -> tuple[_Names, _Names]:
        """The columns that are given a value, and those that are given SQL's NULL and could be
        taken to mean JSON's.
        """
        nulls = tuple(name for name in self._json if name in values and values[name] is None)
        return tuple(name for name in values if name not in nulls), nulls

    async def _insert(self, given: _Names, nulls: _Names, some: Sequence[Made]) -> None:
        """Insert or update; rows of another tenant under the same keys are neither."""
        table, made = self._table, insert(self._table)
        key = {column.key for column in self._keys}
        changed = [name for name in (*given, *nulls) if name not in key] or sorted(key)
        tenant = tenant_column(table)
        statement = made.values(dict.fromkeys(nulls, sa.null()) if nulls else {})
        statement = statement.on_conflict_do_update(
            index_elements=self._keys,
            set_={table.c[name]: made.excluded[name] for name in changed},
            where=None if tenant is None else tenant == made.excluded[tenant.key],
        )
        rows = [{name: it.values[name] for name in given} for it in some]
        # One by one in a pipeline: psycopg takes longer to read a statement of thousands of values.
        options = {"preserve_rowcount": True}
        done: Any = await self._session.execute(statement, rows, execution_options=options)
        if tenant is not None and done.rowcount < len(some):
            raise Refused("Another tenant has a row with this key.")

    async def _change(self, given: _Names, nulls: _Names, some: Sequence[Made]) -> None:
        """Update rows that are there, and locked."""
        key = {column.key for column in self._keys}
        named: dict[str, Any] = {
            name: sa.bindparam(f"to_{name}") for name in given if name not in key
        }
        if not named and not nulls:
            return
        values = named | dict.fromkeys(nulls, sa.null())
        changed = sa.update(self._table).where(*self._is_key()).values(values)
        rows = [_keyed(it.key) | {f"to_{name}": it.values[name] for name in named} for it in some]
        await self._session.execute(changed, rows)

    def _is_key(self) -> Iterator[sa.ColumnElement[bool]]:
        for n, column in enumerate(self._keys):
            yield column == sa.bindparam(f"key_{n}", type_=column.type)


async def driver_of(session: AsyncSession) -> Connection:
    """The connection of a session, for what psycopg does better."""
    driver = (await (await session.connection()).get_raw_connection()).driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    return driver


def _keyed(key: Sequence[Any]) -> dict[str, Any]:
    return {f"key_{n}": value for n, value in enumerate(key)}


def _by_tenant(items: Iterable[Item]) -> Mapping[str, list[Item]]:
    found: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        found[item.made.tenant].append(item)
    return dict(sorted(found.items()))


@contextmanager
def _row_faults() -> Iterator[None]:
    """What rows are refused for is told from what PostgreSQL cannot do just now."""
    # The inner one hears first of a deadlock: it is no row's fault, but to be tried again.
    with constraints_in_our_words(), in_our_words():
        try:
            yield
        except (DBAPIError, psycopg.Error) as error:
            found = error.orig if isinstance(error, DBAPIError) else error
            if isinstance(found, psycopg.Error) and (found.sqlstate or "").startswith(_TOO_MUCH):
                raise Refused("It is more than PostgreSQL takes.") from error
            raise
