"""Users, organizations, members, sessions and API keys."""

from __future__ import annotations

from alembic import op

from polyplane.truth.statements import script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute(script("identity_tables"))


def downgrade() -> None:
    op.execute(script("identity_tables_down"))
