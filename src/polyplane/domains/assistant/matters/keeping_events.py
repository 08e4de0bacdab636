"""Events as they are kept: checked, and with the time after which they never take place again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, time
from typing import Any
from uuid import UUID

import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.assistant.matters import recurrence
from polyplane.domains.assistant.matters.calendar import Span
from polyplane.domains.assistant.matters.models_work import (
    EVENT_DAYS_MAX,
    CalendarEvent,
    CalendarOverride,
)

TIMES = ("starts_at", "ends_at", "zone", "all_day", "recurrence")
"""What says when an event takes place."""


async def timed(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` of an event, all of TIMES among them, with `last_ends_at`. Raises Refused."""
    starts_at: datetime = values["starts_at"].replace(microsecond=0)
    ends_at: datetime = values["ends_at"].replace(microsecond=0)
    zone = recurrence.zone_of(values["zone"])
    if not 1900 <= starts_at.year < 2200:
        raise pp.Refused("An event is between 1900 and 2200.", field="starts_at")
    if ends_at < starts_at:
        raise pp.Refused("It ends before it begins.", field="ends_at")
    if (ends_at - starts_at).days > EVENT_DAYS_MAX:
        raise pp.Refused(f"An event lasts at most {EVENT_DAYS_MAX} days.", field="ends_at")
    if values["all_day"]:
        for field, at in (("starts_at", starts_at), ("ends_at", ends_at)):
            if recurrence.on_clock(at, zone).time() != time():
                raise pp.Refused(f"A whole day is from midnight in {zone.key}.", field=field)
        if ends_at == starts_at:
            raise pp.Refused("It has no day.", field="ends_at")
    found = {**values, "starts_at": starts_at, "ends_at": ends_at, "last_ends_at": ends_at}
    if values["recurrence"] is not None:
        rule = recurrence.parsed(values["recurrence"])
        last = await asyncio.to_thread(recurrence.last_start, rule, starts_at, zone)
        # A day more, for whole days are not all of one length.
        found["last_ends_at"] = (
            None if last is None else last + (ends_at - starts_at) + recurrence.A_DAY
        )
    return found


async def change_times(
    tx: pp.Write, event: CalendarEvent, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """`changes` with what follows from them. What was otherwise of single times is forgotten when
    the event takes place at others.
    """
    named = {name: changes[name] for name in TIMES if name in changes}
    known = {name: getattr(event, name) for name in TIMES}
    if not named or named == {name: known[name] for name in named}:
        return dict(changes)
    await tx.execute(
        sa.delete(CalendarOverride).where(
            CalendarOverride.event_id == event.id, CalendarOverride.tenant_id == tx.tenant
        )
    )
    return {**changes, **await timed({**known, **named})}


async def override(
    tx: pp.Write, event: CalendarEvent, occurs_at: datetime, to: Span | None, title: str | None
) -> CalendarOverride:
    """Cancel the time `occurs_at` of a recurring event, or move it. Raises Refused when it does
    not take place then.
    """
    if event.recurrence is None:
        raise pp.Refused("The event does not recur; change the event.", field="event_id")
    rule, zone = recurrence.parsed(event.recurrence), recurrence.zone_of(event.zone)
    until = occurs_at + recurrence.A_DAY
    begins = recurrence.starts(rule, event.starts_at, zone, occurs_at, until)
    if await asyncio.to_thread(next, iter(begins), None) != occurs_at:
        raise pp.Refused("It does not take place then.", field="occurs_at")
    if to is not None and to.ends_at < to.starts_at:
        raise pp.Refused("It ends before it begins.", field="ends_at")
    row = await _known(tx, event.id, occurs_at)
    if row is None:
        row = CalendarOverride(
            tenant_id=event.tenant_id,
            owner_id=event.owner_id,
            event_id=event.id,
            occurs_at=occurs_at,
        )
        tx.add(row)
    row.cancelled = to is None
    row.starts_at, row.ends_at = to if to is not None else (None, None)
    row.title = title if to is not None else None
    await tx.flush()
    return row


async def restore(tx: pp.Write, event: CalendarEvent, occurs_at: datetime) -> None:
    """Let a time of a recurring event be as its rule says. NotFound when it is."""
    row = await _known(tx, event.id, occurs_at)
    if row is None:
        raise pp.NotFound("Nothing is otherwise of this time.", field="occurs_at")
    await tx.delete(row)


async def _known(tx: pp.Write, event_id: UUID, occurs_at: datetime) -> CalendarOverride | None:
    asked = sa.select(CalendarOverride).where(
        CalendarOverride.event_id == event_id,
        CalendarOverride.tenant_id == tx.tenant,
        CalendarOverride.occurs_at == occurs_at,
    )
    found: CalendarOverride | None = (await tx.scalars(asked)).one_or_none()
    return found
