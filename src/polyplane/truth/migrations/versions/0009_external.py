"""Who users are elsewhere: the identities of OpenID Connect providers."""

from __future__ import annotations

from alembic import op

from polyplane.truth.statements import script

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute(script("external_tables"))


def downgrade() -> None:
    op.execute(script("external_tables_down"))
