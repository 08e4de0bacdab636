"""What the quality of search is measured by: the measures, the queries, the passages."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bench.quality import QUERIES
from bench.retrieval import cranfield
from bench.retrieval.judged import (
    Query,
    interval,
    known,
    ndcg,
    read_queries,
    recall,
    reciprocal_rank,
)

QUERY = Query("any", "what", {"a": 3, "b": 1})


def test_an_order_is_as_good_as_its_first_places() -> None:
    assert ndcg(QUERY, ["a", "b"]) == 1
    # By hand: gains 7 and 1 at places 1 and 2, discounted by 1 and log2(3).
    assert ndcg(QUERY, ["b", "a"]) == pytest.approx((1 + 7 / 1.5849625) / (7 + 1 / 1.5849625))
    assert ndcg(QUERY, ["x"] * 10 + ["a"]) == 0
    assert ndcg(QUERY, []) == 0


def test_recall_and_the_first_place() -> None:
    keys = ["x", "b", "y", "a"]
    assert [recall(QUERY, keys, depth) for depth in (1, 2, 4)] == [0, 0.5, 1]
    assert reciprocal_rank(QUERY, keys) == 0.5
    assert reciprocal_rank(QUERY, ["x"]) == 0


def test_an_interval_is_around_the_mean_and_repeats() -> None:
    values = [0.0, 1.0] * 50
    low, high = interval(values)
    assert 0.35 < low < 0.45 < 0.55 < high < 0.65
    assert interval(values) == (low, high)
    assert interval([0.25] * 9) == (0.25, 0.25)


def test_the_queries_are_many_of_five_kinds_and_fall_in_two_halves() -> None:
    queries = read_queries(QUERIES)
    assert len({query.text for query in queries}) == len(queries) >= 200
    kinds = Counter(query.kind for query in queries)
    assert set(kinds) == {"paraphrase", "keyword", "name", "vague", "typo"}
    assert min(kinds.values()) >= 30
    assert all(set(query.grades.values()) <= {1, 2, 3} for query in queries)
    assert all(3 in query.grades.values() for query in queries)
    assert 0.4 < sum(query.is_held_out for query in queries) / len(queries) < 0.6


def test_what_a_python_does_not_have_is_not_asked_for() -> None:
    found = known([QUERY, Query("any", "other", {"c": 3})], {"b": "text"})
    assert found == [Query("any", "what", {"b": 1})]


def test_cranfield_is_read_as_it_is_written(tmp_path: Path) -> None:
    files = {
        "cran.all.1400": ".I 1\n.T\na wing .\n.A\nx\n.B\ny\n.W\na wing .\nit lifts .\n"
        ".I 2\n.T\nempty .\n.A\n.B\n.W\n.I 3\n.T\nheat\n.A\n.B\n.W\nheat\nflows\n",
        "cran.qry": ".I 001\n.W\nwhat lifts\nit .\n.I 004\n.W\nwhat flows .\n",
        "cranqrel": "1 1 1\n1 2 2\n1 3 -1 \n2 3 4 \n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    judged = cranfield.read(tmp_path)
    assert judged.passages == {"1": "a wing .\n\nit lifts .", "3": "heat\n\nflows"}
    assert judged.queries == [
        Query("question", "what lifts it .", {"1": 4}),
        Query("question", "what flows .", {"3": 1}),
    ]
