"""Any order of any reports, with any repetitions, ends in the same state."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import get_args

import pytest
from hypothesis import given, strategies as st

from polyplane.domains.laboratory.lifecycle import (
    ATTEMPTS_MAX,
    RETRIES_MAX,
    STATUSES,
    Event,
    History,
    Kind,
    Status,
    advance,
    from_json,
    newest_attempt,
    retry,
    to_json,
    view,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
NOTHING: History = {}

events = st.builds(
    Event,
    kind=st.sampled_from(get_args(Kind)),
    attempt=st.integers(1, ATTEMPTS_MAX),
    at=st.integers(0, 50).map(lambda s: START + timedelta(seconds=s)),
    sequence=st.integers(0, 5),
    progress=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    result=st.none() | st.dictionaries(st.sampled_from("ab"), st.integers(0, 3)),
    error=st.none() | st.sampled_from(["no power", "too hot"]),
)


def at(seconds: int, kind: Kind, attempt: int = 1, **more: object) -> Event:
    return Event(kind, attempt, START + timedelta(seconds=seconds), **more)  # type: ignore[arg-type]


def after(*reports: Event) -> History:
    return reduce(advance, reports, NOTHING)


@given(reports=st.lists(events, max_size=12), data=st.data())
def test_order_and_repetition_do_not_matter(reports: list[Event], data: st.DataObject) -> None:
    repeated = reports + data.draw(st.lists(st.sampled_from(reports))) if reports else []
    shuffled = data.draw(st.permutations(repeated))
    assert after(*shuffled) == after(*reports)
    assert view(after(*shuffled)) == view(after(*reports))


@given(reports=st.lists(events, max_size=12))
def test_each_attempt_is_ordered_once_and_none_beyond_the_limit(reports: list[Event]) -> None:
    history, ordered = NOTHING, []
    for report in reports:
        before, history = history, advance(history, report)
        if (attempt := retry(before, history)) is not None:
            ordered.append(attempt)
    assert ordered == sorted(set(ordered))
    assert all(1 < attempt <= ATTEMPTS_MAX for attempt in ordered)


@given(reports=st.lists(events, max_size=12))
def test_what_is_shown_is_within_its_bounds(reports: list[Event]) -> None:
    shown = view(after(*reports))
    assert shown.status in STATUSES
    assert 0 <= shown.retry_count <= RETRIES_MAX
    assert 0.0 <= shown.progress <= 1.0
    assert (shown.completed_at is not None) == (shown.status in ("completed", "failed"))
    if shown.started_at and shown.completed_at:
        assert shown.completed_at >= shown.started_at


@given(reports=st.lists(events, max_size=12))
def test_a_history_survives_json(reports: list[Event]) -> None:
    history = after(*reports)
    assert from_json(json.loads(json.dumps(to_json(history)))) == history


@pytest.mark.parametrize(
    ("reports", "status", "retries"),
    [
        ([], "scheduled", 0),
        ([at(1, "started")], "running", 0),
        ([at(2, "progress", sequence=1, progress=0.5)], "running", 0),
        ([at(3, "completed")], "completed", 0),
        ([at(3, "completed"), at(1, "started")], "completed", 0),
        ([at(3, "failed")], "retrying", 1),
        ([at(3, "failed"), at(3, "failed")], "retrying", 1),
        ([at(3, "failed"), at(4, "started", 2)], "running", 1),
        ([at(4, "started", 2), at(3, "failed")], "running", 1),
        ([at(3, "failed"), at(5, "completed", 2)], "completed", 1),
        ([at(5, "completed", 2), at(9, "failed", 1)], "completed", 1),
        ([at(n, "failed", n) for n in (1, 2, 3)], "retrying", 3),
        ([at(n, "failed", n) for n in (1, 2, 3, 4)], "failed", 3),
        ([at(n, "failed", n) for n in (4, 2, 1, 3)], "failed", 3),
    ],
)
def test_the_status_of_a_history(reports: list[Event], status: Status, retries: int) -> None:
    shown = view(after(*reports))
    assert (shown.status, shown.retry_count) == (status, retries)


def test_a_failure_orders_the_next_attempt_and_the_last_one_orders_none() -> None:
    history = NOTHING
    for attempt in range(1, ATTEMPTS_MAX + 1):
        before, history = history, advance(history, at(attempt, "failed", attempt, error="hot"))
        expected = attempt + 1 if attempt < ATTEMPTS_MAX else None
        assert retry(before, history) == expected
        assert retry(history, history) is None
    assert newest_attempt(history) == ATTEMPTS_MAX
    assert view(history).error == "hot"


def test_a_completed_activity_is_not_ordered_again() -> None:
    done = after(at(1, "completed", result={"points": 3}))
    assert retry(done, advance(done, at(2, "failed"))) is None
    assert view(advance(done, at(2, "failed"))).result == {"points": 3}


def test_a_clock_that_went_back_does_not_end_before_it_started() -> None:
    shown = view(after(at(9, "started"), at(3, "completed")))
    assert shown.started_at == shown.completed_at == START + timedelta(seconds=9)


def test_late_progress_does_not_move_progress_back() -> None:
    late = after(
        at(5, "progress", sequence=2, progress=0.8), at(1, "progress", sequence=1, progress=0.2)
    )
    assert view(late).progress == 0.8
