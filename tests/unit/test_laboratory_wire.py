"""An outsider's word is taken whole or refused with a reason, whatever it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from polyplane.domains.laboratory import wire
from polyplane.domains.laboratory.wire import Report

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "a.1.failed",
    "source": "/controllers/c",
    "type": "laboratory.activity.failed",
    "time": "2026-01-01T02:00:00+02:00",
    "data": {"activity_id": "a", "attempt": 1, "error": "hot", "colour": "red"},
    "extension": {"of": "tomorrow"},
}


def parsed(**other: Any) -> wire.CloudEvent:
    """The event with some members replaced."""
    return wire.parse_report(json.dumps(EVENT | other).encode())


def test_a_report_is_read_and_unknown_members_are_ignored() -> None:
    event = parsed().event
    assert (event.kind, event.attempt, event.error) == ("failed", 1, "hot")
    assert event.at == datetime(2026, 1, 1, tzinfo=UTC)
    assert parsed().tenant == "default"


def test_a_long_error_is_cut_rather_than_refused() -> None:
    long = parsed(data={"activity_id": "a", "attempt": 1, "error": "x" * 50_000})
    assert len(long.event.error or "") == wire.ERROR_CHARACTERS_MAX


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"specversion": "2.0"}, "specversion"),
        ({"type": "laboratory.activity.exploded"}, "type"),
        ({"time": "2026-01-01T00:00:00"}, "time"),
        ({"time": "1960-01-01T00:00:00Z"}, "time"),
        ({"tenant": "a.b"}, "tenant"),
        ({"data": {"activity_id": "", "attempt": 1}}, "data.activity_id"),
        ({"data": {"activity_id": "a", "attempt": 0}}, "data.attempt"),
        ({"data": {"activity_id": "a", "attempt": 5}}, "data.attempt"),
        ({"data": {"activity_id": "a", "attempt": 1, "sequence": -1}}, "data.sequence"),
        ({"data": {"activity_id": "a", "attempt": 1, "result": [1]}}, "data.result"),
        ({"data": {"activity_id": "a", "attempt": 1, "result": {"x": 1e999}}}, "data.result"),
        ({"data": {"activity_id": "a\0", "attempt": 1}}, "NUL"),
    ],
)
def test_what_is_wrong_is_refused_with_a_reason(other: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parsed(**other)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_garbage_is_refused_and_never_crashes(body: bytes) -> None:
    for parse in (wire.parse_report, wire.parse_order):
        with pytest.raises(ValueError):  # any reason is a good one
            parse(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(name=st.sampled_from([*EVENT, *EVENT["data"]]), value=json_values)
def test_any_value_anywhere_is_taken_or_refused(name: str, value: Any) -> None:
    inside = {"data": EVENT["data"] | {name: value}} if name in EVENT["data"] else {name: value}
    try:
        event = parsed(**inside).event
    except ValueError:
        return
    json.dumps(event.result, allow_nan=False)
    assert event.at.tzinfo is UTC


def test_what_is_sent_twice_has_the_same_id() -> None:
    def sent(kind: Any, sequence: int = 0) -> str:
        report = Report(activity_id="a", attempt=2, sequence=sequence)
        now = datetime.now(UTC)
        event = wire.cloud_event(kind, report, controller_id="c", tenant="t", time=now)
        assert wire.parse_report(event.model_dump_json().encode()) == event
        return event.id

    assert sent("started") == sent("started") == "a.2.started"
    assert sent("progress", 1) != sent("progress", 2)
