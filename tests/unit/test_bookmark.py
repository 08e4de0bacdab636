"""A verify that is interrupted anywhere, and resumed, comes to what a whole one comes to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from polyplane.errors import Conflict, Refused
from polyplane.model.collection import Collection
from polyplane.model.drift import Part
from polyplane.model.items import Stamp
from polyplane.reconcile import bookmark as bookmark_module, sums as sums_module
from polyplane.reconcile.bookmark import Bookmark
from polyplane.reconcile.prove import prove
from polyplane.reconcile.sums import SEGMENT, Sums, lines_of
from polyplane.reconcile.tally import Tally
from polyplane.reconcile.verify import StoreSide

keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=3) | st.integers(0, 99).map(str)
digests = st.sampled_from(["a" * 32, "b" * 32])
pairs = st.dictionaries(keys, digests, max_size=40).map(lambda found: sorted(found.items()))
cuts = st.lists(st.integers(0, 40), max_size=6)


@pytest.fixture(autouse=True)
def _small_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that a few lines fill, and a file that is written at every chance."""
    monkeypatch.setattr(sums_module, "SEGMENT", 3)
    monkeypatch.setattr(bookmark_module, "EVERY_S", 0.0)
    monkeypatch.setattr(bookmark_module, "_SHARE", 0)


every_run = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@every_run
@given(pairs, cuts)
def test_sums_depend_on_the_lines_and_not_on_how_they_came(
    found: list[tuple[str, str]], places: list[int]
) -> None:
    whole, pieces = Sums(), Sums()
    whole.add(lines_of(found))
    before = 0
    for place in [*sorted(places), len(found)]:
        pieces.add(lines_of(found[before:place]))
        pieces = Sums.of_state(json.loads(json.dumps(pieces.state())))
        before = max(before, place)
    assert pieces.digests() == whole.digests()


@every_run
@given(pairs, pairs)
def test_sums_differ_where_the_lines_do(
    one: list[tuple[str, str]], other: list[tuple[str, str]]
) -> None:
    first, second = Sums(), Sums()
    first.add(lines_of(one))
    second.add(lines_of(other))
    same = [a == b for a, b in zip(lines_of(one), lines_of(other), strict=True)]
    assert [a == b for a, b in zip(first.digests(), second.digests(), strict=True)] == same


def test_what_is_saved_of_sums_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums_module, "SEGMENT", SEGMENT)
    sums = Sums()
    for start in range(0, 50_000, 1_000):
        sums.add(lines_of([(f"{n:08}", "a" * 32) for n in range(start, start + 1_000)]))
    assert max(map(len, sums.state()["waiting"])) < SEGMENT


def test_a_tally_forks_where_the_sides_differ() -> None:
    tally = Tally()
    assert tally.compared([("a", "1"), ("b", None)], [Stamp("a", 1, "1")])
    assert tally.other is None and tally.store is tally.truth
    assert not tally.compared([("c", "1")], [Stamp("c", 1, "2"), Stamp("d", 1, None)])
    assert tally.compared([("e", "1")], [Stamp("e", 1, "1")])
    again = Tally.of_state(json.loads(json.dumps(tally.state())))
    assert again.store.digests() == tally.store.digests() != tally.truth.digests()
    assert (again.rows, again.derived, again.items, again.tombstones) == (4, 3, 3, 1)


class Truth:
    """A truth of a few keys at rest, in batches of two."""

    definition = "this"

    def __init__(self, rows: Mapping[str, str | None]) -> None:
        self.rows = rows

    async def all(self, after: str | None = None) -> AsyncGenerator[list[tuple[str, Any]], None]:
        """Those behind `after`."""
        rows = sorted(it for it in self.rows.items() if after is None or it[0] > after)
        for start in range(0, len(rows), 2):
            yield rows[start : start + 2]

    async def of(self, keys: list[str]) -> Mapping[str, str | None]:
        """Some of them."""
        return {key: self.rows.get(key) for key in keys}

    async def caught_up(self) -> None:
        """It is."""

    async def newest(self) -> int:
        """All are from here."""
        return 5

    async def parked(self) -> set[str]:
        """None are."""
        return set()


