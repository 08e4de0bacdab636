"""What somebody has to do, is told, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks
from polyplane.domains.assistant.matters import states
from polyplane.domains.assistant.matters.tables import (
    MOMENT,
    NOW,
    Owned,
    imported_once,
    listed_by,
    rule,
)
from polyplane.domains.assistant.models import listed, one_of, owned, refers

EVENT_DAYS_MAX: Final = 366
"""How long one event may last."""


class Task(Owned):
    """Something to be done. What is over says since when."""

    __tablename__ = "tasks"
    __table_args__ = (
        one_of("status", tuple(states.TASK_MOVES)),
        rule("priority", "priority BETWEEN 1 AND 5"),
        rule("completed_at", "(completed_at IS NOT NULL) = (status IN ('done', 'cancelled'))"),
        imported_once("tasks"),
        sa.Index("ix_tasks_due_at", "tenant_id", "due_at"),
        listed("tasks"),
    )

    id: Mapped[UUID] = pp.key()
    title: Mapped[str] = mapped_column(sa.String(500))
    body: Mapped[str | None] = mapped_column(sa.Text)
    status: Mapped[str] = mapped_column(sa.String(20), server_default="todo")
    priority: Mapped[int] = mapped_column(sa.SmallInteger, server_default="3")
    due_at: Mapped[datetime | None] = mapped_column(MOMENT)
    completed_at: Mapped[datetime | None] = mapped_column(MOMENT)
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    external_id: Mapped[str | None] = mapped_column(sa.String(255))


class Thread(Owned):
    """Messages that belong together, on one channel."""

    __tablename__ = "message_threads"
    __table_args__ = (
        owned(),
        one_of("channel", states.CHANNELS),
        listed("message_threads"),
    )

    id: Mapped[UUID] = pp.key()
    channel: Mapped[str] = mapped_column(sa.String(20))
    subject: Mapped[str] = marks.personal(sa.String(998), server_default="")


class Message(Owned):
    """One message of a thread; unread until `read_at`."""

    __tablename__ = "messages"
    __table_args__ = (
        owned(),
        refers("thread_id", "message_threads", ondelete="CASCADE"),
        imported_once("messages"),
        sa.Index("ix_messages_thread", "thread_id", "sent_at", "id"),
        sa.Index(
            "ix_messages_unread",
            "tenant_id",
            "owner_id",
            postgresql_where=sa.text("read_at IS NULL"),
        ),
        listed_by("messages", "sent_at"),
    )

    id: Mapped[UUID] = pp.key()
    thread_id: Mapped[UUID]
    sender: Mapped[str] = marks.personal(sa.String(320))
    recipients: Mapped[list[str]] = marks.personal(JSONB, server_default="[]")
    body: Mapped[str] = marks.personal(sa.Text)
    sent_at: Mapped[datetime] = mapped_column(MOMENT, server_default=NOW)
    read_at: Mapped[datetime | None] = mapped_column(MOMENT)
    external_id: Mapped[str | None] = mapped_column(sa.String(255))


class CalendarEvent(Owned):
    """Something that takes place: once, or again and again by a rule, in the time of its zone.

    `starts_at` and `ends_at` are instants, of the first time when it recurs; `zone` is the IANA
    name of the place whose clock it goes by. `last_ends_at` is when it is over for good; null:
    never.
    """

    __tablename__ = "calendar_events"
    __table_args__ = (
        owned(),
        rule(
            "ends_at",
            f"ends_at >= starts_at AND ends_at <= starts_at + interval '{EVENT_DAYS_MAX} days'",
        ),
        rule(
            "starts_at",
            "starts_at >= '1900-01-01 00:00:00+00' AND starts_at < '2200-01-01 00:00:00+00'",
        ),
        rule("zone", "zone ~ '^[A-Za-z0-9_+/-]{1,64}$'"),
        rule("last_ends_at", "recurrence IS NOT NULL OR last_ends_at IS NOT DISTINCT FROM ends_at"),
        imported_once("calendar_events"),
        sa.Index("ix_calendar_events_time", "tenant_id", "starts_at", "last_ends_at"),
        listed("calendar_events"),
    )

    id: Mapped[UUID] = pp.key()
    title: Mapped[str] = marks.personal(sa.String(500))
    place: Mapped[str | None] = marks.personal(sa.String(500))
    body: Mapped[str | None] = marks.personal(sa.Text)
    starts_at: Mapped[datetime] = mapped_column(MOMENT)
    ends_at: Mapped[datetime] = mapped_column(MOMENT)
    zone: Mapped[str] = mapped_column(sa.String(64))
    all_day: Mapped[bool] = mapped_column(server_default=sa.false())
    busy: Mapped[bool] = mapped_column(server_default=sa.true())
    recurrence: Mapped[str | None] = mapped_column(sa.String(500))
    last_ends_at: Mapped[datetime | None] = mapped_column(MOMENT)
    external_id: Mapped[str | None] = mapped_column(sa.String(255))


class CalendarOverride(Owned):
    """What is otherwise of one time of a recurring event: cancelled, or at another time.

    `occurs_at` is the instant the rule gives.
    """

    __tablename__ = "calendar_overrides"
    __table_args__ = (
        refers("event_id", "calendar_events", ondelete="CASCADE"),
        sa.UniqueConstraint("event_id", "occurs_at"),
        rule("cancelled", "cancelled = (starts_at IS NULL) AND cancelled = (ends_at IS NULL)"),
        rule(
            "ends_at",
            f"ends_at >= starts_at AND ends_at <= starts_at + interval '{EVENT_DAYS_MAX} days'",
        ),
    )

    id: Mapped[UUID] = pp.key()
    event_id: Mapped[UUID]
    occurs_at: Mapped[datetime] = mapped_column(MOMENT)
    cancelled: Mapped[bool] = mapped_column(server_default=sa.false())
    starts_at: Mapped[datetime | None] = mapped_column(MOMENT)
    ends_at: Mapped[datetime | None] = mapped_column(MOMENT)
    title: Mapped[str | None] = marks.personal(sa.String(500))


MODELS = (Task, Thread, Message, CalendarEvent, CalendarOverride)
