"""Migrations of truth: one revision a transaction, and any number of runners at once.

A component is the plane's core or an application. Each has its own history of Alembic revisions
and its own version table, `polyplane.alembic_<name>`. The schema `polyplane` holds those tables,
so it is the runner's: made before the first revision, dropped after the last.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from polyplane.errors import Conflict, Misconfigured, PolyplaneError, Unavailable
from polyplane.model.table import Model, table_name, table_of
from polyplane.truth.database import Database, alchemy_url, in_our_words

if TYPE_CHECKING:  # Alembic takes a quarter of a second to load, and few runs need it
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from alembic.script import ScriptDirectory

SCHEMA: Final = "polyplane"
WAIT_S: Final = 60
"""How long a runner waits for another one, or for a lock on a table."""
REVISION_S: Final = 1800
"""The longest a single statement of a revision may take."""

_OWN_KEYS: Final = (
    "SELECT table_name, column_name FROM information_schema.columns"
    " WHERE table_schema = 'polyplane' AND column_default = 'polyplane.new_key()'"
)

_ALEMBIC_OP = threading.Lock()
"""`alembic.op` is one proxy for the whole process, which only one thread may hold."""


@dataclass(frozen=True, slots=True)
class Component:
    """A history of revisions: `package` is the dotted package of its version files."""

    name: str
    package: str

    @property
    def version_table(self) -> str:
        """The table, in schema polyplane, that holds the current revision."""
        return f"alembic_{self.name}"


CORE: Final = Component("core", "polyplane.truth.migrations.versions")


@dataclass(frozen=True, slots=True)
class Applied:
    """One revision that was run; `doc` is the first line of its docstring."""

    component: str
    revision: str
    direction: Literal["up", "down"]
    doc: str


@dataclass(frozen=True, slots=True)
class Status:
    """Where a component stands. `current` is None before its first revision."""

    component: str
    current: str | None
    head: str | None
    pending: tuple[str, ...]


async def migrate_up(url: str, components: Sequence[Component]) -> list[Applied]:
    """Bring every component to its newest revision, in the order given; what was run.

    Safe with other runners: revisions they run meanwhile are waited for and not run again. A
    revision that fails leaves nothing behind, those before it stay. Raises Misconfigured for a
    missing privilege or an unknown revision, TruthDown, or PolyplaneError naming the revision.
    """
    return await asyncio.to_thread(_up, url, components)


async def migrate_down(url: str, component: Component, to: str = "-1") -> list[Applied]:
    """Take revisions of one component back, down to and not including `to`; what was run.

    `to` is a revision, `base` for all, or `-n` for the last n. Raises Conflict when something
    still stands on what would go, and what `migrate_up` raises.
    """
    return await asyncio.to_thread(_down, url, component, to)


async def migration_status(url: str, components: Sequence[Component]) -> list[Status]:
    """Where each component stands. Changes nothing, and works on an empty database."""
    return await asyncio.to_thread(_status, url, components)


async def check_removable(url: str) -> None:
    """Raise Conflict when core cannot go because something stands on it. Changes nothing."""
    await asyncio.to_thread(_check_removable, url)


async def create_missing(database: Database, models: Sequence[type[Model]]) -> list[str]:
    """Create the tables, and their schemas, that `models` map and the database lacks; their names.

    For models whose application brings no migrations. Safe with other runners. A table that
    exists is left as it is.
    """
    tables = [table_of(model) for model in models]
    with _in_words("The tables of the models"):
        async with asyncio.timeout(WAIT_S), database.engine.begin() as connection:
            return await connection.run_sync(_create_missing, tables)


def _create_missing(connection: sa.Connection, tables: Sequence[sa.Table]) -> list[str]:
    _wait_for_turn(connection)
    inspector = sa.inspect(connection)
    missing = [t for t in tables if not inspector.has_table(t.name, schema=t.schema)]
    for schema in sorted({t.schema for t in missing if t.schema} - {*inspector.get_schema_names()}):
        connection.execute(sa.schema.CreateSchema(schema))
    for metadata in {id(t.metadata): t.metadata for t in missing}.values():
        metadata.create_all(connection, tables=[t for t in missing if t.metadata is metadata])
    return [table_name(table) for table in missing]


def _up(url: str, components: Sequence[Component]) -> list[Applied]:
    applied: list[Applied] = []
    with _engine(url) as engine:
        for component in components:
            scripts = _scripts(component)

            def choose(head: str | None, scripts: ScriptDirectory = scripts) -> list[RevisionStep]:
                return scripts._upgrade_revs("head", head or "base")

            while step := _run_next(engine, component, choose):
                applied.append(step)
    return applied


def _down(url: str, component: Component, to: str) -> list[Applied]:
    applied: list[Applied] = []
    scripts = _scripts(component)
    with _engine(url) as engine:
        with engine.connect() as connection:
            current = _context(connection, component).get_current_revision()
        with _in_words(f"The migration of {component.name} down to {to!r}"):
            steps = scripts._downgrade_revs(to, current) if current else []

        def choose(head: str | None) -> list[RevisionStep]:
            return [step for step in steps if step.revision.revision == head]

        while step := _run_next(engine, component, choose):
            applied.append(step)
    return applied


def _status(url: str, components: Sequence[Component]) -> list[Status]:
    found = []
    with _engine(url) as engine, engine.connect() as connection:
        for component in components:
            scripts = _scripts(component)
            current = _context(connection, component).get_current_revision()
            with _in_words(f"The history of {component.name}"):
                steps = scripts._upgrade_revs("head", current or "base")
            pending = tuple(step.revision.revision for step in steps)
            found.append(Status(component.name, current, scripts.get_current_head(), pending))
    return found


def _run_next(
    engine: sa.Engine,
    component: Component,
    choose: Callable[[str | None], list[RevisionStep]],
) -> Applied | None:
    """Run the first of the steps that follow from the current revision, in one transaction.

    The current revision is read under the lock, which ends with the transaction: nothing is held
    by a session, so it works through a pooler too.
    """
    with _in_words(f"The migration of {component.name}"), engine.begin() as connection:
        _wait_for_turn(connection)
        context = _context(connection, component)
        head = context.get_current_revision()
        step = next(iter(choose(head)), None)
        if step is None:
            return None
        revision = step.revision.revision
        with _in_words(f"The migration {component.name} {revision}"):
            if step.is_downgrade:
                if component == CORE and step.revision.down_revision is None:
                    _check_applications(connection)
            elif not sa.inspect(connection).has_schema(SCHEMA):
                connection.execute(sa.schema.CreateSchema(SCHEMA))
            _run(context, step)
            if step.is_downgrade:
                _drop_empty_schema(connection, component, context)
    direction: Literal["up", "down"] = "down" if step.is_downgrade else "up"
    return Applied(component.name, revision, direction, step.revision.doc)


def _run(context: MigrationContext, step: RevisionStep) -> None:
    from alembic.operations import Operations

    context._migrations_fn = lambda _heads, _context: [step]
    with _ALEMBIC_OP, Operations.context(context):
        context.run_migrations()


def _check_removable(url: str) -> None:
    with _engine(url) as engine, engine.connect() as connection, _in_words("Removing core"):
        _check_applications(connection)
        for table, column in connection.exec_driver_sql(_OWN_KEYS).all():  # these go before it does
            connection.exec_driver_sql(
                f'ALTER TABLE polyplane."{table}" ALTER COLUMN "{column}" DROP DEFAULT'
            )
        connection.exec_driver_sql("DROP FUNCTION polyplane.new_key()")
        connection.rollback()


def _check_applications(connection: sa.Connection) -> None:
    """Conflict when core is to go while an application's revisions are still there."""
    for table in sa.inspect(connection).get_table_names(schema=SCHEMA):
        if table.startswith("alembic_") and table != CORE.version_table:
            versions = sa.table(table, schema=SCHEMA)
            if connection.scalar(sa.select(sa.exists().select_from(versions))):
                name = table.removeprefix("alembic_")
                raise Conflict(
                    f"The application {name} stands on it.",
                    fix=f"Run first: polyplane migrate down {name} --to base",
                )


