"""Reciprocal rank fusion: the order follows from the places alone."""

from __future__ import annotations

from math import isclose

from hypothesis import given, strategies as st

from polyplane.model.fusion import WEIGHTS, K, fused

RANKING = st.lists(st.sampled_from("abcdefgh"), unique=True)
RANKINGS = st.dictionaries(st.sampled_from(["text", "vector", "graph"]), RANKING, max_size=3)


@given(RANKINGS)
def test_each_key_once_with_its_places(rankings: dict[str, list[str]]) -> None:
    found = fused(rankings)
    assert sorted(it.key for it in found) == sorted({k for keys in rankings.values() for k in keys})
    for it in found:
        places = {n: keys.index(it.key) + 1 for n, keys in rankings.items() if it.key in keys}
        assert it.ranks == places
        wanted = sum(WEIGHTS.get(n, 1.0) / (K + place) for n, place in places.items())
        assert isclose(it.score, wanted)
    assert [it.score for it in found] == sorted((it.score for it in found), reverse=True)


@given(RANKINGS)
def test_the_order_does_not_depend_on_who_is_named_first(rankings: dict[str, list[str]]) -> None:
    assert fused(rankings) == fused(dict(reversed(rankings.items())))


@given(RANKING)
def test_one_ranking_stays_as_it_is(ranking: list[str]) -> None:
    assert [it.key for it in fused({"text": ranking})] == ranking


@given(RANKING)
def test_rankings_that_agree_stay_as_they_are(ranking: list[str]) -> None:
    assert [it.key for it in fused({"text": ranking, "vector": ranking})] == ranking


@given(RANKING, RANKING, st.sampled_from("abcdefgh"))
def test_who_is_first_in_both_is_first(one: list[str], other: list[str], key: str) -> None:
    rankings = {"text": [key, *(k for k in one if k != key)], "vector": [key, *other]}
    assert fused(rankings)[0].key == key


def test_equals_are_ordered() -> None:
    found = fused({"one": ["b", "c"], "other": ["a", "d"]})
    assert [it.key for it in found] == ["a", "b", "c", "d"]
    assert fused({"text": ["x", "x", "y"]})[-1].ranks == {"text": 3}
    assert fused({}) == fused({"text": []}) == []


def test_words_weigh_more() -> None:
    rankings = {"text": ["b", "c"], "vector": ["a", "d"]}
    assert [it.key for it in fused(rankings)] == ["b", "c", "a", "d"]
    assert [it.key for it in fused(rankings, 60, {})] == ["a", "b", "c", "d"]
    assert [it.key for it in fused(rankings, weights={"vector": 2})] == ["a", "d", "b", "c"]
