"""When something takes place that recurs: a rule of RFC 5545, in the time of a place. Pure.

The rule is computed on the clock of the place, and each time is then said as an instant: what is
at nine stays at nine when the clocks change. A time that the clocks leave out is that of the
offset before (an hour later on the clock); one that they have twice is the first.

Whatever a rule says, it is bounded. Its frequency is at least daily, once a day. Rules that match
nothing are searched to the end of the calendar by the library; the Gregorian calendar repeats every
400 years to the day of the week, so each is computed as near to that end as it can be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from dateutil.rrule import rrulestr

import polyplane as pp

RULE_MAX: Final = 500
INTERVAL_MAX: Final = 1_000
COUNT_MAX: Final = 1_000
LIST_MAX: Final = 62
"""Values of one part of a rule."""
CYCLE_YEARS: Final = 400
A_DAY: Final = timedelta(days=1)
_DAYS: Final = {"DAILY": 1, "WEEKLY": 7}
_DAY: Final = r"([+-]?[1-9][0-9]?)?(MO|TU|WE|TH|FR|SA|SU)"
_PARTS: Final = {
    "FREQ": r"DAILY|WEEKLY|MONTHLY|YEARLY",
    "INTERVAL": r"[1-9][0-9]{0,3}",
    "COUNT": r"[1-9][0-9]{0,3}",
    "UNTIL": r"[0-9]{8}(T[0-9]{6}Z?)?",
    "WKST": r"MO|TU|WE|TH|FR|SA|SU",
    "BYDAY": rf"{_DAY}(,{_DAY})*",
    "BYMONTHDAY": r"-?[1-9][0-9]?(,-?[1-9][0-9]?)*",
    "BYMONTH": r"[1-9][0-9]?(,[1-9][0-9]?)*",
    "BYSETPOS": r"-?[1-9][0-9]{0,2}(,-?[1-9][0-9]{0,2})*",
}
_MOST: Final = {
    "INTERVAL": INTERVAL_MAX,
    "COUNT": COUNT_MAX,
    "BYDAY": 53,
    "BYMONTHDAY": 31,
    "BYMONTH": 12,
    "BYSETPOS": 366,
}
"""The greatest number in each part."""
_LONGEST: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class Recurring:
    """A rule, taken apart: `parts` as they are written, UNTIL as an instant or a day."""

    parts: tuple[tuple[str, str], ...]
    frequency: str
    interval: int
    count: int | None
    until: str


def parsed(rule: str) -> Recurring:
    """The rule that `rule` is. Raises Refused for one that is none, or has no bounds."""
    if len(rule) > RULE_MAX:
        raise _refused(f"A rule has at most {RULE_MAX} characters.")
    parts: dict[str, str] = {}
    for part in rule.upper().removeprefix("RRULE:").split(";"):
        name, _, value = part.partition("=")
        if name not in _PARTS:
            raise _refused(f"{name[:40]!r} is no part of a rule here: {', '.join(_PARTS)}.")
        if name in parts or not re.fullmatch(_PARTS[name], value):
            raise _refused(f"{name} cannot be {value[:80]!r}.")
        numbers = [abs(int(it)) for it in re.findall(r"[0-9]+", value)]
        if value.count(",") >= LIST_MAX or max(numbers, default=0) > _MOST.get(name, 99_999_999):
            raise _refused(f"{name} cannot be {value[:80]!r}.")
        parts[name] = value
    if "FREQ" not in parts:
        raise _refused("A rule has a FREQ.")
    if "COUNT" in parts and "UNTIL" in parts:
        raise _refused("A rule has COUNT or UNTIL, not both.")
    if not _is_possible(parts):
        raise _refused("There is no such day.")
    interval, count = int(parts.get("INTERVAL", 1)), parts.get("COUNT")
    until = parts.pop("UNTIL", "")
    return Recurring(
        tuple(sorted(parts.items())), parts["FREQ"], interval, int(count) if count else None, until
    )


def _is_possible(parts: Mapping[str, str]) -> bool:
    """Whether some month has one of the days, and days are counted where they can be."""
    months = [int(it) for it in parts.get("BYMONTH", "1").split(",")]
    days = [abs(int(it)) for it in parts.get("BYMONTHDAY", "1").split(",")]
    if not any(day <= _LONGEST[month - 1] for month in months for day in days):
        return False
    if "BYSETPOS" in parts and parts["FREQ"] not in ("MONTHLY", "YEARLY"):
        return False
    counted = [int(it) for it in re.findall(r"[0-9]+", parts.get("BYDAY", ""))]
    if not counted:
        return True
    in_year = parts["FREQ"] == "YEARLY" and "BYMONTH" not in parts
    return parts["FREQ"] in ("MONTHLY", "YEARLY") and max(counted) <= (53 if in_year else 5)


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that IANA name. Raises Refused."""
    if name not in _zones():
        raise pp.Refused(f"There is no time zone {name[:64]!r}.", field="zone")
    return ZoneInfo(name)


