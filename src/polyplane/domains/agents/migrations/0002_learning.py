"""What is noted of files that were learned."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002_learning"
down_revision = "0001_agents"
branch_labels = None
depends_on = None

SCHEMA: Final = "agents"


def upgrade() -> None:
    now, moment = sa.func.now(), sa.DateTime(timezone=True)
    op.create_table(
        "learned_files",
        sa.Column("tenant_id", sa.String(64), nullable=False, server_default="default"),
        sa.Column("discussion_id", sa.Uuid, nullable=False),
        sa.Column("path", sa.String(1024, collation="C"), nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("relations", JSONB, nullable=False, server_default="{}"),
        sa.Column("created_at", moment, nullable=False, server_default=now),
        sa.Column("updated_at", moment, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("discussion_id", name="pk_learned_files"),
        sa.UniqueConstraint("tenant_id", "path", name="uq_learned_files_tenant_id"),
        sa.ForeignKeyConstraint(
            ["discussion_id", "tenant_id"],
            [f"{SCHEMA}.discussions.id", f"{SCHEMA}.discussions.tenant_id"],
            name="fk_learned_files_discussion_id",
        ),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("learned_files", schema=SCHEMA)
