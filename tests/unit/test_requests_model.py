"""The request cache: envelopes, when an entry counts, and all interleavings of its pure model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from polyplane.errors import Refused
from polyplane.model.requests import (
    Answer,
    Kept,
    Wanted,
    followed_of,
    is_early,
    is_entry,
    lifetime_ms,
    standing,
)
from polyplane.stores.request_protocol import Begun, Depend, Verdict
from tests.unit.requests_model import EPOCH, TABLE, Interleavings, ModelStore

KEPT = Kept(b"t" * 12, b"chain..8", 7, 1_000, 5, b'[["a.b",null],["a.b","k"]]', b'{"a":1}')


class TestInterleavings(Interleavings.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(max_examples=40, stateful_step_count=40)


class ForgetsRecords(ModelStore):
    """A record that is put back says nothing of what was told before."""

    async def begin(self, wanted: Wanted, token: bytes, *, seen: bytes, keep_ms: int) -> Begun:
        missing = [it for it in map(str, wanted.depends) if it not in self.keys]
        begun = await super().begin(wanted, token, seen=seen, keep_ms=keep_ms)
        if begun.state == "begun":
            self.keys |= dict.fromkeys(missing, EPOCH)
        return begun


class FillsWithoutLease(ModelStore):
    """Whoever comes fills."""

    async def fill(
        self, wanted: Wanted, begun: Begun, kept: Kept, *, ttl_ms: int, stale_ms: int
    ) -> Verdict:
        self.keys[f"load {wanted.key}"] = kept.token
        return await super().fill(wanted, begun, kept, ttl_ms=ttl_ms, stale_ms=stale_ms)


class BelievesAfterRestart(ModelStore):
    """One incarnation of the server is as good as another."""

    async def put_back(self, copy: Any, incarnation: bytes) -> None:
        await super().put_back(copy, self.incarnation)


class NotesTooEarly(ModelStore):
    """The mark is there before the records are."""

    async def record(self, chain: bytes, after: int, upto: int, some: Sequence[Depend]) -> bool:
        recorded = await super().record(chain, after, upto, some)
        if recorded and some:
            self.keys["mark"]["d"] = max(self.keys["mark"]["d"], upto)
            self.keys |= {str(it): EPOCH for it in some if str(it) in self.keys}
        return recorded


def _forgets(it: Interleavings) -> None:
    it.loader_begins(name="row a", reads=True)
    it.writes(row="a", is_published=True)
    it.recorder_goes(who=0)
    it.vanishes(str((TABLE, "a")))
    it.loader_begins(name="both", reads=True)
    it.loader_fills(index=0)


def _overtaken(it: Interleavings) -> None:
    it.loader_begins(name="row a", reads=True)
    it.vanishes("load row a")
    it.writes(row="a", is_published=False)
    it.loader_begins(name="row a", reads=True)
    it.loader_fills(index=1)
    it.loader_fills(index=0)


def _restarted(it: Interleavings) -> None:
    it.loader_begins(name="table", reads=True)
    it.loader_fills(index=0)
    it.saves()
    it.writes(row="b", is_published=True)
    it.recorder_goes(who=0)
    it.loses_its_tail()


def _killed(it: Interleavings) -> None:
    it.loader_begins(name="row a", reads=True)
    it.loader_fills(index=0)
    it.writes(row="a", is_published=True)
    it.recorder_goes(who=0, dies=True)
    it.recorder_goes(who=1)


@pytest.mark.parametrize(
    ("story", "mutant"),
    [
        (_forgets, ForgetsRecords),
        (_overtaken, FillsWithoutLease),
        (_restarted, BelievesAfterRestart),
        (_killed, NotesTooEarly),
    ],
)
def test_each_thing_that_it_does_is_needed(
    story: Callable[[Interleavings], None], mutant: type[ModelStore]
) -> None:
    for store in (ModelStore, mutant):
        machine = Interleavings()
        machine.make = store  # type: ignore[method-assign]
        machine.starts()
        try:
            story(machine)
            machine.nobody_is_given_what_is_stale()
        except AssertionError:
            assert store is mutant
        else:
            assert store is ModelStore


def test_an_envelope_opens_as_it_was_sealed() -> None:
    assert Kept.opened("n", KEPT.sealed("n")) == KEPT
    assert is_entry(KEPT.sealed("n"))
    assert KEPT.dependencies == [("a.b", None), ("a.b", "k")]


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_bit_is_no_answer(at: int, mask: int) -> None:
    sealed = bytearray(KEPT.sealed("n"))
    sealed[at % len(sealed)] ^= mask
    assert Kept.opened("n", bytes(sealed)) is None


@given(st.binary(max_size=200))
def test_what_is_no_entry_is_none(raw: bytes) -> None:
    assert Kept.opened("n", raw) is None


def test_an_entry_under_another_name_is_none() -> None:
    assert Kept.opened("m", KEPT.sealed("n")) is None
    assert Kept.opened("n", KEPT.sealed("n")[:-1]) is None


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([b"7", b"3"], "good"),
        ([], "good"),
        ([b"7", b"8"], "changed"),
        ([b"7", None], "changed"),
        ([b"x"], "changed"),
        ([b""], "changed"),
    ],
)
def test_an_entry_counts_while_no_record_is_newer(
    records: Sequence[bytes | None], expected: str
) -> None:
    followed = followed_of(b"run", KEPT.chain)
    assert standing(KEPT, followed, b"run", records) == expected
    for other in (None, b"", followed_of(b"other", KEPT.chain), followed_of(b"run", b"8" * 8)):
        assert standing(KEPT, other, b"run", records) == "unattended"


def test_early_is_never_long_before_and_always_at_the_end() -> None:
    dice = Random(24)
    kept = KEPT._replace(expires_ms=100_000, cost_ms=100)

    def share(left_ms: float, beta: float) -> float:
        draws = (1.0 - dice.random() for _ in range(4_000))
        return sum(is_early(100_000 - left_ms, kept, beta, it) for it in draws) / 4_000

    # The chance is exp(-left / (cost * beta)): 0.61, 0.37 and 0.14 here.
    found = [share(50, 1.0), share(100, 1.0), share(200, 1.0)]
    assert found == pytest.approx([0.607, 0.368, 0.135], abs=0.04)
    assert share(100, 2.0) == pytest.approx(0.607, abs=0.04)
    assert share(5_000, 1.0) == 0.0
    assert share(0, 1.0) == 1.0
    assert share(1, 0.0) == 0.0


def test_entries_do_not_end_together() -> None:
    assert lifetime_ms(100, 0.0) == 100_000
    assert lifetime_ms(100, 0.5) == 95_000
    assert 90_000 <= lifetime_ms(100, 0.999) < 90_200


@pytest.mark.parametrize(
    ("key", "depends"),
    [
        ("", ()),
        ("x" * 513, ()),
        ("\ud800", ()),
        ("k", (("t", ""),)),
        ("k", (("t", "x" * 513),)),
        ("k", (("t", None),) * 17),
    ],
)
def test_what_cannot_be_kept_is_refused(key: str, depends: tuple[Depend, ...]) -> None:
    with pytest.raises(Refused):
        Wanted(None, None, key, depends).check()


def test_odd_keys_are_keys() -> None:
    for key in ("a\r\nFLUSHALL\r\n", "*", "..", "\0", "Größe 🙂", " "):
        Wanted(None, None, key, (("t", key),)).check()


def test_an_answer_says_whether_it_is_poorer() -> None:
    assert [Answer(1, it).degraded for it in ("cache", "load", "direct", "stale")] == [
        False,
        False,
        True,
        True,
    ]