def on_clock(at: datetime, zone: ZoneInfo) -> datetime:
    """What the clock of `zone` shows at the instant `at`."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def instant(on: datetime, zone: ZoneInfo) -> datetime:
    """The instant at which the clock of `zone` shows `on`; the first of two."""
    return on.replace(tzinfo=zone, fold=0).astimezone(UTC)


def starts(
    rule: Recurring, first: datetime, zone: ZoneInfo, since: datetime, until: datetime
) -> Iterator[datetime]:
    """The instants from `since` up to `until` at which what began at `first` takes place, in order.

    `first` itself counts, whether the rule says it or not.
    """
    first_on, until_on = on_clock(first, zone), on_clock(until, zone)
    if since <= first < until:
        yield first
    last_on = _until(rule, zone)
    end_on = until_on if last_on is None else min(until_on, last_on)
    # A day around: instants that are in order need not be so on a clock.
    begin_on = max(first_on, on_clock(since, zone) - A_DAY)
    told = first
    for on in _on_clock_from(rule, first_on, begin_on, end_on + A_DAY):
        at = instant(on, zone)
        if at >= until or (last_on is not None and on > last_on):
            return
        if at > told and at >= since:
            told = at
            yield at


def last_start(rule: Recurring, first: datetime, zone: ZoneInfo) -> datetime | None:
    """When it begins for the last time; None: it never ends. Raises Refused for a rule that gives
    no time at all after the first.
    """
    far = datetime(2300, 1, 1, tzinfo=UTC)
    if rule.count is None and not rule.until:
        if next(islice(starts(rule, first, zone, first + timedelta(seconds=1), far), 1), None):
            return None
        raise _refused("By this rule it never takes place again.")
    last = first
    for at in starts(rule, first, zone, first, far):
        last = at
    return last


def _until(rule: Recurring, zone: ZoneInfo) -> datetime | None:
    """The last moment on the clock at which it may begin."""
    if not rule.until:
        return None
    day, _, time = rule.until.partition("T")
    try:
        on = datetime.strptime(day + (time or "235959").removesuffix("Z"), "%Y%m%d%H%M%S")
        return on_clock(on.replace(tzinfo=UTC), zone) if time.endswith("Z") else on
    except (ValueError, OverflowError):
        raise _refused(f"UNTIL is no time: {rule.until}.") from None


def _on_clock_from(
    rule: Recurring, first: datetime, begin: datetime, end: datetime
) -> Iterator[datetime]:
    """The times on the clock from `begin` to `end`."""
    shift = CYCLE_YEARS * ((9_999 - max(first.year, end.year)) // CYCLE_YEARS)
    near = first if rule.count is not None else _near(rule, first, begin)
    told = 0
    for shifted in _made(rule, first, near, shift):
        on = shifted.replace(year=shifted.year - shift)
        if not told and on != first:
            told = 1  # the first time counts, though the rule does not say it
        told += 1
        if on > end or (rule.count is not None and told > rule.count):
            return
        if on >= begin:
            yield on


def _made(rule: Recurring, first: datetime, near: datetime, shift: int) -> Iterator[datetime]:
    """What the library makes of it: of `first`, from `near` on, `shift` years later."""
    parts = dict(rule.parts)
    parts.pop("COUNT", None)
    # What a rule does not say it takes from its first time, which `near` need not be.
    if rule.frequency == "WEEKLY":
        parts.setdefault("BYDAY", ("MO", "TU", "WE", "TH", "FR", "SA", "SU")[first.weekday()])
    elif rule.frequency in ("MONTHLY", "YEARLY") and not {"BYDAY", "BYMONTHDAY"} & parts.keys():
        parts["BYMONTHDAY"] = str(first.day)
        if rule.frequency == "YEARLY":
            parts.setdefault("BYMONTH", str(first.month))
    text = ";".join(f"{name}={value}" for name, value in parts.items())
    at = near.replace(year=near.year + shift, microsecond=0)
    try:
        yield from rrulestr(text, dtstart=at, cache=False)
    except (ValueError, TypeError, LookupError):
        raise _refused("It means nothing.") from None


def _near(rule: Recurring, first: datetime, begin: datetime) -> datetime:
    """A time not after `begin` from which the rule goes on as it does from `first`."""
    if begin <= first + A_DAY:
        return first
    if step := _DAYS.get(rule.frequency, 0) * rule.interval:
        # One period before, for a week may have begun before `begin`.
        periods = max(0, (begin - first).days // step - 1)
        return first + timedelta(days=periods * step)
    months = rule.interval * (12 if rule.frequency == "YEARLY" else 1)
    passed = (begin.year - first.year) * 12 + begin.month - first.month
    periods = max(0, passed // months - 1)
    if not periods:
        return first
    month = first.year * 12 + first.month - 1 + periods * months
    if rule.frequency == "YEARLY":
        return datetime.combine(date(month // 12, 1, 1), first.time())
    return datetime.combine(date(month // 12, month % 12 + 1, 1), first.time())


def _refused(why: str) -> pp.Refused:
    return pp.Refused(f"The rule is not one that is kept. {why}", field="recurrence")
