"""Sagas and their steps."""

from __future__ import annotations

from alembic import op

from polyplane.truth.statements import script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(script("sagas_schema"))


def downgrade() -> None:
    op.execute(script("sagas_down"))
