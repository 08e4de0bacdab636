"""The migrations bring exactly the tables that the models declare, up and down and up again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from polyplane.domains.assistant import application
from polyplane.domains.assistant.models import SCHEMA, Base
from polyplane.ops.migrate import CORE, Component, migrate_down, migrate_up
from polyplane.truth.database import alchemy_url

ASSISTANT = Component(application.name, application.migrations or "")
CONSTRAINTS = f"""
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE connamespace = '{SCHEMA}'::regnamespace AND contype <> 't' ORDER BY 1, 2
"""
INDEXES = f"SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = '{SCHEMA}' ORDER BY 1"


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
    await migrate_up(database_url, [CORE, ASSISTANT])
    await migrate_down(database_url, ASSISTANT, "base")
    engine = create_async_engine(alchemy_url(database_url))
    try:
        await migrate_up(database_url, [CORE, ASSISTANT])
        async with engine.begin() as connection:
            # Else defaults are shown without the schema that is the role's own.
            await connection.execute(sa.text("SET LOCAL search_path = public"))
            assert await connection.run_sync(_differences) == []
            migrated = [
                (await connection.execute(sa.text(it))).all() for it in (CONSTRAINTS, INDEXES)
            ]
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
            declared = [
                (await connection.execute(sa.text(it))).all() for it in (CONSTRAINTS, INDEXES)
            ]
    finally:
        await engine.dispose()
    assert migrated == declared


def test_every_table_has_a_tenant_and_every_time_a_zone() -> None:
    for table in Base.metadata.tables.values():
        assert "tenant_id" in table.columns
        for column in table.columns:
            if isinstance(column.type, sa.DateTime):
                assert column.type.timezone, column
