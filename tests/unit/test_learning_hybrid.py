"""The order of a hybrid answer: by meaning, by connection, and why."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from polyplane.domains.agents.learning.hybrid import (
    DECAY,
    REASONS_MAX,
    WAYS_MAX,
    Known,
    Spread,
    Way,
    spread,
)


def test_both_are_more_than_either_and_each_says_why() -> None:
    found = spread(
        [
            ("dump", 0.8, Known("json.dump", "function")),
            ("load", 0.4, Known("json.load", "function")),
        ]
    )
    found.known["json"] = Known("json", "module")
    found.known["far"] = Known("far", "term")
    found.go(
        [
            Way("dump", "json", "contains", 0.5, False),
            Way("load", "json", "contains", 0.5, False),
            Way("dump", "load", "calls", 1.0, True),
            Way("load", "far", "occurs with", 0.5, True),
        ]
    )
    first, second, third, last = found.ranked(4)
    assert [it.key for it in (first, second, third, last)] == ["dump", "load", "json", "far"]
    assert (first.score, first.reasons) == (0.8, ("means what is asked (0.80)",))
    assert second.by_graph == pytest.approx(0.8 * DECAY)
    assert second.score == pytest.approx(1 - 0.6 * (1 - 0.48))
    assert second.reasons == ("means what is asked (0.40)", "json.dump calls it (1.00)")
    assert third.by_meaning == 0
    assert third.score == pytest.approx(1 - (1 - 0.24) * (1 - 0.12))
    assert third.reasons == ("contains json.dump (0.50)", "contains json.load (0.50)")
    assert last.reasons == ("occurs with json.load (0.50)",)
    assert found.frontier(9) == ["json", "far"]
    assert found.frontier(9, besides=["json"]) == ["far"]


def test_who_has_very_many_relations_is_not_near_to_everything() -> None:
    found = spread([(f"k{n}", 0.3, Known(f"k{n}", "term")) for n in range(20)])
    found.known["hub"] = Known("hub", "module")
    found.go(Way(f"k{n}", "hub", "imports", 0.5, True) for n in range(20))
    assert found.by_graph("hub") == pytest.approx(1 - (1 - 0.3 * DECAY * 0.5) ** WAYS_MAX)


KEYS = ["a", "b", "c", "d"]
ways = st.builds(
    Way,
    st.sampled_from(KEYS),
    st.sampled_from(KEYS),
    st.sampled_from(["calls", "occurs with"]),
    st.floats(0, 1),
    st.booleans(),
)


@st.composite
def spreads(draw: st.DrawFn) -> Spread:
    """Some of the keys are seeds, all are known."""
    scores = draw(st.dictionaries(st.sampled_from(KEYS), st.floats(-1, 1), min_size=1))
    found = spread([(key, score, Known(key, "term")) for key, score in scores.items()])
    for key in KEYS:
        found.known.setdefault(key, Known(key, "term"))
    return found


@given(spreads(), st.lists(ways, max_size=12), st.lists(ways, max_size=12))
def test_scores_are_shares_and_more_ways_bring_no_one_farther(
    found: Spread, first: list[Way], second: list[Way]
) -> None:
    found.go(first)
    before = {it.key: it.score for it in found.ranked(len(KEYS))}
    found.go(second)
    after = found.ranked(len(KEYS))
    assert [it.score for it in after] == sorted((it.score for it in after), reverse=True)
    for it in after:
        assert 0 <= it.by_meaning <= 1 and 0 <= it.by_graph <= 1
        assert max(it.by_meaning, it.by_graph) <= it.score + 1e-6 <= 1 + 2e-6
        assert it.score >= before[it.key] - 1e-6
        assert len(it.reasons) <= REASONS_MAX


@given(spreads(), st.lists(ways, max_size=8))
def test_the_order_of_ways_is_no_matter(found: Spread, gone: list[Way]) -> None:
    other = Spread(found.seeds, dict(found.known))
    found.go(gone)
    other.go(reversed(gone))
    assert found.ranked(len(KEYS)) == other.ranked(len(KEYS))
