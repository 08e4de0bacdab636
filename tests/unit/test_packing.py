"""Packing: the same page gives the same messages for ever, and nothing of it gets lost in them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given, strategies as st

from polyplane.feed.protocol import Outgoing, Subjects, token
from polyplane.flow.packing import (
    AFTER_HEADER,
    chained,
    change_messages,
    done_of,
    epoch_of,
    event_messages,
    gone_of,
    is_clearing,
    keys_of,
    place_of,
    tails_of,
)
from polyplane.model.key import BUCKETS, bucket_of
from polyplane.model.message import Message
from polyplane.truth.outbox import OutboxRow, Page

SUBJECTS = Subjects("plane")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEFAULT_PAYLOAD_BYTES = 1 << 20
"""What a NATS server takes when nobody set max_payload."""

keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
tables = st.sampled_from(["public.note", "odd schema.table.with *>", "s.t"])


@st.composite
def pages(draw: st.DrawFn) -> Page:
    """A page of changes and events, keys repeated within and across rows."""
    few = draw(st.lists(keys, min_size=1, max_size=30, unique=True))
    rows = []
    for seq in range(1, draw(st.integers(1, 12)) + 1):
        if draw(st.booleans()):
            found = draw(st.lists(st.sampled_from(few), max_size=40))
            rows.append(OutboxRow(seq, draw(tables), "U", found, None, NOW))
        else:
            event = {"tenant": draw(keys), "subject": draw(keys), "id": seq}
            body = orjson.dumps(event).decode()
            rows.append(OutboxRow(seq, "notes.note.added", "E", [], body, NOW))
    return Page("1:5:", "1:9:7", 0, len(rows), draw(st.booleans()), tuple(rows))


def received(message: Outgoing, sequence: int = 1) -> Message:
    """What a reader gets of a published message."""
    return Message(message.subject, message.body, message.headers, sequence)


@given(pages())
def test_each_key_of_a_page_is_there_once_in_its_bucket_in_its_first_place(page: Page) -> None:
    expected: dict[tuple[str, int], dict[str, None]] = defaultdict(dict)
    for row in page.rows:
        for key in row.keys:
            expected[row.tbl, bucket_of(key)][key] = None
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    for message in change_messages(SUBJECTS, 3, page):
        table, held = keys_of(received(message))
        if held:
            bucket = int(message.subject.rpartition(".")[2])
            assert message.subject == SUBJECTS.change(table, bucket)
            found[table, bucket] += held
    assert found == {at: list(held) for at, held in expected.items()}


@given(pages(), st.sets(st.integers(1, 12)))
def test_what_is_to_be_cleared_is_told_apart(page: Page, clearing: set[int]) -> None:
    """Every key is in a message of its kind; one that is of both kinds, in both."""
    rows = [r._replace(op="C") if r.seq in clearing and r.op == "U" else r for r in page.rows]
    found: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}
    for message in change_messages(SUBJECTS, 3, replace(page, rows=tuple(rows))):
        it = received(message)
        table, held = keys_of(it)
        found[is_clearing(it)] |= {(table, key) for key in held}
    for kind in (True, False):
        assert found[kind] == {(r.tbl, k) for r in rows for k in r.keys if (r.op == "C") is kind}


@given(pages())
def test_packing_is_the_same_every_time_and_every_message_knows_its_place(page: Page) -> None:
    for pack in (change_messages, event_messages):
        first, again = pack(SUBJECTS, 3, page), pack(SUBJECTS, 3, replace(page))
        assert first == again
        assert len({message.message_id for message in first}) == len(first)
        for index, message in enumerate(first):
            place = place_of(received(message))
            assert place is not None
            assert (place.epoch, place.index, place.count) == (3, index, len(first))
            assert place.completes_page == (index + 1 == len(first))
            assert (place.prev, place.cur, place.last) == (page.prev, page.cur, page.last)
            assert (place.after, place.upto) == (page.after, page.upto)


@given(pages(), st.data())
def test_a_page_resumed_at_any_message_is_the_same_whole(page: Page, data: st.DataObject) -> None:
    whole = change_messages(SUBJECTS, 3, page)
    done = data.draw(st.integers(0, len(whole)))
    last = received(whole[done - 1]) if done else None
    again = change_messages(SUBJECTS, 3, page)
    assert whole[:done] + again[done_of(again, last) :] == whole


@given(pages(), pages(), st.data())
def test_what_was_packed_otherwise_is_not_taken_for_done(
    page: Page, other: Page, data: st.DataObject
) -> None:
    """By an older version, say: all of the page goes out again."""
    whole = change_messages(SUBJECTS, 3, page)
    last = received(data.draw(st.sampled_from(change_messages(SUBJECTS, 3, other))))
    assert done_of(whole, last) == 0 or last.body in {message.body for message in whole}
    assert done_of(whole, None) == done_of(whole, Message("s", b"garbage")) == 0


@given(pages(), pages())
def test_messages_of_one_id_are_one_message(page: Page, other: Page) -> None:
    """The feed takes the second for the first."""
    both = [m for it in (page, other) for m in change_messages(SUBJECTS, 3, it)]
    assert len({m.message_id for m in both}) == len({m.body for m in both})


@given(pages())
def test_there_is_always_a_change_message_to_tell_where_the_relay_is(page: Page) -> None:
    assert change_messages(SUBJECTS, 3, page)
    events = [row for row in page.rows if row.op == "E"]
    assert len(event_messages(SUBJECTS, 3, page)) == len(events)


@given(pages(), st.integers(1, 1 << 39))
def test_tails_are_the_last_orders_of_what_is_read(page: Page, first: int) -> None:
    messages = change_messages(SUBJECTS, 3, page)
    expected = {}
    for order, message in enumerate(messages, start=first):
        table, held = keys_of(received(message))
        if held:
            expected[table, int(message.subject.rpartition(".")[2])] = order
    assert tails_of(messages, first) == expected


@given(pages(), st.integers(1, 10**9), st.integers(0, 3))
def test_each_message_names_the_one_before_it_on_its_subject(
    page: Page, first: int, done: int
) -> None:
    """Also when a relay resumes behind the first ones: a reader that misses one will know."""
    messages = change_messages(SUBJECTS, 1, page)
    ends: dict[str, int] = {}
    whole = chained(messages, first, ends)
    last: dict[str, int] = {}
    for order, message in enumerate(whole, start=first):
        assert message.headers[AFTER_HEADER] == str(last.get(message.subject, 0))
        last[message.subject] = order
    assert ends == last
    assert [message.message_id for message in whole] == [m.message_id for m in messages]
    assert chained(messages, first, {})[done:] == whole[done:]


@pytest.mark.parametrize("letter", ["a", "\x01", '"', "é", "🙂"])
def test_no_message_is_larger_than_any_server_takes(letter: str) -> None:
    """Keys are bounded as the bytes of the message that they become."""
    found = [letter * 300 + str(n) for n in range(12_000)]
    page = Page("1:5:", "1:9:", 0, 1, True, (OutboxRow(1, "s.t", "I", found, None, NOW),))
    messages = change_messages(SUBJECTS, 1, page)
    assert max(len(message.body) for message in messages) < DEFAULT_PAYLOAD_BYTES
    assert sorted(key for m in messages for key in keys_of(received(m))[1]) == sorted(found)


def test_messages_hold_many_keys() -> None:
    found = [f"018f3c1a-0000-7000-8000-{n:012d}" for n in range(1_000)]
    rows = tuple(OutboxRow(n, "s.t", "I", found, None, NOW) for n in range(1, 4))
    assert len(change_messages(SUBJECTS, 1, Page("1:5:", "1:9:", 0, 3, True, rows))) == 8


def test_an_event_goes_out_as_it_was_written() -> None:
    """Numbers that JSON has and 64 bits have not, digits and all."""
    body = '{"id": "1", "data": {"x": 1' + "0" * 300 + '}, "tenant": "acme", "subject": "a.b"}'
    page = Page("1:5:", "1:9:", 0, 1, True, (OutboxRow(1, "a.b", "E", [], body, NOW),))
    [message] = event_messages(SUBJECTS, 1, page)
    assert message.body == body.encode()
    assert message.subject == "plane.events.acme.a.b.a%2Eb"


@given(keys)
def test_buckets_are_fixed_for_ever(key: str) -> None:
    assert bucket_of(key) == bucket_of(key) < BUCKETS
    assert [bucket_of(known) for known in ("", "a", "1", "é")] == [0, 3, 7, 6]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_becomes_one_token_of_its_own(text: str) -> None:
    found = token(text)
    assert found and not set(found) & set(" .*>\t\r\n\0")
    assert found.isascii()


@given(st.lists(keys, unique=True, max_size=20))
def test_tokens_are_different_for_different_texts(texts: list[str]) -> None:
    assert len({token(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("body", [b"", b"garbage", b"[]", b"{}", b'{"page": 1}', b"\xff", b"null"])
def test_what_is_no_message_of_a_relay_has_no_place_and_no_keys(body: bytes) -> None:
    """Somebody may publish anything; it must not stop what reads the stream."""
    assert place_of(Message("s", body)) is None
    assert keys_of(Message("s", body))[1] == []
    assert place_of(Message("s", b"{}", {"Polyplane-Page": body.decode("latin-1")})) is None


@given(pages(), st.data())
def test_of_deleted_rows_a_message_says_whose_each_was(page: Page, data: st.DataObject) -> None:
    """Every deletion that says whose it was is in the message of its key, and nothing else is."""
    rows, due = [], set()
    for row in page.rows:
        if row.op == "U" and data.draw(st.booleans()):
            tenant, owner = data.draw(
                st.sampled_from([("acme", None), ("other", "ada"), (None, "ada")])
            )
            row = row._replace(op="D", body=orjson.dumps([tenant, owner]).decode())
            due |= {(row.tbl, key, tenant, owner) for key in row.keys}
        rows.append(row)
    found = set()
    for message in change_messages(SUBJECTS, 3, replace(page, rows=tuple(rows))):
        it = received(message)
        table, held = keys_of(it)
        for key, tenant, owner in gone_of(it):
            assert key in held
            found.add((table, key, tenant, owner))
    assert found == due


def test_what_says_too_much_of_whose_rows_were_says_nothing_and_still_fits() -> None:
    rows = tuple(
        OutboxRow(n, "s.t", "D", [f"{n:036}"], f'["{"t" * 60}{n}", "{"o" * 60}"]', NOW)
        for n in range(40_000)
    )
    messages = change_messages(SUBJECTS, 3, Page("1:5:", "1:9:", 0, 40_000, True, rows))
    assert max(len(message.body) for message in messages) < DEFAULT_PAYLOAD_BYTES
    assert sum(len(keys_of(received(message))[1]) for message in messages) == 40_000


@pytest.mark.parametrize("body", [b"", b"[]", b'{"keys": ["a"], "gone": [[["x", null], [7]]]}'])
def test_what_no_relay_has_said_of_deleted_rows_is_not_heard(body: bytes) -> None:
    assert gone_of(Message("s", body)) == []


@pytest.mark.parametrize(
    "written, epoch",
    [("3:1:9:7@12", 3), ("12:e44@1", 12), ("", None), ("x:1", None), ("9" * 30 + ":1", None)],
)
def test_a_message_says_its_epoch(written: str, epoch: int | None) -> None:
    assert epoch_of(Message("s", b"", {"Nats-Msg-Id": written})) == epoch
