"""The migrations bring exactly the tables that the models declare, up and down and up again."""

from __future__ import annotations

import json
import re
from importlib import import_module

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from polyplane.domains.agents import application, states
from polyplane.domains.agents.models import SCHEMA, Base
from polyplane.ops.migrate import CORE, Component, migrate_down, migrate_up
from polyplane.truth.database import alchemy_url

AGENTS = Component(application.name, application.migrations or "")
CONSTRAINTS = f"""
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = '{SCHEMA}'::regnamespace ORDER BY 1, 2
"""
FUNCTIONS = f"SELECT count(*) FROM pg_proc WHERE pronamespace = '{SCHEMA}'::regnamespace"


def _differences(connection: sa.Connection) -> list[object]:
    context = MigrationContext.configure(
        connection,
        opts={
            "include_schemas": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
            "compare_type": True,
            "compare_server_default": True,
        },
    )
    return list(compare_metadata(context, Base.metadata))


async def test_migrated_equals_declared(database_url: str) -> None:
    await migrate_up(database_url, [CORE, AGENTS])
    await migrate_down(database_url, AGENTS, "base")
    engine = create_async_engine(alchemy_url(database_url))
    try:
        async with engine.begin() as connection:
            assert await connection.scalar(sa.text(FUNCTIONS)) == 0
        await migrate_up(database_url, [CORE, AGENTS])
        async with engine.begin() as connection:
            # Else defaults are shown without the schema that is the role's own.
            await connection.execute(sa.text("SET LOCAL search_path = public"))
            assert await connection.run_sync(_differences) == []
            migrated = (await connection.execute(sa.text(CONSTRAINTS))).all()
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
            declared = (await connection.execute(sa.text(CONSTRAINTS))).all()
    finally:
        await engine.dispose()
    assert migrated == declared
    assert len(migrated) > 80


def test_every_table_has_a_tenant_and_every_time_a_zone() -> None:
    for table in Base.metadata.tables.values():
        assert "tenant_id" in table.columns
        for column in table.columns:
            if isinstance(column.type, sa.DateTime):
                assert column.type.timezone, column


def test_the_database_knows_the_same_moves() -> None:
    """What a migration holds is fixed; a change of the moves needs another one."""
    first = import_module("polyplane.domains.agents.migrations.0001_agents")
    for table, moves in (
        ("operations", states.OPERATION_MOVES),
        ("execution_steps", states.STEP_MOVES),
    ):
        begins, told = first.MOVES[table]
        assert {status: tuple(to) for status, to in json.loads(told).items()} == {
            status: to for status, to in moves.items() if to
        }
        assert begins == next(iter(moves))
        rule = next(
            str(it.sqltext)
            for it in Base.metadata.tables[f"{SCHEMA}.{table}"].constraints
            if isinstance(it, sa.CheckConstraint) and str(it.name).endswith("_status")
        )
        assert re.findall(r"'(\w+)'", rule) == list(moves)


def test_whatever_begins_can_end_and_what_has_ended_stays_so() -> None:
    for moves in (states.OPERATION_MOVES, states.STEP_MOVES):
        ended = {status for status, to in moves.items() if not to}
        for status in moves:
            reached, waiting = set[str](), {status}
            while waiting:
                reached |= waiting
                waiting = {to for it in waiting for to in moves[it]} - reached
            assert reached & ended, status
    assert not states.may_become(states.OPERATION_MOVES, "failed", "running")
    assert states.may_become(states.STEP_MOVES, "retrying", "running")
    assert states.progress_of(1, 3) == 0.3333
