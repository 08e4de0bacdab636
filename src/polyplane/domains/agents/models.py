"""What is true of agents: the tables of schema `agents`.

References carry their tenant along, so that no row can point into another tenant. A rule is named
like the column it is about. Users, sessions and the audit log are the plane's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks
from polyplane.domains.agents import states

SCHEMA: Final = "agents"
STEPS_MAX: Final = 20
"""Steps of one operation."""

_NOW: Final = sa.func.now()
_MOMENT: Final = sa.DateTime(timezone=True)


class Base(pp.Model):
    """Every table: whose it is, when it was made and last changed."""

    __abstract__ = True
    metadata = pp.metadata(schema=SCHEMA)
    # What the server fills in on an UPDATE comes back with it; an ETag needs all columns.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012

    tenant_id: Mapped[str] = marks.tenant()
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=_NOW, sort_order=10)
    updated_at: Mapped[datetime] = mapped_column(
        _MOMENT, server_default=_NOW, onupdate=_NOW, sort_order=11
    )


def _one_of(column: str, values: Sequence[str]) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({', '.join(map(repr, values))})", name=column)


def _owned() -> sa.UniqueConstraint:
    """What a reference with its tenant refers to."""
    return sa.UniqueConstraint("id", "tenant_id")


def _refers(column: str, table: str, *, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column, "tenant_id"],
        [f"{SCHEMA}.{table}.id", f"{SCHEMA}.{table}.tenant_id"],
        ondelete=ondelete,
    )


def _listed(table: str) -> sa.Index:
    """The order in which rows are listed, page by page."""
    return sa.Index(f"ix_{table}_listed", "tenant_id", "created_at", "id")


class Agent(Base):
    """Who does operations with tools, and takes part in discussions."""

    __tablename__ = "agents"
    __table_args__ = (_owned(), _listed("agents"))

    id: Mapped[UUID] = pp.key()
    name: Mapped[str] = mapped_column(sa.String(255))
    type: Mapped[str] = mapped_column(sa.String(50))
    description: Mapped[str | None] = mapped_column(sa.Text)


class Tool(Base):
    """What an agent can use. `capability` names what it does, and the code that does it."""

    __tablename__ = "tools"
    __table_args__ = (
        _owned(),
        sa.Index("ix_tools_capability", "tenant_id", "capability"),
        _listed("tools"),
    )

    id: Mapped[UUID] = pp.key()
    name: Mapped[str] = mapped_column(sa.String(255))
    capability: Mapped[str] = mapped_column(sa.String(100))
    description: Mapped[str | None] = mapped_column(sa.Text)


class AgentTool(Base):
    """That an agent can use a tool."""

    __tablename__ = "agent_tools"
    __table_args__ = (
        _refers("agent_id", "agents", ondelete="CASCADE"),
        _refers("tool_id", "tools", ondelete="CASCADE"),
        sa.Index("ix_agent_tools_tool", "tool_id"),
    )

    agent_id: Mapped[UUID] = mapped_column(primary_key=True)
    tool_id: Mapped[UUID] = mapped_column(primary_key=True)


class Discussion(Base):
    """Where agents talk, or something written, in which concepts appear.

    `source` says what it was learned from; null when somebody made it.
    """

    __tablename__ = "discussions"
    __table_args__ = (
        _owned(),
        _one_of("status", tuple(states.DISCUSSION_MOVES)),
        sa.Index("ix_discussions_status", "tenant_id", "status"),
        sa.Index("ix_discussions_source", "tenant_id", "source"),
        _listed("discussions"),
    )

    id: Mapped[UUID] = pp.key()
    title: Mapped[str] = mapped_column(sa.String(500))
    status: Mapped[str] = mapped_column(sa.String(50), server_default="active")
    source: Mapped[str | None] = mapped_column(sa.String(1024))


class DiscussionParticipant(Base):
    """That an agent takes part in a discussion."""

    __tablename__ = "discussion_participants"
    __table_args__ = (
        _refers("discussion_id", "discussions", ondelete="CASCADE"),
        _refers("agent_id", "agents", ondelete="CASCADE"),
        sa.Index("ix_discussion_participants_agent", "agent_id"),
    )

    discussion_id: Mapped[UUID] = mapped_column(primary_key=True)
    agent_id: Mapped[UUID] = mapped_column(primary_key=True)


class Concept(Base):
    """Something that is known. `source` says what it was learned from; null: somebody made it."""

    __tablename__ = "concepts"
    __table_args__ = (
        _owned(),
        sa.CheckConstraint("mentions >= 0", name="mentions"),
        sa.Index("ix_concepts_name", "tenant_id", "name"),
        sa.Index("ix_concepts_source", "tenant_id", "source"),
        _listed("concepts"),
    )

    id: Mapped[UUID] = pp.key()
    name: Mapped[str] = mapped_column(sa.String(500))
    category: Mapped[str] = mapped_column(sa.String(100))
    summary: Mapped[str | None] = mapped_column(sa.Text)
    source: Mapped[str | None] = mapped_column(sa.String(1024))
    mentions: Mapped[int] = mapped_column(server_default="0")


class ConceptRelation(Base):
    """That a concept relates to another in one way (`type`), and how strongly: above 0, to 1.

    `mentions` is how often that was seen; 0 when nobody counted.
    """

    __tablename__ = "concept_relations"
    __table_args__ = (
        _refers("source_id", "concepts", ondelete="CASCADE"),
        _refers("target_id", "concepts", ondelete="CASCADE"),
        sa.UniqueConstraint("source_id", "target_id", "type"),
        sa.CheckConstraint("strength > 0 AND strength <= 1", name="strength"),
        sa.CheckConstraint("mentions >= 0", name="mentions"),
        sa.Index("ix_concept_relations_target", "target_id"),
    )

    id: Mapped[UUID] = pp.key()
    source_id: Mapped[UUID]
    target_id: Mapped[UUID]
    type: Mapped[str] = mapped_column(sa.String(50))
    strength: Mapped[float] = mapped_column(sa.Double)
    mentions: Mapped[int] = mapped_column(server_default="0")


class ConceptAppearance(Base):
    """That a concept appears in a discussion, how often, and as what: by that discussion alone."""

    __tablename__ = "concept_appearances"
    __table_args__ = (
        _refers("concept_id", "concepts", ondelete="CASCADE"),
        _refers("discussion_id", "discussions", ondelete="CASCADE"),
        sa.CheckConstraint("mentions >= 0", name="mentions"),
        sa.Index("ix_concept_appearances_discussion", "discussion_id"),
    )

    concept_id: Mapped[UUID] = mapped_column(primary_key=True)
    discussion_id: Mapped[UUID] = mapped_column(primary_key=True)
    mentions: Mapped[int] = mapped_column(server_default="1")
    category: Mapped[str | None] = mapped_column(sa.String(100))
    summary: Mapped[str | None] = mapped_column(sa.Text)


class Operation(Base):
    """Something an agent is to do, step by step; `saga_id` is what does it.

    `user_id` is who asked for it, if a person did. It has results when it is completed, and an
    error when it has failed or was cancelled.
    """

    __tablename__ = "operations"
    __table_args__ = (
        _owned(),
        _refers("agent_id", "agents"),
        _one_of("status", tuple(states.OPERATION_MOVES)),
        sa.CheckConstraint(
            f"steps_total BETWEEN 1 AND {STEPS_MAX} AND steps_done BETWEEN 0 AND steps_total"
            " AND (status <> 'completed' OR steps_done = steps_total)",
            name="steps_done",
        ),
        sa.CheckConstraint(
            "(started_at IS NOT NULL OR status IN ('queued', 'cancelled'))"
            " AND (started_at IS NULL OR status <> 'queued')",
            name="started_at",
        ),
        sa.CheckConstraint(
            "(completed_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled'))"
            " AND (completed_at IS NULL OR started_at IS NULL OR completed_at >= started_at)",
            name="completed_at",
        ),
        sa.CheckConstraint("(results IS NOT NULL) = (status = 'completed')", name="results"),
        sa.CheckConstraint(
            "(error IS NOT NULL) = (status IN ('failed', 'cancelled'))", name="error"
        ),
        sa.Index("idx_operations_status", "status"),
        sa.Index("idx_operations_type", "type"),
        sa.Index("idx_operations_agent", "agent_id"),
        _listed("operations"),
    )

    id: Mapped[UUID] = pp.key()
    type: Mapped[str] = mapped_column(sa.String(50))
    status: Mapped[str] = mapped_column(sa.String(50), server_default="queued")
    agent_id: Mapped[UUID]
    user_id: Mapped[UUID | None]
    saga_id: Mapped[UUID | None]
    context: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    results: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[str | None] = mapped_column(sa.Text)
    steps_total: Mapped[int]
    steps_done: Mapped[int] = mapped_column(server_default="0")
    started_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    completed_at: Mapped[datetime | None] = mapped_column(_MOMENT)


class ExecutionStep(Base):
    """One step of an operation: the use of one tool. Numbers begin with 1, each is there once.

    `details` are what the tool is given and, once it is completed, what it gave; `attempts` says
    how often it was begun.
    """

    __tablename__ = "execution_steps"
    __table_args__ = (
        _refers("operation_id", "operations", ondelete="CASCADE"),
        _refers("tool_id", "tools"),
        sa.UniqueConstraint("operation_id", "step_number"),
        _one_of("status", tuple(states.STEP_MOVES)),
        sa.CheckConstraint(f"step_number BETWEEN 1 AND {STEPS_MAX}", name="step_number"),
        sa.CheckConstraint(
            "attempts >= 0 AND (attempts = 0) = (status IN ('pending', 'skipped'))",
            name="attempts",
        ),
        sa.CheckConstraint(
            "(started_at IS NULL) = (status IN ('pending', 'skipped'))", name="started_at"
        ),
        sa.CheckConstraint(
            "(completed_at IS NOT NULL) = (status IN ('completed', 'failed', 'undone'))"
            " AND completed_at >= started_at",
            name="completed_at",
        ),
        _listed("execution_steps"),
    )

    id: Mapped[UUID] = pp.key()
    operation_id: Mapped[UUID]
    step_number: Mapped[int]
    tool_id: Mapped[UUID]
    name: Mapped[str] = mapped_column(sa.String(255))
    status: Mapped[str] = mapped_column(sa.String(50), server_default="pending")
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    attempts: Mapped[int] = mapped_column(server_default="0")
    error: Mapped[str | None] = mapped_column(sa.Text)
    started_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    completed_at: Mapped[datetime | None] = mapped_column(_MOMENT)


MODELS: Final = (
    Agent,
    Tool,
    AgentTool,
    Discussion,
    DiscussionParticipant,
    Concept,
    ConceptRelation,
    ConceptAppearance,
    Operation,
    ExecutionStep,
)
