"""What is true in the laboratory: the tables of schema `laboratory`.

References to a user-owned row carry its tenant along, so that no row can point into another
tenant. A rule is named like the column it is about.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks
from polyplane.domains.laboratory import lifecycle

SCHEMA: Final = "laboratory"
EXPERIMENT_STATUSES: Final = ("draft", "running", "analysing", "completed", "failed", "archived")
RISK_LEVELS: Final = ("R0", "R1", "R2", "R3", "R4")
LEARNING_TYPES: Final = ("process", "material", "equipment", "comparison", "safety")

_NOW: Final = sa.func.now()
_MOMENT: Final = sa.DateTime(timezone=True)


class Base(pp.Model):
    """Every table of the laboratory: whose it is, when it was made and last changed."""

    __abstract__ = True
    metadata = pp.metadata(schema=SCHEMA)
    # What the server fills in on an UPDATE comes back with it; an ETag needs all columns.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012

    tenant_id: Mapped[str] = marks.tenant()
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=_NOW, sort_order=10)
    updated_at: Mapped[datetime] = mapped_column(
        _MOMENT, server_default=_NOW, onupdate=_NOW, sort_order=11
    )


def _one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
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


class User(Base):
    """Who creates experiments."""

    __tablename__ = "users"
    __table_args__ = (
        _owned(),
        sa.UniqueConstraint("email", "tenant_id"),
        _listed("users"),
    )

    id: Mapped[UUID] = pp.key()
    name: Mapped[str] = marks.personal(sa.String(255))
    email: Mapped[str] = marks.personal(sa.String(320))


class Experiment(Base):
    """A question to nature and how far its answer is."""

    __tablename__ = "experiments"
    __table_args__ = (
        _owned(),
        _refers("created_by", "users"),
        _one_of("status", EXPERIMENT_STATUSES),
        _one_of("risk_level", RISK_LEVELS),
        sa.Index("idx_experiments_status", "status"),
        _listed("experiments"),
    )

    id: Mapped[UUID] = pp.key()
    name: Mapped[str] = mapped_column(sa.String(255))
    hypothesis: Mapped[str] = mapped_column(sa.Text)
    description: Mapped[str | None] = mapped_column(sa.Text)
    status: Mapped[str] = mapped_column(sa.String(50), server_default="draft")
    risk_level: Mapped[str] = mapped_column(sa.String(10), server_default="R1")
    created_by: Mapped[UUID | None]


class Material(Base):
    """Something experiments are made with."""

    __tablename__ = "materials"
    __table_args__ = (_owned(), _listed("materials"))

    id: Mapped[UUID] = pp.key()
    name: Mapped[str] = mapped_column(sa.String(255))
    type: Mapped[str] = mapped_column(sa.String(100))
    properties: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    safety_data: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class ExperimentMaterial(Base):
    """How much of a material an experiment uses, and as what."""

    __tablename__ = "experiment_materials"
    __table_args__ = (
        _refers("experiment_id", "experiments", ondelete="CASCADE"),
        _refers("material_id", "materials"),
        sa.CheckConstraint("quantity >= 0 AND quantity < 'Infinity'", name="quantity"),
        sa.Index("ix_experiment_materials_material", "material_id"),
    )

    experiment_id: Mapped[UUID] = mapped_column(primary_key=True)
    material_id: Mapped[UUID] = mapped_column(primary_key=True)
    quantity: Mapped[Decimal | None] = mapped_column(sa.Numeric)
    unit: Mapped[str | None] = mapped_column(sa.String(50))
    role: Mapped[str | None] = mapped_column(sa.String(100))


class ActivityCorrelation(Base):
    """One activity of an experiment and what its controller reported of it.

    `history` is the join of all reports (`lifecycle.to_json`); what else a report can change is a
    function of it.
    """

    __tablename__ = "activity_correlations"
    __table_args__ = (
        sa.UniqueConstraint("activity_id", "tenant_id"),
        _refers("experiment_id", "experiments", ondelete="CASCADE"),
        _one_of("status", lifecycle.STATUSES),
        sa.CheckConstraint("retry_count >= 0", name="retry_count"),
        sa.CheckConstraint("progress BETWEEN 0 AND 1", name="progress"),
        sa.CheckConstraint("completed_at >= started_at", name="completed_at"),
        sa.Index("idx_correlations_experiment", "experiment_id"),
        sa.Index("idx_correlations_status", "status"),
        _listed("activity_correlations"),
    )

    id: Mapped[UUID] = pp.key()
    experiment_id: Mapped[UUID]
    work_order_id: Mapped[str] = mapped_column(sa.String(255))
    activity_id: Mapped[str] = mapped_column(sa.String(255))
    controller_id: Mapped[str] = mapped_column(sa.String(255))
    activity_name: Mapped[str] = mapped_column(sa.String(255))
    parameters: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    status: Mapped[str] = mapped_column(sa.String(50), server_default="scheduled")
    progress: Mapped[float] = mapped_column(sa.Double, server_default="0")
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[str | None] = mapped_column(sa.Text)
    retry_count: Mapped[int] = mapped_column(server_default="0")
    history: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    scheduled_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    started_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    completed_at: Mapped[datetime | None] = mapped_column(_MOMENT)


class Learning(Base):
    """What an experiment taught: the row behind an item of `experiment_learnings`."""

    __tablename__ = "learnings"
    __table_args__ = (
        _refers("experiment_id", "experiments", ondelete="CASCADE"),
        _one_of("type", LEARNING_TYPES),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
        sa.Index("ix_learnings_experiment", "experiment_id"),
        _listed("learnings"),
    )

    id: Mapped[UUID] = pp.key()
    experiment_id: Mapped[UUID]
    type: Mapped[str] = mapped_column(sa.String(50))
    insight: Mapped[str] = mapped_column(sa.Text)
    confidence: Mapped[float] = mapped_column(sa.Double)


MODELS: Final = (User, Experiment, Material, ExperimentMaterial, ActivityCorrelation, Learning)
