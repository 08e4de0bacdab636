"""How the application is configured, and what models have made for somebody."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane.domains.assistant.matters import states
from polyplane.domains.assistant.matters.tables import Owned, imported_once, rule
from polyplane.domains.assistant.models import Base, listed, one_of, owned, refers


class Configuration(Base):
    """One typed value of the application's configuration; `version` counts its changes from 1."""

    __tablename__ = "configuration"
    __table_args__ = (
        sa.UniqueConstraint("key", "tenant_id"),
        one_of("kind", states.VALUE_KINDS),
        rule("key", "key ~ '^[a-z][a-z0-9_.-]{0,254}$'"),
        rule("version", "version >= 1"),
        rule(
            "value",
            "CASE kind"
            " WHEN 'text' THEN jsonb_typeof(value) = 'string'"
            " WHEN 'integer' THEN jsonb_typeof(value) = 'number' AND value::text ~ '^-?[0-9]+$'"
            " WHEN 'decimal' THEN jsonb_typeof(value) = 'string'"
            " AND value #>> '{}' ~ '^-?[0-9]{1,20}([.][0-9]{1,20})?$'"
            " WHEN 'boolean' THEN jsonb_typeof(value) = 'boolean'"
            " WHEN 'object' THEN jsonb_typeof(value) = 'object'"
            " ELSE jsonb_typeof(value) = 'array' END",
        ),
        listed("configuration"),
    )

    id: Mapped[UUID] = pp.key()
    key: Mapped[str] = mapped_column(sa.String(255))
    kind: Mapped[str] = mapped_column(sa.String(20))
    value: Mapped[Any] = mapped_column(JSONB)
    version: Mapped[int] = mapped_column(server_default="1")
    description: Mapped[str | None] = mapped_column(sa.String(1_000))


class ModelOutput(Owned):
    """What a model made: from which prompt, with how many tokens, at what cost."""

    __tablename__ = "model_outputs"
    __table_args__ = (
        owned(),
        rule("input_tokens", "input_tokens >= 0"),
        rule("output_tokens", "output_tokens >= 0"),
        rule("cost", "cost >= 0"),
        rule("currency", "currency ~ '^[A-Z]{3}$'"),
        imported_once("model_outputs"),
        sa.Index("ix_model_outputs_model", "tenant_id", "model"),
        listed("model_outputs"),
    )

    id: Mapped[UUID] = pp.key()
    model: Mapped[str] = mapped_column(sa.String(255))
    purpose: Mapped[str] = mapped_column(sa.String(100))
    prompt: Mapped[str] = mapped_column(sa.Text)
    content: Mapped[str] = mapped_column(sa.Text)
    input_tokens: Mapped[int] = mapped_column(server_default="0")
    output_tokens: Mapped[int] = mapped_column(server_default="0")
    cost: Mapped[Decimal] = mapped_column(sa.Numeric(18, 8), server_default="0")
    currency: Mapped[str] = mapped_column(sa.String(3), server_default="USD")
    external_id: Mapped[str | None] = mapped_column(sa.String(255))


class ModelOutputDocument(Owned):
    """That a model's output was made from a document."""

    __tablename__ = "model_output_documents"
    __table_args__ = (
        refers("output_id", "model_outputs", ondelete="CASCADE"),
        refers("document_id", "documents", ondelete="CASCADE"),
        sa.Index("ix_model_output_documents_document", "document_id"),
    )

    output_id: Mapped[UUID] = mapped_column(primary_key=True)
    document_id: Mapped[UUID] = mapped_column(primary_key=True)


MODELS = (Configuration, ModelOutput, ModelOutputDocument)
