"""Canonical digests: what is the same content, and what is not. Decided here."""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Context, Decimal, localcontext
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest
from hypothesis import given, strategies as st

from polyplane.model.digest import DIGEST_HEX, canonical, digest

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
SAME: dict[str, tuple[Any, Any]] = {
    "the order of keys": ({"a": 1, "b": {"x": 1, "y": 2}}, {"b": {"y": 2, "x": 1}, "a": 1}),
    "a tuple for a list": ((1, 2), [1, 2]),
    "zones": (NOON, NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))),
    "trailing zeros of decimals": (Decimal("1.0"), Decimal("1.000")),
    "exponents of decimals": (Decimal("1E+3"), Decimal("1000.00")),
    "zeros of decimals": (Decimal("-0.00"), Decimal("0")),
    "the layout of a vector": (np.ones(3, ">f4"), np.ones(6, "<f4")[::2]),
    "the width of a vector's floats": (np.array([0.5, 2]), np.array([0.5, 2], "f4")),
    "no number": (float("nan"), None),
}
DIFFERENT: dict[str, tuple[Any, Any]] = {
    "letters and their parts": ("é", unicodedata.normalize("NFD", "é")),
    "case": ("a", "A"),
    "blanks": ("a", "a "),
    "whole and not": (1, 1.0),
    "true and one": (True, 1),
    "none and empty": (None, ""),
    "none and absent": ({"a": None}, {}),
    "the sign of zero": (0.0, -0.0),
    "neighbouring floats": (0.1, np.nextafter(0.1, 1).item()),
    "a microsecond": (NOON, NOON + timedelta(microseconds=1)),
    "the order of a list": ([1, 2], [2, 1]),
    "nesting": ([[1], 2], [[1, 2]]),
    "one digit of many": (Decimal("1." + "0" * 40 + "1"), Decimal("1." + "0" * 40 + "2")),
    "floats of a vector": (np.array([0.0], "f4"), np.array([-0.0], "f4")),
    "a number and its text": (1, "1"),
}


@pytest.mark.parametrize("what", SAME)
def test_is_the_same_content(what: str) -> None:
    one, other = SAME[what]
    assert digest(one) == digest(other) and digest([one]) == digest([other])


@pytest.mark.parametrize("what", DIFFERENT)
def test_is_different_content(what: str) -> None:
    one, other = DIFFERENT[what]
    assert digest(one) != digest(other) and digest({"x": one}) != digest({"x": other})


def test_known_digests_stay_what_they_are() -> None:
    """They are in stores: whoever changes them makes every item of every user drift."""
    content = {
        "text": "Größe 🙂",
        "number": 0.1,
        "big": 2**63 - 1,
        "when": NOON,
        "day": date(2026, 6, 1),
        "time": time(1, 2, 3),
        "price": Decimal("12.50"),
        "id": UUID(int=7),
        "bytes": b"\x00\xff",
        "nothing": None,
    }
    assert canonical(content).decode() == (
        '{"big":9223372036854775807,"bytes":"00ff","day":"2026-06-01",'
        '"id":"00000000-0000-0000-0000-000000000007","nothing":null,"number":0.1,"price":"12.5",'
        '"text":"Größe 🙂","time":"01:02:03","when":"2026-06-01T12:00:00.000000+00:00"}'
    )
    assert digest(content) == "03004f3845893734c1b6306e747f8f78"
    assert digest(["t", {"n": 1}, np.array([1.5, -2], "f4")]) == "a7eda546114a50c472fc7c67fd6f7b01"
    assert digest([1e16, 1e-7, 123456789012345680.0, 5e-324]) == "7c9270da5502f25e6fe013ee17f99d22"


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 1),
        timedelta(seconds=1),
        {1: "a"},
        {1, 2},
        object(),
        1j,
        "\ud800",
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        digest({"x": value})


def test_integers_of_any_size_have_a_canonical_form() -> None:
    """JSONB holds them, and a row that somebody wrote by hand must not stop its projection."""
    assert canonical({"b": 2**64, "a": UUID(int=1)}) == (
        b'{"a":"00000000-0000-0000-0000-000000000001","b":18446744073709551616}'
    )


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner),
    max_leaves=12,
)


def turned(value: Any) -> Any:
    """The same content, with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(it) for it in value] if isinstance(value, list) else value


@given(json_values)
def test_a_digest_does_not_depend_on_the_order_of_keys_and_survives_json(value: Any) -> None:
    assert digest(turned(value)) == digest(value) == digest(orjson.loads(canonical(value)))
    assert len(digest(value)) == DIGEST_HEX


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None))
def test_decimals_are_compared_by_value_whatever_the_context(number: Decimal) -> None:
    with localcontext(Context(prec=3)):
        found = canonical(number)
    assert found == canonical(number)
    assert Decimal(orjson.loads(found)) == number


@given(st.datetimes(timezones=st.timezones(), min_value=datetime(2, 1, 1)))
def test_a_moment_is_the_same_in_every_zone(moment: datetime) -> None:
    assert digest(moment) == digest(moment.astimezone(UTC))
    assert datetime.fromisoformat(orjson.loads(canonical(moment))) == moment.astimezone(UTC)
