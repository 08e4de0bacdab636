"""Reciprocal rank fusion: the order follows from the places alone."""

from __future__ import annotations

from math import isclose

from hypothesis import given, strategies as st

from polyplane.model.fusion import K, fused

RANKING = st.lists(st.sampled_from("abcdefgh"), unique=True)
RANKINGS = st.dictionaries(st.sampled_from(["text", "vector", "graph"]), RANKING, max_size=3)


@given(RANKINGS)
def test_each_key_once_with_its_places(rankings: dict[str, list[str]]) -> None:
    found = fused(rankings)
    assert sorted(it.key for it in found) == sorted({k for keys in rankings.values() for k in keys})
    for it in found:
        places = {n: keys.index(it.key) + 1 for n, keys in rankings.items() if it.key in keys}
        assert it.ranks == places
        assert isclose(it.score, sum(1 / (K + place) for place in places.values()))
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
    found = fused({"text": ["b", "c"], "vector": ["a", "d"]})
    assert [it.key for it in found] == ["a", "b", "c", "d"]
    assert fused({"text": ["x", "x", "y"]})[-1].ranks == {"text": 3}
    assert fused({}) == fused({"text": []}) == []
