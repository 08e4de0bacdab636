"""Positions: one integer that sorts, in whatever a store computes with."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from polyplane.model.position import ORDER_BITS, Position, Token

positions = st.builds(Position, st.integers(1, 2**13 - 1), st.integers(0, 2**ORDER_BITS - 1))


@given(positions)
def test_packing_loses_nothing_and_is_exact_in_a_float(position: Position) -> None:
    packed = position.packed()
    assert Position.unpacked(packed) == position
    assert int(float(packed)) == packed <= 2**53
    assert 0 < packed < 2**63


@given(positions, positions)
def test_packed_positions_sort_as_positions_do(one: Position, other: Position) -> None:
    assert (one < other) == (one.packed() < other.packed())
    assert (one == other) == (one.packed() == other.packed())
    assert (one < other) == (float(one.packed()) < float(other.packed()))


@given(positions)
def test_a_new_epoch_is_newer_than_all_of_the_old_one(position: Position) -> None:
    assert Position(position.epoch + 1, 0).packed() > position.packed()


@given(st.builds(Token, st.integers(1, 2**13 - 1), st.integers(3, 2**63 - 1)))
def test_a_token_is_read_as_it_is_written(token: Token) -> None:
    assert Token.parse(str(token)) == token


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "a.b", "1.2.3", "1.x", "0x1.1"])
def test_what_is_no_token_is_said_so(text: str) -> None:
    with pytest.raises(ValueError):
        Token.parse(text)


@pytest.mark.parametrize("text", ["-1.5", "1.-5", "1_0.5", "0.5", "1.0", "1.18446744073709551616"])
def test_no_token_names_a_transaction_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError):
        Token.parse(text)
