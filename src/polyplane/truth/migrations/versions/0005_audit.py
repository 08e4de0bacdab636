"""Audit: who did what, and the seals over it."""

from __future__ import annotations

from alembic import op

from polyplane.truth.statements import script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute(script("audit_tables"))


def downgrade() -> None:
    op.execute(script("audit_tables_down"))
