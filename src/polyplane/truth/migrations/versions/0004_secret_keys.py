"""Data keys: what secrets are encrypted with."""

from __future__ import annotations

from alembic import op

from polyplane.truth.statements import script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute(script("data_keys_tables"))


def downgrade() -> None:
    op.execute(script("data_keys_tables_down"))
