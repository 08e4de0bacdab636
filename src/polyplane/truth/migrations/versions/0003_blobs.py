"""Blobs: what truth knows of files."""

from __future__ import annotations

from alembic import op

from polyplane.truth.statements import script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(script("blob_tables"))


def downgrade() -> None:
    op.execute(script("blob_tables_down"))