def _drop_empty_schema(
    connection: sa.Connection, component: Component, context: MigrationContext
) -> None:
    """After core's first revision only version tables without a row are left."""
    if component == CORE and context.get_current_revision() is None:
        connection.execute(sa.schema.DropSchema(SCHEMA, cascade=True))


def _wait_for_turn(connection: sa.Connection) -> None:
    """Take the lock that ends with this transaction; every runner on this database wants it."""
    connection.exec_driver_sql(
        f"SET LOCAL lock_timeout = '{WAIT_S}s'; SET LOCAL statement_timeout = '{REVISION_S}s'"
    )
    connection.exec_driver_sql(
        "SELECT pg_advisory_xact_lock(hashtextextended('polyplane.migrate', 0))"
    )


def _scripts(component: Component) -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    try:
        folder = import_module(component.package).__path__[0]
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"The migrations of {component.name} are not there: {error}."
        ) from error
    return ScriptDirectory(folder, version_locations=[folder])


def _context(connection: sa.Connection, component: Component) -> MigrationContext:
    from alembic.runtime.migration import MigrationContext

    options = {"version_table": component.version_table, "version_table_schema": SCHEMA}
    return MigrationContext.configure(connection, opts=options)


@contextmanager
def _engine(url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(
        alchemy_url(url),
        poolclass=sa.pool.NullPool,
        connect_args={
            "connect_timeout": 10,
            "application_name": "polyplane migrate",
            "prepare_threshold": None,  # there may be a pooler between
            "options": "-c timezone=UTC",
        },
    )
    try:
        with in_our_words():
            yield engine
    finally:
        engine.dispose()


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """What Alembic and PostgreSQL refuse, in our words; `what` was being done."""
    from alembic.util import CommandError

    try:
        yield
    except CommandError as error:
        raise Misconfigured(
            f"{what}: {error}.", fix="Is the database newer than this version of polyplane?"
        ) from error
    except DBAPIError as error:
        match error.orig:
            case psycopg.errors.LockNotAvailable():
                raise Unavailable(
                    f"{what} waited {WAIT_S} s for a lock.", fix="Try again."
                ) from error
            case psycopg.errors.InsufficientPrivilege():
                raise Misconfigured(
                    f"{what} failed: {error.orig.diag.message_primary}.",
                    fix="Grant it, or connect as the database's owner.",
                ) from error
            case psycopg.errors.DependentObjectsStillExist():
                detail = (error.orig.diag.message_detail or "").replace("\n", "; ")
                raise Conflict(f"{what}: {error.orig.diag.message_primary} ({detail}).") from error
            case psycopg.OperationalError():
                raise  # a connection's fault, which `in_our_words` tells
        raise PolyplaneError(f"{what} failed: {error.orig}") from error
