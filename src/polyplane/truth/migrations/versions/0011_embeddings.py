"""Vectors that cost money, kept; and what was spent on them."""

from __future__ import annotations

from alembic import op

from polyplane.truth.statements import script

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute(script("embeddings_tables"))


def downgrade() -> None:
    op.execute(script("embeddings_tables_down"))
