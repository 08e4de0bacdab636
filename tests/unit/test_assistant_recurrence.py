"""When something takes place that recurs: clocks that change, rules that are hostile, an oracle."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from time import process_time
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

import polyplane as pp
from polyplane.domains.assistant.matters.calendar import (
    Span,
    between,
    expanded,
    merged,
    overlap,
)
from polyplane.domains.assistant.matters.models_work import CalendarEvent, CalendarOverride
from polyplane.domains.assistant.matters.recurrence import (
    A_DAY,
    RULE_MAX,
    instant,
    last_start,
    on_clock,
    parsed,
    starts,
    zone_of,
)

BERLIN = zone_of("Europe/Berlin")
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def at(text: str) -> datetime:
    """An instant."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def told(rule: str, first: str, until: str, zone: str = "Europe/Berlin") -> list[str]:
    """When it takes place, by the clock of the zone."""
    found = starts(parsed(rule), at(first), zone_of(zone), at(first), at(until))
    return [f"{on_clock(it, zone_of(zone)):%Y-%m-%d %H:%M}" for it in found]


def test_nine_stays_nine_when_the_clocks_change() -> None:
    found = told("FREQ=DAILY", "2026-03-27T08:00", "2026-03-31T12:00")
    assert found == [f"2026-03-{day} 09:00" for day in (27, 28, 29, 30, 31)]
    found = told("FREQ=WEEKLY;BYDAY=SU", "2026-10-18T07:00", "2026-11-02T00:00")
    assert found == ["2026-10-18 09:00", "2026-10-25 09:00", "2026-11-01 09:00"]


def test_a_time_that_is_left_out_and_one_that_is_there_twice() -> None:
    # On 29 March 2026 there is no 02:30 in Berlin; on 25 October it is there twice.
    spring = told("FREQ=DAILY", "2026-03-28T01:30", "2026-03-30T12:00")
    assert spring == ["2026-03-28 02:30", "2026-03-29 03:30", "2026-03-30 02:30"]
    rule = parsed("FREQ=DAILY;COUNT=3")
    autumn = list(starts(rule, at("2026-10-24T00:30"), BERLIN, at("2026-10-24"), at("2026-11-01")))
    assert autumn == [at("2026-10-24T00:30"), at("2026-10-25T00:30"), at("2026-10-26T01:30")]


def test_ends_by_count_and_by_until() -> None:
    first = at("2026-01-05T08:00")
    assert last_start(parsed("FREQ=WEEKLY;COUNT=3"), first, BERLIN) == at("2026-01-19T08:00")
    assert last_start(parsed("FREQ=DAILY;UNTIL=20260107"), first, BERLIN) == at("2026-01-07T08:00")
    until = parsed("FREQ=DAILY;UNTIL=20260107T075959Z")
    assert last_start(until, first, BERLIN) == at("2026-01-06T08:00")
    assert last_start(parsed("FREQ=YEARLY"), first, BERLIN) is None
    # The first time counts, though the rule does not say it (RFC 5545, 3.8.5.3).
    assert told("FREQ=WEEKLY;BYDAY=WE;COUNT=3", "2026-01-05T08:00", "2027-01-01") == [
        "2026-01-05 09:00",
        "2026-01-07 09:00",
        "2026-01-14 09:00",
    ]


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=SECONDLY",
        "FREQ=MINUTELY;BYSECOND=0",
        "FREQ=DAILY;BYHOUR=0,1,2;BYMINUTE=0,1,2;BYSECOND=0,1",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;INTERVAL=99999999999",
        "FREQ=DAILY;COUNT=99999999",
        "FREQ=DAILY;COUNT=2;UNTIL=20270101",
        "FREQ=DAILY;UNTIL=20261301",
        "FREQ=DAILY;FREQ=DAILY",
        "FREQ=DAILY;X-EVIL=1",
        "FREQ=DAILY\nEXRULE:FREQ=DAILY",
        "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2,4;BYMONTHDAY=-31",
        "FREQ=DAILY;INTERVAL=7;BYDAY=WE",
        "FREQ=MONTHLY;BYDAY=53MO",
        "FREQ=MONTHLY;BYDAY=5MO;BYMONTHDAY=1",
        "FREQ=WEEKLY;BYDAY=1MO",
        "FREQ=DAILY;BYSETPOS=2",
        "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=300",
        "BYDAY=MO",
        "",
        "FREQ=DAILY;BYMONTHDAY=" + ",".join(["1"] * 200),
        "X" * (RULE_MAX + 1),
    ],
)
def test_a_hostile_rule_is_refused_in_time(rule: str) -> None:
    began = process_time()
    with pytest.raises(pp.Refused):
        last_start(parsed(rule), at("2026-01-05T08:00"), BERLIN)
    assert process_time() - began < 10  # 0.5 s at most where it is calm


RULES = st.builds(
    lambda frequency, interval, parts: ";".join(
        [f"FREQ={frequency}", f"INTERVAL={interval}", *parts]
    ),
    st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]),
    st.integers(1, 12),
    st.lists(
        st.sampled_from(
            [
                "BYDAY=MO,FR",
                "BYDAY=2TU",
                "BYMONTHDAY=-1",
                "BYMONTHDAY=29,31",
                "BYMONTH=2",
                "BYMONTH=3,10",
                "BYSETPOS=-1",
                "WKST=SU",
                "COUNT=40",
                "UNTIL=20310615T000000Z",
            ]
        ),
        max_size=3,
        unique_by=lambda part: part.partition("=")[0],
    ),
)
FIRST = st.datetimes(datetime(2019, 1, 1), datetime(2027, 12, 31)).map(
    lambda it: it.replace(microsecond=0, tzinfo=UTC)
)


