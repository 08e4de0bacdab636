"""Transformations: how far each is, and the rows that nothing could be made of."""

from __future__ import annotations

from alembic import op

from polyplane.truth.statements import script

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute(script("transforms_tables"))


def downgrade() -> None:
    op.execute(script("transforms_tables_down"))
