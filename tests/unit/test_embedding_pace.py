"""How fast an embedder's requests may leave, and what a batch is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from polyplane.stores.embedding.batching import BYTES_A_TOKEN, Tally, batches
from polyplane.stores.embedding.pacing import BURST_S, HOLD_S_MAX, Budget, Pace, retry_after_s

NOW_S = 1_700_000_000.0
MINUTES = st.lists(st.tuples(st.integers(1, 40), st.floats(0, 30)), min_size=1, max_size=60)


@settings(max_examples=60)
@given(st.integers(40, 3_000), MINUTES)
def test_never_more_than_the_bound_in_any_minute(
    per_minute: int, asked: list[tuple[int, float]]
) -> None:
    budget, now_s = Budget(per_minute), 0.0
    sent: list[tuple[float, int]] = []
    for amount, rest_s in asked:
        now_s += rest_s
        sent.append((now_s + budget.take(amount, now_s), amount))
    assert [at_s for at_s, _ in sent] == sorted(at_s for at_s, _ in sent)
    for start_s, _ in sent:
        within = sum(it for at_s, it in sent if start_s <= at_s < start_s + 60)
        # What is larger than the burst is sent when the line is empty, and in one piece.
        largest = max(it for it, _ in asked)
        over = largest if largest * (60 + BURST_S) / per_minute > BURST_S else 0
        assert within <= per_minute + over + 1e-6


def test_what_rested_may_hurry_and_what_is_unbounded_never_waits() -> None:
    budget = Budget(60)
    waits_s = [budget.take(1, 100.0) for _ in range(6)]
    assert waits_s[:4] == [0, 0, 0, 0]
    assert 0 < waits_s[4] < waits_s[5] < 3
    free = Budget(0)
    assert {free.take(1_000_000, 0.0) for _ in range(100)} == {0.0}


def test_a_wrong_guess_is_made_good() -> None:
    budget = Budget(6_500)  # a hundred a second
    budget.take(500, 0.0)
    budget.correct(1_000)
    assert budget.take(500, 0.0) == pytest.approx(15.0)


def test_who_is_told_to_wait_holds_everybody_back() -> None:
    pace = Pace()
    assert pace.take(10, 5.0) == 0
    pace.hold(7.0, 5.0)
    pace.hold(1.0, 5.0)
    assert pace.take(10, 6.0) == pytest.approx(6.0)
    assert pace.held(20.0) == 0


@pytest.mark.parametrize(
    ("after", "date", "seconds"),
    [
        ("3", "", 3.0),
        ("0.5", "", 0.5),
        ("-1", "", 0.0),
        ("86400", "", HOLD_S_MAX),
        ("nan", "", 0.0),
        ("", "", 0.0),
        ("soon", "", 0.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", "", 30.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", "Tue, 14 Nov 2023 22:13:45 GMT", 5.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", "no date", 30.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", "", 0.0),
        ("Tue, 99 Nov 2023 22:00:00 GMT", "", 0.0),
    ],
)
def test_retry_after(after: str, date: str, seconds: float) -> None:
    assert retry_after_s(after, date, NOW_S) == seconds


@settings(max_examples=60)
@given(st.lists(st.text(max_size=30), max_size=30), st.integers(1, 9), st.integers(1, 40))
def test_batches_are_all_of_it_in_order_and_bounded(
    texts: list[str], texts_max: int, tokens_max: int
) -> None:
    tally = Tally()
    found = list(batches(texts, tally.about, texts_max, tokens_max))
    assert [text for batch, _ in found for text in batch] == texts
    for batch, total in found:
        assert 1 <= len(batch) <= texts_max
        assert total == sum(map(tally.about, batch))
        assert total <= tokens_max or len(batch) == 1


def test_a_tally_learns() -> None:
    tally = Tally()
    before = tally.about("x" * 900)
    assert before == 900 / BYTES_A_TOKEN
    for _ in range(60):
        tally.learn(["x" * 450, "y" * 450], 150)
    assert tally.about("x" * 900) == pytest.approx(150, abs=3)
    tally.learn([], 0)
