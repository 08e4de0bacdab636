"""A follower that is cut off anywhere and comes back has every event once, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, strategies as st

import polyplane as pp
from polyplane.live import Events, FeedPosition, Rows
from polyplane.live.changes import Changed
from polyplane.live.follower import Follower, event_of, event_updates, row_updates
from polyplane.model.live import Followed
from tests.flow.live_things import Board

CALLER = pp.Caller("test", "acme")
EVENTS = Followed("e", Events("shop.sold"))
ROWS = Followed("r", Rows(Board))
START = FeedPosition(1, 0, 0)

kinds = st.sampled_from(["shop.sold", "shop.sold.twice", "shop.soldier", "shop", "bank.sold"])
tenants = st.sampled_from(["acme", "other"])


def follower_at(position: FeedPosition) -> Follower:
    """One that stands there."""
    follower = Follower([EVENTS, ROWS], CALLER)
    follower.pending.position = follower.floor = position
    return follower


def event(order: int, kind: str, tenant: str) -> dict[str, Any]:
    """One as the feed has it."""
    return {"id": f"{order}", "type": kind, "tenant": tenant, "subject": f"{order}"}


@given(st.lists(st.tuples(kinds, tenants), max_size=40), st.data())
def test_any_rounds_takes_and_cuts_give_each_event_once_in_order(
    happened: list[tuple[str, str]], data: st.DataObject
) -> None:
    stream = [(order, event(order, *it)) for order, it in enumerate(happened, start=1)]
    follower, read, told, position = follower_at(START), 0, [], START
    while read < len(stream) or follower.pending.has_any:
        action = data.draw(st.sampled_from(["round", "round", "take", "cut"]))
        if action == "round" and read < len(stream):
            upto = data.draw(st.integers(read + 1, len(stream)))
            for order, each in stream[read:upto]:
                follower.put(event_updates(follower, each, 10, order))
            follower.move(events=upto)
            read = upto
        elif action == "take" or (action == "round" and read == len(stream)):
            batch = follower.pending.take()
            assert not batch.lagged
            told += [it.order for it in batch.updates]
            position = batch.position
        elif action == "cut":  # what waited is lost; what happened since is read again
            follower, read = follower_at(position), position.events
    due = [
        order
        for order, it in stream
        if it["tenant"] == "acme" and it["type"] in ("shop.sold", "shop.sold.twice")
    ]
    assert told == due
    assert position.events in (0, *range(len(stream) + 1))


@given(
    st.lists(st.dictionaries(st.sampled_from("abcdef"), st.booleans(), max_size=4), max_size=20),
    st.data(),
)
def test_of_a_row_the_last_change_is_told_whatever_was_lost_before(
    rounds: list[dict[str, bool]], data: st.DataObject
) -> None:
    """Rounds: key -> whether it is gone then."""
    follower, position = follower_at(START), START
    known: dict[str, bool] = {}
    order = 0

    def replay(since: int) -> Iterator[tuple[int, dict[str, bool]]]:
        return ((n, it) for n, it in enumerate(rounds[:order], start=1) if n > since)

    def tell(n: int, seen: dict[str, bool]) -> None:
        changed = Changed(dict.fromkeys(seen, n))
        follower.put(row_updates(follower, "public.board", changed, seen))
        follower.move(changes=n)

    for order, seen in enumerate(rounds, start=1):
        tell(order, seen)
        action = data.draw(st.sampled_from(["take", "cut", "wait"]))
        if action == "take":
            batch = follower.pending.take()
            known |= {it.key: it.gone for it in batch.updates}
            position = batch.position
        elif action == "cut":
            follower = follower_at(position)
            for n, before in replay(position.changes):
                tell(n, before)
    known |= {it.key: it.gone for it in follower.pending.take().updates}
    due: dict[str, bool] = {}
    for each in rounds:
        due |= each
    assert known == due


@given(st.binary(max_size=60))
def test_what_is_no_event_of_a_relay_is_not_told(body: bytes) -> None:
    found = event_of(body)
    assert found is None or {"tenant", "type", "id"} <= found.keys()
