"""What the writer knows of a table is never wrong, however much it is told."""

from __future__ import annotations

import random

import pytest

from polyplane.stores.graph import ladybug_known
from polyplane.stores.graph.ladybug_known import Known


def test_what_was_never_put_is_not_looked_for() -> None:
    dice = random.Random(3)
    known, put = Known(is_empty=True), set[str]()
    assert known.perhaps(["a", "b"]) == []
    for _ in range(40):
        some = [f"k{dice.randrange(10**6)}" for _ in range(dice.choice([0, 1, 7, 400]))]
        known.put([key for key in dict.fromkeys(some) if key not in put])
        put.update(some)
        asked = [*dice.sample(sorted(put), min(len(put), 20)), "never", "", "k"]
        assert known.perhaps(asked) == [key for key in asked if key in put]


def test_a_hash_that_two_keys_share_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladybug_known, "hash", len, raising=False)
    known = Known(is_empty=True)
    known.put(["ab"])
    assert known.perhaps(["xy", "abc"]) == ["xy"]


def test_of_what_was_not_empty_or_is_too_much_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Known(is_empty=False).perhaps(["a"]) == ["a"]
    monkeypatch.setattr(ladybug_known, "WHOLE_MAX", 3)
    known = Known(is_empty=True)
    known.put(["a", "b", "c"])
    assert known.perhaps(["d"]) == []
    known.put(["d"])
    assert known.perhaps(["e"]) == ["e"]


def test_what_is_there_is_known_until_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladybug_known, "THERE_MAX", 3)
    known = Known(is_empty=False)
    known.found(["a", "b", "c"])
    assert known.lacking(["a", "d"]) == ["d"]
    known.found(["d"])
    assert known.lacking(["a", "d"]) == ["a", "d"]
