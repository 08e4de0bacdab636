"""The tables of agents."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001_agents"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA: Final = "agents"
MOMENT: Final = sa.DateTime(timezone=True)
MOVES: Final = {
    "operations": (
        "queued",
        '{"queued": ["running", "cancelled"],'
        ' "running": ["completed", "failed", "cancelling"], "cancelling": ["cancelled"]}',
    ),
    "execution_steps": (
        "pending",
        '{"pending": ["running", "skipped"], "running": ["retrying", "completed", "failed"],'
        ' "retrying": ["running", "completed", "failed"], "completed": ["undone"]}',
    ),
}


def _id() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, nullable=False, server_default=sa.text("polyplane.new_key()"))


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant_id", sa.String(64), nullable=False, server_default="default")


def _moments() -> tuple[sa.Column[object], sa.Column[object]]:
    now = sa.func.now()
    return (
        sa.Column("created_at", MOMENT, nullable=False, server_default=now),
        sa.Column("updated_at", MOMENT, nullable=False, server_default=now),
    )


def _reference(
    table: str, column: str, target: str, ondelete: str | None = "CASCADE"
) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column, "tenant_id"],
        [f"{SCHEMA}.{target}.id", f"{SCHEMA}.{target}.tenant_id"],
        name=f"fk_{table}_{column}",
        ondelete=ondelete,
    )


def _check(table: str, name: str, rule: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(rule, name=f"ck_{table}_{name}")


def _owned(table: str) -> tuple[sa.PrimaryKeyConstraint, sa.UniqueConstraint]:
    return (
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.UniqueConstraint("id", "tenant_id", name=f"uq_{table}_id"),
    )


def _index(table: str, name: str, *columns: str) -> None:
    op.create_index(name, table, list(columns), schema=SCHEMA)


def _listed(table: str) -> None:
    _index(table, f"ix_{table}_listed", "tenant_id", "created_at", "id")


def upgrade() -> None:
    op.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    _agents_and_tools()
    _discussions()
    _concepts()
    _relations()
    _operations()
    _steps()
    _moves()


def _agents_and_tools() -> None:
    op.create_table(
        "agents",
        _id(),
        _tenant(),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("type", sa.String(50), nullable=False),
        sa.Column("description", sa.Text),
        *_moments(),
        *_owned("agents"),
        schema=SCHEMA,
    )
    _listed("agents")
    op.create_table(
        "tools",
        _id(),
        _tenant(),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("capability", sa.String(100), nullable=False),
        sa.Column("description", sa.Text),
        *_moments(),
        *_owned("tools"),
        schema=SCHEMA,
    )
    _index("tools", "ix_tools_capability", "tenant_id", "capability")
    _listed("tools")
    op.create_table(
        "agent_tools",
        _tenant(),
        sa.Column("agent_id", sa.Uuid, nullable=False),
        sa.Column("tool_id", sa.Uuid, nullable=False),
        *_moments(),
        sa.PrimaryKeyConstraint("agent_id", "tool_id", name="pk_agent_tools"),
        _reference("agent_tools", "agent_id", "agents"),
        _reference("agent_tools", "tool_id", "tools"),
        schema=SCHEMA,
    )
    _index("agent_tools", "ix_agent_tools_tool", "tool_id")


def _discussions() -> None:
    op.create_table(
        "discussions",
        _id(),
        _tenant(),
        sa.Column("title", sa.String(500), nullable=False),
        sa.Column("status", sa.String(50), nullable=False, server_default="active"),
        sa.Column("source", sa.String(1024)),
        *_moments(),
        *_owned("discussions"),
        _check("discussions", "status", "status IN ('active', 'paused', 'closed', 'archived')"),
        schema=SCHEMA,
    )
    _index("discussions", "ix_discussions_status", "tenant_id", "status")
    _index("discussions", "ix_discussions_source", "tenant_id", "source")
    _listed("discussions")
    op.create_table(
        "discussion_participants",
        _tenant(),
        sa.Column("discussion_id", sa.Uuid, nullable=False),
        sa.Column("agent_id", sa.Uuid, nullable=False),
        *_moments(),
        sa.PrimaryKeyConstraint("discussion_id", "agent_id", name="pk_discussion_participants"),
        _reference("discussion_participants", "discussion_id", "discussions"),
        _reference("discussion_participants", "agent_id", "agents"),
        schema=SCHEMA,
    )
    _index("discussion_participants", "ix_discussion_participants_agent", "agent_id")


def _concepts() -> None:
    op.create_table(
        "concepts",
        _id(),
        _tenant(),
        sa.Column("name", sa.String(500), nullable=False),
        sa.Column("category", sa.String(100), nullable=False),
        sa.Column("summary", sa.Text),
        sa.Column("source", sa.String(1024)),
        sa.Column("mentions", sa.Integer, nullable=False, server_default="0"),
        *_moments(),
        *_owned("concepts"),
        _check("concepts", "mentions", "mentions >= 0"),
        schema=SCHEMA,
    )
    _index("concepts", "ix_concepts_name", "tenant_id", "name")
    _index("concepts", "ix_concepts_source", "tenant_id", "source")
    _listed("concepts")


def _relations() -> None:
    table = "concept_relations"
    op.create_table(
        table,
        _id(),
        _tenant(),
        sa.Column("source_id", sa.Uuid, nullable=False),
        sa.Column("target_id", sa.Uuid, nullable=False),
        sa.Column("type", sa.String(50), nullable=False),
        sa.Column("strength", sa.Double, nullable=False),
        sa.Column("mentions", sa.Integer, nullable=False, server_default="0"),
        *_moments(),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.UniqueConstraint("source_id", "target_id", "type", name=f"uq_{table}_source_id"),
        _reference(table, "source_id", "concepts"),
        _reference(table, "target_id", "concepts"),
        _check(table, "strength", "strength > 0 AND strength <= 1"),
        _check(table, "mentions", "mentions >= 0"),
        schema=SCHEMA,
    )
    _index(table, "ix_concept_relations_target", "target_id")
    table = "concept_appearances"
    op.create_table(
        table,
        _tenant(),
        sa.Column("concept_id", sa.Uuid, nullable=False),
        sa.Column("discussion_id", sa.Uuid, nullable=False),
        sa.Column("mentions", sa.Integer, nullable=False, server_default="1"),
        sa.Column("category", sa.String(100)),
        sa.Column("summary", sa.Text),
        *_moments(),
        sa.PrimaryKeyConstraint("concept_id", "discussion_id", name=f"pk_{table}"),
        _reference(table, "concept_id", "concepts"),
        _reference(table, "discussion_id", "discussions"),
        _check(table, "mentions", "mentions >= 0"),
        schema=SCHEMA,
    )
    _index(table, "ix_concept_appearances_discussion", "discussion_id")


def _operations() -> None:
    table = "operations"
    op.create_table(
        table,
        _id(),
        _tenant(),
        sa.Column("type", sa.String(50), nullable=False),
        sa.Column("status", sa.String(50), nullable=False, server_default="queued"),
        sa.Column("agent_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column("saga_id", sa.Uuid),
        sa.Column("context", JSONB, nullable=False, server_default="{}"),
        sa.Column("results", JSONB),
        sa.Column("error", sa.Text),
        sa.Column("steps_total", sa.Integer, nullable=False),
        sa.Column("steps_done", sa.Integer, nullable=False, server_default="0"),
        sa.Column("started_at", MOMENT),
        sa.Column("completed_at", MOMENT),
        *_moments(),
        *_owned(table),
        _reference(table, "agent_id", "agents", None),
        _check(
            table,
            "status",
            "status IN ('queued', 'running', 'cancelling', 'completed', 'failed', 'cancelled')",
        ),
        _check(
            table,
            "steps_done",
            "steps_total BETWEEN 1 AND 20 AND steps_done BETWEEN 0 AND steps_total"
            " AND (status <> 'completed' OR steps_done = steps_total)",
        ),
        _check(
            table,
            "started_at",
            "(started_at IS NOT NULL OR status IN ('queued', 'cancelled'))"
            " AND (started_at IS NULL OR status <> 'queued')",
        ),
        _check(
            table,
            "completed_at",
            "(completed_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled'))"
            " AND (completed_at IS NULL OR started_at IS NULL OR completed_at >= started_at)",
        ),
        _check(table, "results", "(results IS NOT NULL) = (status = 'completed')"),
        _check(table, "error", "(error IS NOT NULL) = (status IN ('failed', 'cancelled'))"),
        schema=SCHEMA,
    )
    for index, column in (
        ("idx_operations_status", "status"),
        ("idx_operations_type", "type"),
        ("idx_operations_agent", "agent_id"),
    ):
        _index(table, index, column)
    _listed(table)


def _steps() -> None:
    table = "execution_steps"
    op.create_table(
        table,
        _id(),
        _tenant(),
        sa.Column("operation_id", sa.Uuid, nullable=False),
        sa.Column("step_number", sa.Integer, nullable=False),
        sa.Column("tool_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("status", sa.String(50), nullable=False, server_default="pending"),
        sa.Column("details", JSONB, nullable=False, server_default="{}"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("error", sa.Text),
        sa.Column("started_at", MOMENT),
        sa.Column("completed_at", MOMENT),
        *_moments(),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.UniqueConstraint("operation_id", "step_number", name=f"uq_{table}_operation_id"),
        _reference(table, "operation_id", "operations"),
        _reference(table, "tool_id", "tools", None),
        _check(
            table,
            "status",
            "status IN ('pending', 'running', 'retrying', 'completed', 'failed', 'undone',"
            " 'skipped')",
        ),
        _check(table, "step_number", "step_number BETWEEN 1 AND 20"),
        _check(
            table,
            "attempts",
            "attempts >= 0 AND (attempts = 0) = (status IN ('pending', 'skipped'))",
        ),
        _check(table, "started_at", "(started_at IS NULL) = (status IN ('pending', 'skipped'))"),
        _check(
            table,
            "completed_at",
            "(completed_at IS NOT NULL) = (status IN ('completed', 'failed', 'undone'))"
            " AND completed_at >= started_at",
        ),
        schema=SCHEMA,
    )
    _listed(table)


def _moves() -> None:
    op.execute((Path(__file__).parent / "moves.sql").read_text())
    for table, (first, moves) in MOVES.items():
        op.execute(
            f"CREATE TRIGGER begins BEFORE INSERT ON {SCHEMA}.{table} FOR EACH ROW"
            f" EXECUTE FUNCTION {SCHEMA}.check_move('{moves}', '{first}')"
        )
        op.execute(
            f"CREATE TRIGGER moves BEFORE UPDATE ON {SCHEMA}.{table} FOR EACH ROW"
            " WHEN (NEW.status <> OLD.status)"
            f" EXECUTE FUNCTION {SCHEMA}.check_move('{moves}', '{first}')"
        )
    for event, when in (("INSERT", ""), ("UPDATE", " WHEN (NEW.status <> OLD.status)")):
        op.execute(
            f"CREATE TRIGGER {event.lower()}s_in_time BEFORE {event} ON {SCHEMA}.execution_steps"
            f" FOR EACH ROW{when} EXECUTE FUNCTION {SCHEMA}.check_step()"
        )
    op.execute(
        f"CREATE TRIGGER ends BEFORE UPDATE ON {SCHEMA}.operations FOR EACH ROW"
        " WHEN (NEW.status <> OLD.status AND NEW.status IN ('completed', 'failed', 'cancelled'))"
        f" EXECUTE FUNCTION {SCHEMA}.check_ended()"
    )


def downgrade() -> None:
    for table in (
        "execution_steps",
        "operations",
        "concept_appearances",
        "concept_relations",
        "concepts",
        "discussion_participants",
        "discussions",
        "agent_tools",
        "tools",
        "agents",
    ):
        op.drop_table(table, schema=SCHEMA)
    op.execute(f"DROP FUNCTION {SCHEMA}.check_move, {SCHEMA}.check_ended, {SCHEMA}.check_step")