@settings(max_examples=60)
@given(
    RULES, FIRST, st.integers(0, 4_000), st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia"])
)
def test_what_is_asked_for_later_is_the_same(
    rule: str, first: datetime, later: int, zone: str
) -> None:
    """A look at some span finds what going through all from the beginning finds in it."""
    since = first + timedelta(days=later)
    until = since + timedelta(days=400)
    try:
        recurring = parsed(rule)
        whole = list(starts(recurring, first, zone_of(zone), first, until))
    except pp.Refused:
        return
    found = list(starts(recurring, first, zone_of(zone), since, until))
    assert found == [it for it in whole if it >= since]
    assert all(before < after for before, after in pairwise(whole))
    assert whole[0] == first


@settings(max_examples=40)
@given(FIRST, st.integers(1, 5), st.sets(st.sampled_from(DAYS), min_size=1), st.integers(1, 31))
def test_days_are_those_of_the_calendar(
    first: datetime, interval: int, weekdays: set[str], day: int
) -> None:
    """Against the plainest way to say it: go through the days, and look at each."""
    until = first + timedelta(days=500)
    clock = on_clock(first, BERLIN)

    def by_day(is_meant: Any) -> list[datetime]:
        days = (clock.date() + timedelta(days=n) for n in range(502))
        meant = {instant(datetime.combine(it, clock.time()), BERLIN) for it in days if is_meant(it)}
        return sorted({first, *(it for it in meant if first <= it < until)})

    def week(it: date) -> int:
        return (it - timedelta(days=it.weekday())).toordinal() // 7

    weekly = parsed(f"FREQ=WEEKLY;INTERVAL={interval};BYDAY={','.join(sorted(weekdays))}")
    assert list(starts(weekly, first, BERLIN, first, until)) == by_day(
        lambda it: (
            DAYS[it.weekday()] in weekdays and (week(it) - week(clock.date())) % interval == 0
        )
    )
    monthly = parsed(f"FREQ=MONTHLY;INTERVAL={interval};BYMONTHDAY={day}")
    assert list(starts(monthly, first, BERLIN, first, until)) == by_day(
        lambda it: (
            it.day == day
            and ((it.year - clock.year) * 12 + it.month - clock.month) % interval == 0
            and day <= monthrange(it.year, it.month)[1]
        )
    )


def event(rule: str | None, starts_at: str, ends_at: str, **more: Any) -> CalendarEvent:
    """One as truth has it."""
    made = {
        "id": UUID(int=1),
        "title": "x",
        "starts_at": at(starts_at),
        "ends_at": at(ends_at),
        "zone": "Europe/Berlin",
        "all_day": False,
        "busy": True,
        "recurrence": rule,
    }
    return CalendarEvent(**(made | more))


def test_whole_days_are_as_long_as_they_are() -> None:
    days = event("FREQ=DAILY", "2026-03-27T23:00", "2026-03-28T23:00", all_day=True)
    within = Span(at("2026-03-28"), at("2026-03-31"))
    lengths = [it.ends_at - it.starts_at for it in expanded(days, (), within)]
    assert lengths == [A_DAY, timedelta(hours=23), A_DAY, A_DAY]


def test_what_is_otherwise_of_single_times() -> None:
    daily = event("FREQ=DAILY", "2026-06-01T08:00", "2026-06-01T09:00")
    moved = CalendarOverride(
        occurs_at=at("2026-06-02T08:00"),
        cancelled=False,
        starts_at=at("2026-06-10T12:00"),
        ends_at=at("2026-06-10T13:00"),
        title="y",
    )
    cancelled = CalendarOverride(occurs_at=at("2026-06-03T08:00"), cancelled=True)
    first = Span(at("2026-06-01"), at("2026-06-05"))
    found = list(expanded(daily, [moved, cancelled], first))
    assert [it.starts_at.day for it in found] == [1, 4]
    then = Span(at("2026-06-10T12:30"), at("2026-06-10T14:00"))
    [it] = expanded(daily, [moved, cancelled], then)
    assert (it.title, it.moved, it.occurs_at) == ("y", True, at("2026-06-02T08:00"))


SPANS = st.lists(
    st.tuples(st.integers(0, 100), st.integers(0, 30)).map(
        lambda it: Span(
            at("2026-01-01") + timedelta(hours=it[0]),
            at("2026-01-01") + timedelta(hours=it[0] + it[1]),
        )
    ),
    max_size=10,
)


@given(SPANS)
def test_busy_and_free_are_all_of_the_time(spans: list[Span]) -> None:
    within = Span(at("2026-01-02"), at("2026-01-04"))
    busy = merged(spans, within)
    free = between(busy, within)
    assert sum(((b - a) for a, b in busy + free), timedelta()) == within.ends_at - within.starts_at
    assert all(before.ends_at < after.starts_at for before, after in pairwise(busy))
    for hour in range(48):
        moment = within.starts_at + timedelta(hours=hour)
        is_busy = any(it.starts_at <= moment < it.ends_at for it in spans)
        assert is_busy == any(it.starts_at <= moment < it.ends_at for it in busy)


def test_what_has_no_length_is_where_it_is() -> None:
    one, day = Span(at("2026-01-01"), at("2026-01-01")), Span(at("2026-01-01"), at("2026-01-02"))
    assert overlap(one, day)
    assert not overlap(Span(at("2026-01-02"), at("2026-01-02")), day)


def test_many_times_are_found_one_by_one() -> None:
    endless = starts(
        parsed("FREQ=DAILY"), at("1900-01-01"), BERLIN, at("2026-01-01"), at("2199-01-01")
    )
    assert len(list(islice(endless, 10))) == 10
