"""The plane's own tables."""

from __future__ import annotations

from alembic import op

from polyplane.truth.statements import script

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(script("base"))


def downgrade() -> None:
    op.execute(script("base_down"))
