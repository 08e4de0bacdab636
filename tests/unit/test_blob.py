"""Parts, ETags and ranges: pure."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5

import pytest
from hypothesis import given, strategies as st

from polyplane.errors import OutOfRange, TooLarge
from polyplane.model.blob import (
    PART_BYTES,
    PART_STEP,
    PARTS_MAX,
    composite_etag,
    part_bytes,
)
from polyplane.serve.api.ranges import matches, span_of


def part_sizes(size: int) -> Iterator[int]:
    """The parts of a content of `size` bytes."""
    number = 1
    while size > 0:
        this = min(size, part_bytes(number))
        yield this
        size, number = size - this, number + 1


MOST = sum(part_bytes(number) for number in range(1, PARTS_MAX + 1))


@given(st.integers(0, MOST))
def test_parts_make_the_whole_and_s3_takes_them(size: int) -> None:
    parts = list(part_sizes(size))
    assert sum(parts) == size
    assert len(parts) <= PARTS_MAX
    assert all(5 << 20 <= it <= 5 << 30 for it in parts[:-1])
    assert parts[:-1] == [part_bytes(number) for number in range(1, len(parts))]


def test_a_terabyte_fits_and_there_is_an_end() -> None:
    assert MOST > 3 << 40
    assert part_bytes(PART_STEP) == PART_BYTES
    assert part_bytes(PART_STEP + 1) == 2 * PART_BYTES
    with pytest.raises(TooLarge):
        list(part_sizes(MOST + 1))


def test_the_etag_of_parts_is_known_where_theirs_are_md5() -> None:
    one = md5(b"a").hexdigest()
    assert composite_etag([one, one]) == md5(bytes.fromhex(one) * 2).hexdigest() + "-2"
    assert composite_etag([one, "not hex"]) is None
    assert composite_etag(["abcd"]) is None


@given(st.integers(1, 1_000), st.integers(0, 1_200), st.integers(0, 1_200))
def test_a_range_is_what_it_says(size: int, first: int, last: int) -> None:
    header = f"bytes={first}-{last}"
    wanted = bytes(range(256)) * 4
    if last < first:
        assert not span_of(header, size).is_part
    elif first >= size:
        with pytest.raises(OutOfRange):
            span_of(header, size)
    else:
        start, end, is_part = span_of(header, size)
        assert is_part and wanted[:size][first : last + 1] == wanted[start:end]


def test_of_an_empty_file_no_range_is_there() -> None:
    with pytest.raises(OutOfRange):
        span_of("bytes=0-", 0)
    assert span_of(None, 0) == (0, 0, False)


def test_a_version_that_is_known_is_not_sent() -> None:
    assert matches('"a", W/"b"', '"b"')
    assert matches("*", '"b"')
    assert not matches('"a"', '"b"')
    assert not matches(None, '"b"')
