"""What was answered to requests under an Idempotency-Key."""

from __future__ import annotations

from alembic import op

from polyplane.truth.statements import script

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute(script("repeats_tables"))


def downgrade() -> None:
    op.execute(script("repeats_tables_down"))
