"""What logins without any right on the outbox may still do to it."""

from __future__ import annotations

from alembic import op

from polyplane.truth.statements import script

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute(script("logins"))


def downgrade() -> None:
    op.execute(script("logins_down"))
