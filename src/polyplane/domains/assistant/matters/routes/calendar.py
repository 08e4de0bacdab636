"""Events that take place once or again and again, and when one is busy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

import polyplane as pp
from polyplane.domains.assistant.matters import calendar, keeping_events
from polyplane.domains.assistant.matters.calendar import SPAN_DAYS_MAX, Occurrence, Span
from polyplane.domains.assistant.matters.desk import AtDesk, locked
from polyplane.domains.assistant.matters.models_work import CalendarEvent
from polyplane.domains.assistant.matters.shapes import (
    EventChange,
    EventGiven,
    EventShown,
    Moment,
    OccurrenceShown,
    OverrideGiven,
    OverrideShown,
    SpanShown,
    TimeShown,
)
from polyplane.domains.assistant.permissions import READ, WRITE
from polyplane.web import After, Limit, Page, check_if_match, problem_responses, repeatable

router = APIRouter()
Start = Annotated[Moment | None, Query(description="From when; now, if it is left out.")]
Days = Annotated[int, Query(ge=1, le=SPAN_DAYS_MAX, description="For how many days of 24 h.")]


def _within(start: datetime | None, days: int) -> Span:
    since = datetime.now(UTC) if start is None else start
    if not 1900 <= since.year < 2199:  # beyond, there are no sums of times
        raise pp.Refused("A span is between 1900 and 2199.", field="start")
    return Span(since, since + timedelta(days=days))


async def _taking_place(desk: AtDesk, within: Span) -> list[Occurrence]:
    async with desk.plane.acting(desk.caller).read() as session:
        return await calendar.occurrences(session, desk.tenant, within)


@router.post(
    "/calendar/events",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses=problem_responses(409),
)
async def create_event(given: EventGiven, desk: AtDesk) -> EventShown:
    """Add an event. Conflict when its external id is known."""
    columns = await keeping_events.timed(given.model_dump(exclude={"owner_id"}))
    owner_id = desk.owner(given.owner_id)
    row = CalendarEvent(tenant_id=desk.tenant, owner_id=owner_id, **columns)
    return await desk.add(row, EventShown)


@router.get("/calendar/events", dependencies=[READ])
async def list_events(desk: AtDesk, after: After = None, limit: Limit = 50) -> Page[EventShown]:
    """Events, the newest first, each once however often it takes place."""
    return await desk.page(CalendarEvent, EventShown, after, limit)


@router.get("/calendar/events/{event_id}", dependencies=[READ], responses=problem_responses(404))
async def read_event(event_id: UUID, desk: AtDesk) -> EventShown:
    """One event."""
    return await desk.read(CalendarEvent, event_id, EventShown)


@router.patch(
    "/calendar/events/{event_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def change_event(event_id: UUID, change: EventChange, desk: AtDesk) -> EventShown:
    """Change what is named, of all times it takes place. When those change, what was otherwise of
    single ones is forgotten.
    """
    async with desk.plane.acting(desk.caller).write() as tx:
        row = await locked(tx, CalendarEvent, event_id)
        check_if_match(desk.request, row)
        changes = await keeping_events.change_times(tx, row, change.changes())
        for name, value in changes.items():
            setattr(row, name, value)
    return desk.written(row, tx, EventShown)


@router.delete(
    "/calendar/events/{event_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_event(event_id: UUID, desk: AtDesk) -> None:
    """Delete an event, all of its times."""
    await desk.delete(CalendarEvent, event_id)


@router.put(
    "/calendar/events/{event_id}/override",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409),
)
async def override_event(event_id: UUID, given: OverrideGiven, desk: AtDesk) -> OverrideShown:
    """Cancel one time of a recurring event, or with `starts_at` and `ends_at` move it."""
    to = None
    if given.starts_at is not None and given.ends_at is not None:
        to = Span(given.starts_at, given.ends_at)
    elif given.starts_at is not None or given.ends_at is not None:
        raise pp.Refused("It is moved with both, or cancelled with neither.", field="starts_at")
    async with desk.plane.acting(desk.caller).write() as tx:
        event = await locked(tx, CalendarEvent, event_id)
        row = await keeping_events.override(tx, event, given.occurs_at, to, given.title)
    return desk.written(row, tx, OverrideShown)


@router.delete(
    "/calendar/events/{event_id}/override",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409),
)
async def restore_event(event_id: UUID, occurs_at: Moment, desk: AtDesk) -> None:
    """Let one time of a recurring event be as its rule says."""
    async with desk.plane.acting(desk.caller).write() as tx:
        event = await locked(tx, CalendarEvent, event_id)
        await keeping_events.restore(tx, event, occurs_at)
    desk.token.give(tx.token)


@router.get("/calendar/occurrences", dependencies=[READ])
async def list_occurrences(
    desk: AtDesk, start: Start = None, days: Days = 7
) -> list[OccurrenceShown]:
    """What takes place in a span of time, in order."""
    found = await _taking_place(desk, _within(start, days))
    return [OccurrenceShown.model_validate(it) for it in found]


@router.get("/calendar/time", dependencies=[READ])
async def show_time(desk: AtDesk, start: Start = None, days: Days = 7) -> TimeShown:
    """When one is busy in a span of time, and when free."""
    within = _within(start, days)
    found = await _taking_place(desk, within)
    busy = calendar.merged((Span(it.starts_at, it.ends_at) for it in found if it.busy), within)
    return TimeShown(
        busy=[SpanShown.model_validate(it) for it in busy],
        free=[SpanShown.model_validate(it) for it in calendar.between(busy, within)],
    )
