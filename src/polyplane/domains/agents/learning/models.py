"""What is noted of files that were learned."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from polyplane.domains.agents.models import SCHEMA, Base


class LearnedFileRow(Base):
    """A file that was learned, and the discussion it is: `digest` of what it held, and how often
    which relation (`relations`: id -> times) was seen in it. The discussion cannot be deleted
    while the file is known: learning again without the file does that, and takes along what
    follows.
    """

    __tablename__ = "learned_files"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["discussion_id", "tenant_id"],
            [f"{SCHEMA}.discussions.id", f"{SCHEMA}.discussions.tenant_id"],
        ),
        sa.UniqueConstraint("tenant_id", "path"),
    )

    discussion_id: Mapped[UUID] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(sa.String(1024, collation="C"))
    digest: Mapped[str] = mapped_column(sa.String(32))
    relations: Mapped[dict[str, int]] = mapped_column(JSONB, server_default="{}")
