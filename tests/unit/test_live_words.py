"""Names, keys and positions of live updates: what cannot be is refused before it is a key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

import polyplane as pp
from polyplane.feed.core import CoreChannels
from polyplane.feed.protocol import Subjects
from polyplane.live import AGENT, OPERATION, FeedPosition, Rows, StateKind, States, Topic
from polyplane.live.changes import Changed, note_changes, table_of
from polyplane.model.channel import Channel, check_channel
from polyplane.model.message import Message
from tests.flow.live_things import Board

HOSTILE = ["", "a:b", "a*", "a>b", "a b", "../a", "a\r\nb", "a\0", "é", "a" * 129, ".", "{id}"]


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**15 - 1), st.integers(0, 10**15 - 1))
def test_a_position_is_read_as_it_was_written(epoch: int, changes: int, events: int) -> None:
    position = FeedPosition(epoch, changes, events)
    assert FeedPosition.parse(str(position)) == position


@pytest.mark.parametrize("text", ["", "1", "1.2", "1.2.3.4", "-1.2.3", "1.2.x", "١.2.3", "9" * 40])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(pp.Refused):
        FeedPosition.parse(text)


@pytest.mark.parametrize("id", HOSTILE)
def test_an_id_that_would_be_another_key_is_refused(id: str) -> None:
    with pytest.raises(pp.Refused):
        OPERATION.key_of(id)


def test_the_seeds_key_and_expiry() -> None:
    assert (OPERATION.key_of("42"), OPERATION.ttl_s) == ("operation:42", 3600)
    assert list(OPERATION.fields) == ["status", "progress", "lastUpdate"]
    assert AGENT.key_of("a-1") == "agent:a-1"


@pytest.mark.parametrize(
    "given_fields",
    [
        {"status": 1},
        {"progress": "much"},
        {"progress": True},
        {"progress": float("nan")},
        {"lastUpdate": "now"},
        {"other": 1},
        {"status": "x" * 20_000},
        {"status": "\ud800"},
    ],
)
def test_a_field_that_is_not_declared_so_is_refused(given_fields: dict[str, Any]) -> None:
    with pytest.raises(pp.Refused):
        OPERATION.checked(given_fields)


def test_fields_are_json() -> None:
    assert OPERATION.checked({"status": "ok", "progress": 1}) == {
        "status": b'"ok"',
        "progress": b"1",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "X", "fields": {}},
        {"name": "x", "fields": {"a": list}},
        {"name": "x", "fields": {}, "key": "session"},
        {"name": "x", "fields": {}, "key": "{id}"},
        {"name": "x", "fields": {}, "ttl_s": 0},
        {"name": "x", "fields": {"at": int}, "stamp": "at"},
    ],
)
def test_a_kind_of_state_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(pp.Misconfigured):
        StateKind(**wrong)


@pytest.mark.parametrize("name", [*HOSTILE, "a..b", ".a", "a.", "$JS.API", "a/b"])
def test_a_channel_that_would_be_another_subject_is_refused(name: str) -> None:
    with pytest.raises(pp.Refused):
        check_channel(name)


@given(st.text(max_size=20))
def test_a_tenant_is_one_token_of_a_subject(tenant: str) -> None:
    channels: Any = CoreChannels.__new__(CoreChannels)
    channels._namespace = "pp"
    parts = channels.subject(Channel("pubsub", tenant, "a.b")).split(".")
    assert (parts[:2], parts[3:]) == (["pp", "pubsub"], ["a", "b"])
    assert not set(parts[2]) & set("*> \r\n\t")


def test_topics_are_checked_when_they_are_declared() -> None:
    def declared(*topics: Topic, **given: Any) -> pp.Plane:
        permissions = {"shop.read": "viewer"}
        application = pp.Application(
            "shop", models=(Board,), permissions=permissions, topics=topics, **given
        )
        return pp.Plane(applications=[application])

    good = Topic("boards", Rows(Board), "shop.read")
    assert list(declared(good).declared.topics) == ["shop.boards"]
    for wrong in (
        (good, good),
        (Topic("boards", Rows(Board), "shop.write"),),
        (Topic("events", Rows(pp.Plane), "shop.read"),),  # type: ignore[arg-type]
    ):
        with pytest.raises(pp.Misconfigured):
            declared(*wrong)
    with pytest.raises(pp.Refused):
        Topic("operations", States(OPERATION), "shop.read").about("a:b")


def test_changes_of_tables_nobody_follows_are_not_looked_into() -> None:
    subjects = Subjects("pp")
    followed, other = subjects.change("public.a.b", 3), subjects.change("public.c", 1)
    messages = [
        Message(followed, b'{"table": "public.a.b", "keys": ["1", "2"]}', sequence=5),
        Message(other, b"not even JSON", sequence=6),
        Message(followed, b'{"table": "public.c", "keys": ["9"]}', sequence=7),
        Message(followed, b'{"table": "public.a.b", "keys": ["1"]}', sequence=8),
        Message("x", b"", sequence=9),
    ]
    found: dict[str, Changed] = {}
    note_changes(found, messages, {"public.a.b"})
    assert table_of(messages[0]) == "public.a.b"
    assert found == {"public.a.b": Changed({"2": 5, "1": 8})}
