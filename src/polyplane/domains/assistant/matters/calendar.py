"""What takes place in a span of time, what of it is busy, and what is free."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import perf_counter
from typing import Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

import polyplane as pp
from polyplane.domains.assistant.matters import recurrence
from polyplane.domains.assistant.matters.models_work import CalendarEvent, CalendarOverride

SPAN_DAYS_MAX: Final = 400
EVENTS_MAX: Final = 2_000
"""Events, and series of them, that one look may be about."""
OCCURRENCES_MAX: Final = 5_000
EXPAND_S_MAX: Final = 2.0
"""How long one look may compute."""


class Span(NamedTuple):
    """From one instant up to another."""

    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time that an event takes place; `occurs_at` is when it would by its rule."""

    event_id: UUID
    title: str
    place: str | None
    occurs_at: datetime
    starts_at: datetime
    ends_at: datetime
    zone: str
    all_day: bool
    busy: bool
    moved: bool


async def occurrences(session: AsyncSession, tenant: str, within: Span) -> list[Occurrence]:
    """All that takes place within the span, in order, of what the session may see.

    Raises Refused for a span that is none, TooLarge for one in which there is too much.
    """
    check_span(within)
    moved_in = sa.select(CalendarOverride.event_id).where(
        CalendarOverride.tenant_id == tenant,
        CalendarOverride.starts_at < within.ends_at,
        CalendarOverride.ends_at >= within.starts_at,
    )
    takes_place = sa.and_(
        CalendarEvent.starts_at < within.ends_at,
        sa.or_(
            CalendarEvent.last_ends_at.is_(None), CalendarEvent.last_ends_at >= within.starts_at
        ),
    )
    asked = (
        sa.select(CalendarEvent)
        .where(
            CalendarEvent.tenant_id == tenant,
            sa.or_(takes_place, CalendarEvent.id.in_(moved_in)),
        )
        .order_by(CalendarEvent.starts_at, CalendarEvent.id)
        .limit(EVENTS_MAX + 1)
    )
    events = list(await session.scalars(asked))
    if len(events) > EVENTS_MAX:
        raise _too_much()
    recurring = [it.id for it in events if it.recurrence]
    otherwise: dict[UUID, list[CalendarOverride]] = {}
    if recurring:
        asked_otherwise = sa.select(CalendarOverride).where(
            CalendarOverride.tenant_id == tenant, CalendarOverride.event_id.in_(recurring)
        )
        for it in await session.scalars(asked_otherwise):
            otherwise.setdefault(it.event_id, []).append(it)
    return await asyncio.to_thread(_expanded, events, otherwise, within)


def check_span(within: Span) -> None:
    """Raise Refused for a span that ends before it begins, or is too long."""
    length = within.ends_at - within.starts_at
    if not timedelta(0) < length <= timedelta(days=SPAN_DAYS_MAX):
        raise pp.Refused(f"A span has more than nothing and at most {SPAN_DAYS_MAX} days.")
    if not 1900 <= within.starts_at.year < 2200:
        raise pp.Refused("A span is between 1900 and 2200.")


def _expanded(
    events: Sequence[CalendarEvent],
    otherwise: Mapping[UUID, Sequence[CalendarOverride]],
    within: Span,
) -> list[Occurrence]:
    """The occurrences of all of them, in order. Takes a bounded time, whatever the rules say."""
    until_s, found = perf_counter() + EXPAND_S_MAX, list[Occurrence]()
    for event in events:
        for it in expanded(event, otherwise.get(event.id, ()), within):
            found.append(it)
            if len(found) > OCCURRENCES_MAX or perf_counter() > until_s:
                raise _too_much()
        if perf_counter() > until_s:
            raise _too_much()
    return sorted(found, key=lambda it: (it.starts_at, it.ends_at, str(it.event_id)))


def expanded(
    event: CalendarEvent, otherwise: Sequence[CalendarOverride], within: Span
) -> Iterator[Occurrence]:
    """The times within the span at which one event takes place, or was moved to."""
    zone = recurrence.zone_of(event.zone)
    length = event.ends_at - event.starts_at
    days = (
        recurrence.on_clock(event.ends_at, zone).date()
        - recurrence.on_clock(event.starts_at, zone).date()
    ).days

    def end_of(at: datetime) -> datetime:
        if event.all_day:  # so many days on the calendar, however long each is
            return recurrence.instant(recurrence.on_clock(at, zone) + timedelta(days=days), zone)
        return at + length

    def told(occurs_at: datetime, span: Span, title: str, *, moved: bool) -> Occurrence:
        return Occurrence(
            event.id,
            title,
            event.place,
            occurs_at,
            span.starts_at.astimezone(UTC),
            span.ends_at.astimezone(UTC),
            event.zone,
            event.all_day,
            event.busy,
            moved,
        )

    known = {it.occurs_at: it for it in otherwise}
    since = within.starts_at - length - timedelta(days=1)
    for at in _begins(event, Span(since, within.ends_at)):
        span = Span(at, end_of(at))
        if at not in known and overlap(span, within):
            yield told(at, span, event.title, moved=False)
    for at, it in known.items():
        if it.starts_at is not None and it.ends_at is not None:
            span = Span(it.starts_at, it.ends_at)
            if overlap(span, within):
                yield told(at, span, it.title or event.title, moved=True)


def _begins(event: CalendarEvent, within: Span) -> Iterable[datetime]:
    if event.recurrence is None:
        return [event.starts_at]
    zone = recurrence.zone_of(event.zone)
    rule = recurrence.parsed(event.recurrence)
    return recurrence.starts(rule, event.starts_at, zone, within.starts_at, within.ends_at)


def overlap(one: Span, other: Span) -> bool:
    """Whether they have a moment in common; what has no length is in the one that holds it."""
    if one.starts_at == one.ends_at:
        return other.starts_at <= one.starts_at < other.ends_at
    return one.starts_at < other.ends_at and one.ends_at > other.starts_at


def merged(spans: Iterable[Span], within: Span) -> list[Span]:
    """The same time, cut to `within`, in order, without overlaps or gaps of nothing."""
    found: list[Span] = []
    for it in sorted(spans):
        span = Span(max(it.starts_at, within.starts_at), min(it.ends_at, within.ends_at))
        if span.starts_at >= span.ends_at:
            continue
        if found and span.starts_at <= found[-1].ends_at:
            found[-1] = Span(found[-1].starts_at, max(found[-1].ends_at, span.ends_at))
        else:
            found.append(span)
    return found


def between(busy: Sequence[Span], within: Span) -> list[Span]:
    """What is free: the rest of `within` beside the merged `busy`."""
    edges = [
        Span(within.starts_at, within.starts_at),
        *busy,
        Span(within.ends_at, within.ends_at),
    ]
    gaps = [Span(before.ends_at, after.starts_at) for before, after in pairwise(edges)]
    return [gap for gap in gaps if gap.starts_at < gap.ends_at]


def _too_much() -> pp.PolyplaneError:
    return pp.Refused(
        "There is too much in this span to be shown at once.", fix="Ask for a shorter one."
    )
