"""What can be said of the batches of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st

import polyplane as pp
from polyplane.model.drift import Broken, Drift, Partition
from polyplane.reconcile import streams as module
from polyplane.reconcile.streams import broken_of, definition_of, prove_stream, split
from polyplane.stores.protocol import HeldBatch
from polyplane.truth.journal import Batch


class Heat(pp.Stream):
    """A stream."""

    order_by = ("sensor",)
    sensor: str
    degrees: float


@given(st.lists(st.integers(0, 9), max_size=12), st.none() | st.integers(1, 10))
def test_points_that_are_lost_or_doubled_are_counted(indexes: list[int], noted: int | None) -> None:
    """Of a batch that was noted, or of one that nobody knows."""
    due = None if noted is None else Batch(7, noted, 0, 0)
    different = len(set(indexes))
    held = HeldBatch(7, len(indexes), different, max(indexes)) if indexes else None
    if due is None and held is None:
        return
    whole = max(noted or 0, max(indexes, default=-1) + 1)
    found = broken_of(due, held) or Broken("", 0, 0)
    assert found.lost == whole - different
    assert found.doubled == len(indexes) - different
    if due is None:
        lenient = broken_of(due, held, may_lack=True) or Broken("", 0, 0)
        assert (lenient.lost, lenient.doubled) == (0, found.doubled)


def test_what_retention_may_have_taken_is_not_missed() -> None:
    old, new, coming = Batch(1, 3, 10, 90), Batch(2, 3, 50, 90), Batch(3, 3, 50, 90)
    known = [(old, True), (new, True), (coming, False)]
    assert split(known, 50) == ([new], 1)
    assert split(known, None) == ([old, new], 0)


def test_a_batch_is_named_by_the_first_bytes_of_its_identities() -> None:
    found = broken_of(Batch(-2, 1, 0, 0), None)
    assert found == Broken("feffffffffffffff", 1, 0)


def test_a_definition_is_that_of_the_declaration() -> None:
    class Other(Heat):
        """With a column more."""

        name = "heat"
        note: str | None

    class Same(Heat):
        """As it was."""

        name = "heat"
        retention_days = 3

    assert definition_of(Same) == definition_of(Heat) != definition_of(Other)


class Known:
    """What a journal knows, one answer after the other; the last for ever."""

    epoch = 3

    def __init__(self, *answers: list[tuple[Batch, bool]]) -> None:
        self._answers = list(answers)

    async def through(self) -> int:
        """The last sequence."""
        return 9

    async def known(self) -> list[tuple[Batch, bool]]:
        """The next answer."""
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Holding:
    """What a store holds of a batch, one answer after the other; the last for ever."""

    def __init__(self, *answers: list[HeldBatch]) -> None:
        self._answers = list(answers)

    async def partitions(self, _: object) -> list[str]:
        """Two months."""
        return ["202601", "202602"]

    async def partition(self, _: object, name: str) -> Partition:
        """As it is."""
        return Partition(name, 1, 1, "0" * 32)

    async def uneven(self, _: object) -> list[int]:
        """What looks wrong."""
        return [it.number for it in self._answers[0] if it.points != it.last + 1]

    async def batches(self, _: object, numbers: Sequence[int], *span: int) -> list[HeldBatch]:
        """The next answer."""
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [it for it in found if it.number in numbers]


@pytest.mark.parametrize(
    ("known", "held", "lost"),
    [
        # Noted as stored, and not there.
        ([[(Batch(1, 5, 0, 0), True)]], [[]], 5),
        ([[(Batch(1, 5, 0, 0), True)]], [[HeldBatch(1, 4, 4, 4)]], 1),
        # It comes while we look, month by month.
        ([[(Batch(1, 5, 0, 0), False)]], [[HeldBatch(1, 2, 2, 4)]], 0),
        ([[]], [[HeldBatch(1, 2, 2, 4)], [HeldBatch(1, 3, 3, 4)], [HeldBatch(1, 5, 5, 4)]], 0),
        # Nobody knows it, and it stays so.
        ([[]], [[HeldBatch(1, 2, 2, 4)]], 3),
    ],
    ids=["all lost", "one lost", "begun", "loaded", "unknown"],
)
async def test_what_is_on_its_way_is_not_lost(
    known: list[Any], held: list[Any], lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.0)
    told: list[tuple[int, int]] = []
    store: Any = Holding(*held)
    part = await prove_stream(Heat, Known(*known), store, told=lambda *far: told.append(far))
    assert (part.lost, part.doubled, part.epoch, part.through) == (lost, 0, 3, 9)
    assert told == [(1, 2), (2, 2)]
    drift = Drift.of((), (part,))
    assert (drift.missing, drift.clean) == (lost, lost == 0)
    assert "streams" not in repr(drift)