class Held:
    """What a store holds, in batches of three."""

    def __init__(self, items: Mapping[str, Stamp]) -> None:
        self.items = items

    async def scan(self, _: object, *, after: str | None = None) -> AsyncGenerator[list[Stamp]]:
        """Those behind `after`."""
        stamps = [it for key, it in sorted(self.items.items()) if after is None or key > after]
        for start in range(0, len(stamps), 3):
            yield stamps[start : start + 3]

    async def stamps(self, _: object, keys: Sequence[str]) -> list[Stamp]:
        """Some of them."""
        return [self.items[key] for key in keys if key in self.items]


class Stopped(Exception):
    """As good as kill -9, to a file."""


async def proven(truth: Truth, held: Held, path: Path, stops: Sequence[int]) -> Part:
    """The outcome of a verify that is stopped after so many steps, each time it is resumed."""
    store: Any = StoreSide(held, Collection("c", 1, "vector"))  # type: ignore[arg-type]
    side: Any = truth
    bookmark = Bookmark.begun(path, {})
    for stop in [*stops, 10**6]:
        steps = count()

        def progress(_: int, stop: int = stop, steps: count[int] = steps) -> None:
            if next(steps) >= stop:
                raise Stopped

        mark = bookmark.of("c", epoch=1)
        try:
            part = await prove("c", side, store, progress=progress, mark=mark)
        except Stopped:
            found = Bookmark.found(path, {})
            assert found is not None
            bookmark = found
        else:
            return replace(part, duration_s=0.0)
    raise AssertionError


stamps = st.tuples(st.integers(1, 6), st.none() | digests)


@every_run
@given(
    st.dictionaries(keys, st.none() | digests, max_size=20),
    st.dictionaries(keys, stamps, max_size=20),
    st.booleans(),
    st.lists(st.integers(0, 12), max_size=5),
)
def test_an_interrupted_verify_comes_to_the_same(
    tmp_path: Path,
    rows: dict[str, str | None],
    others: dict[str, tuple[int, str | None]],
    like_truth: bool,
    stops: list[int],
) -> None:
    items = {key: Stamp(key, *found) for key, found in others.items()}
    if like_truth:
        items |= {key: Stamp(key, 1, found) for key, found in rows.items()}
    truth, held = Truth(rows), Held(items)
    whole = asyncio.run(proven(truth, held, tmp_path / "whole", []))
    pieces = asyncio.run(proven(truth, held, tmp_path / "pieces", stops))
    assert pieces == whole


def test_what_has_ended_is_not_done_again(tmp_path: Path) -> None:
    truth, held = Truth({"a": "a" * 32}), Held({"b": Stamp("b", 1, "b" * 32)})
    path = tmp_path / "bookmark"
    part = asyncio.run(proven(truth, held, path, []))
    bookmark = Bookmark.found(path, {})
    assert bookmark is not None
    ended = bookmark.of("c", epoch=1).ended("proven")
    assert ended is not None and replace(ended, duration_s=0.0) == part
    bookmark.drop()
    bookmark.drop()
    assert Bookmark.found(path, {}) is None


def test_what_cannot_be_gone_on_with_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bookmark"
    Bookmark.begun(path, {"projections": ["c"], "deep": False}).of("c", epoch=1, definition="x")
    bookmark = Bookmark.begun(path, {"projections": ["c"], "deep": False})
    bookmark.of("c", epoch=1, definition="x")
    bookmark.write()
    with pytest.raises(Conflict, match="was asked for c"):
        Bookmark.found(path, {"projections": ["c", "d"], "deep": False})
    found = Bookmark.found(path, {"projections": ["c"], "deep": False})
    assert found is not None
    for bound in ({"epoch": 2, "definition": "x"}, {"epoch": 1, "definition": "y"}):
        with pytest.raises(Conflict, match="cannot be gone on with"):
            found.of("c", **bound)
    found.of("d", epoch=2)
    for text in ("", "{}", "[]", '{"format": 0, "asked": {}, "marks": {}}', "\xff"):
        path.write_text(text)
        with pytest.raises(Refused, match="cannot be gone on with"):
            Bookmark.found(path, {})
    with pytest.raises(Refused, match="cannot be written"):
        Bookmark.begun(tmp_path / "no" / "folder", {})
