"""What waits for a follower: bounded, the latest of each thing, and nothing silently left out."""

from __future__ import annotations

from hypothesis import given, strategies as st

from polyplane.live.pending import Pending
from polyplane.model.live import FeedPosition, Update

START = FeedPosition(1, 0, 0)
TOPICS = ("a", "b", "c")

updates = st.tuples(st.sampled_from(TOPICS), st.integers(0, 30), st.booleans())
"""(topic, key, whether it is an event)."""
actions = st.lists(st.one_of(updates, st.just("take")), max_size=200)


def update_of(topic: str, key: int, is_event: bool, order: int) -> Update:
    """One that can be told from every other by its order."""
    if is_event:
        return Update(topic, event={"id": f"{order}"}, order=order)
    return Update(topic, str(key), state={"n": order}, order=order)


@given(actions, st.integers(1, 12), st.integers(0, 400))
def test_the_latest_of_each_thing_is_given_out_or_its_topic_is_said_to_lag(
    done: list[tuple[str, int, bool] | str], most: int, most_bytes: int
) -> None:
    pending = Pending(START, updates_max=most, bytes_max=most_bytes)
    due: dict[tuple[str, str], Update] = {}
    for order, action in enumerate([*done, "take"], start=1):
        if isinstance(action, tuple):
            update = update_of(*action, order)
            size = 50 if update.event is not None else 0
            pending.put(update, size)
            pending.position = START._replace(changes=order)
            due[update.one] = update
            assert len(pending) <= most
            continue
        batch = pending.take()
        given_out = {it.one: it for it in batch.updates}
        assert len(given_out) == len(batch.updates)
        for one, update in due.items():
            if update.topic in batch.lagged:
                assert one not in given_out
            else:
                assert given_out[one] is update
        orders = [it.order for it in batch.updates]
        assert orders == sorted(orders)
        assert batch.position == pending.position
        assert not pending.has_any
        due.clear()


@given(st.lists(updates, max_size=40), st.lists(updates, max_size=40))
def test_what_happened_before_is_given_out_before_and_never_over_what_came_later(
    before: list[tuple[str, int, bool]], after: list[tuple[str, int, bool]]
) -> None:
    pending = Pending(START)
    late = [update_of(*it, 1_000 + n) for n, it in enumerate(after)]
    early = [update_of(*it, n) for n, it in enumerate(before)]
    for update in late:
        pending.put(update)
    pending.put_before([(it, 0) for it in early])
    found = {it.one: it for it in pending.take().updates}
    for update in late:
        assert found[update.one].order >= update.order
    for update in early:
        assert found[update.one].order >= update.order
    orders = [it.order >= 1_000 for it in found.values()]
    assert orders == sorted(orders)


def test_after_a_reset_nothing_of_before_is_told() -> None:
    pending = Pending(START)
    pending.put(Update("a", "1"))
    pending.lag("b")
    pending.reset("why", FeedPosition(2, 7, 7))
    pending.put(Update("a", "2"))
    batch = pending.take()
    assert (batch.reset, batch.position, batch.lagged) == ("why", FeedPosition(2, 7, 7), ())
    assert [it.key for it in batch.updates] == ["2"]
    assert not pending.has_any
