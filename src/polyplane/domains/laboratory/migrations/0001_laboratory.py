"""The tables of the laboratory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001_laboratory"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "laboratory"
MOMENT = sa.DateTime(timezone=True)


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
    table: str, column: str, target: str, ondelete: str | None = None
) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column, "tenant_id"],
        [f"{SCHEMA}.{target}.id", f"{SCHEMA}.{target}.tenant_id"],
        name=f"fk_{table}_{column}",
        ondelete=ondelete,
    )


def upgrade() -> None:
    op.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    _users_and_experiments()
    _materials()
    _activities()
    _learnings()


def _users_and_experiments() -> None:
    op.create_table(
        "users",
        _id(),
        _tenant(),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        *_moments(),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("id", "tenant_id", name="uq_users_id"),
        sa.UniqueConstraint("email", "tenant_id", name="uq_users_email"),
        schema=SCHEMA,
    )
    _listed("users")
    op.create_table(
        "experiments",
        _id(),
        _tenant(),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("hypothesis", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("status", sa.String(50), nullable=False, server_default="draft"),
        sa.Column("risk_level", sa.String(10), nullable=False, server_default="R1"),
        sa.Column("created_by", sa.Uuid),
        *_moments(),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
        sa.UniqueConstraint("id", "tenant_id", name="uq_experiments_id"),
        _reference("experiments", "created_by", "users"),
        sa.CheckConstraint(
            "status IN ('draft', 'running', 'analysing', 'completed', 'failed', 'archived')",
            name="ck_experiments_status",
        ),
        sa.CheckConstraint(
            "risk_level IN ('R0', 'R1', 'R2', 'R3', 'R4')", name="ck_experiments_risk_level"
        ),
        schema=SCHEMA,
    )
    op.create_index("idx_experiments_status", "experiments", ["status"], schema=SCHEMA)
    _listed("experiments")


def _materials() -> None:
    op.create_table(
        "materials",
        _id(),
        _tenant(),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("properties", JSONB),
        sa.Column("safety_data", JSONB),
        *_moments(),
        sa.PrimaryKeyConstraint("id", name="pk_materials"),
        sa.UniqueConstraint("id", "tenant_id", name="uq_materials_id"),
        schema=SCHEMA,
    )
    _listed("materials")
    op.create_table(
        "experiment_materials",
        _tenant(),
        sa.Column("experiment_id", sa.Uuid, nullable=False),
        sa.Column("material_id", sa.Uuid, nullable=False),
        sa.Column("quantity", sa.Numeric),
        sa.Column("unit", sa.String(50)),
        sa.Column("role", sa.String(100)),
        *_moments(),
        sa.PrimaryKeyConstraint("experiment_id", "material_id", name="pk_experiment_materials"),
        _reference("experiment_materials", "experiment_id", "experiments", "CASCADE"),
        _reference("experiment_materials", "material_id", "materials"),
        sa.CheckConstraint(
            "quantity >= 0 AND quantity < 'Infinity'", name="ck_experiment_materials_quantity"
        ),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_experiment_materials_material", "experiment_materials", ["material_id"], schema=SCHEMA
    )


def _activities() -> None:
    op.create_table(
        "activity_correlations",
        _id(),
        _tenant(),
        sa.Column("experiment_id", sa.Uuid, nullable=False),
        sa.Column("work_order_id", sa.String(255), nullable=False),
        sa.Column("activity_id", sa.String(255), nullable=False),
        sa.Column("controller_id", sa.String(255), nullable=False),
        sa.Column("activity_name", sa.String(255), nullable=False),
        sa.Column("parameters", JSONB, nullable=False, server_default="{}"),
        sa.Column("status", sa.String(50), nullable=False, server_default="scheduled"),
        sa.Column("progress", sa.Double, nullable=False, server_default="0"),
        sa.Column("result", JSONB),
        sa.Column("error", sa.Text),
        sa.Column("retry_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("history", JSONB, nullable=False, server_default="{}"),
        sa.Column("scheduled_at", MOMENT),
        sa.Column("started_at", MOMENT),
        sa.Column("completed_at", MOMENT),
        *_moments(),
        sa.PrimaryKeyConstraint("id", name="pk_activity_correlations"),
        sa.UniqueConstraint(
            "activity_id", "tenant_id", name="uq_activity_correlations_activity_id"
        ),
        _reference("activity_correlations", "experiment_id", "experiments", "CASCADE"),
        sa.CheckConstraint(
            "status IN ('scheduled', 'running', 'retrying', 'completed', 'failed')",
            name="ck_activity_correlations_status",
        ),
        sa.CheckConstraint("retry_count >= 0", name="ck_activity_correlations_retry_count"),
        sa.CheckConstraint("progress BETWEEN 0 AND 1", name="ck_activity_correlations_progress"),
        sa.CheckConstraint(
            "completed_at >= started_at", name="ck_activity_correlations_completed_at"
        ),
        schema=SCHEMA,
    )
    for index, column in (
        ("idx_correlations_experiment", "experiment_id"),
        ("idx_correlations_status", "status"),
    ):
        op.create_index(index, "activity_correlations", [column], schema=SCHEMA)
    _listed("activity_correlations")


def _learnings() -> None:
    op.create_table(
        "learnings",
        _id(),
        _tenant(),
        sa.Column("experiment_id", sa.Uuid, nullable=False),
        sa.Column("type", sa.String(50), nullable=False),
        sa.Column("insight", sa.Text, nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        *_moments(),
        sa.PrimaryKeyConstraint("id", name="pk_learnings"),
        _reference("learnings", "experiment_id", "experiments", "CASCADE"),
        sa.CheckConstraint(
            "type IN ('process', 'material', 'equipment', 'comparison', 'safety')",
            name="ck_learnings_type",
        ),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name="ck_learnings_confidence"),
        schema=SCHEMA,
    )
    op.create_index("ix_learnings_experiment", "learnings", ["experiment_id"], schema=SCHEMA)
    _listed("learnings")


def _listed(table: str) -> None:
    op.create_index(f"ix_{table}_listed", table, ["tenant_id", "created_at", "id"], schema=SCHEMA)


def downgrade() -> None:
    for table in (
        "learnings",
        "activity_correlations",
        "experiment_materials",
        "materials",
        "experiments",
        "users",
    ):
        op.drop_table(table, schema=SCHEMA)
