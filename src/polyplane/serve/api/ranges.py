"""Range requests (RFC 9110): pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from polyplane.errors import OutOfRange

_ONE = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?")


class Span(NamedTuple):
    """Bytes from `start` to and without `end`; `is_part`: only a part was asked for."""

    start: int
    end: int
    is_part: bool


def span_of(header: str | None, size: int) -> Span:
    """What a Range header asks for, of `size` bytes.

    One that is none, or names several ranges, is passed over, and so all is given. Raises
    OutOfRange when nothing of it is there.
    """
    whole = Span(0, size, is_part=False)
    found = _ONE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == (None, None):
        return whole
    first, last = (int(it) if it is not None else None for it in found.groups())
    if first is None:
        assert last is not None
        start, end = max(0, size - last), size
    else:
        start, end = first, size if last is None else min(size, last + 1)
        if last is not None and last < first:
            return whole
    if start >= end:
        raise OutOfRange(f"It has {size:,} bytes; none of them is in this range.", field="Range")
    return Span(start, end, is_part=True)


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the caller has this version already."""
    if if_none_match is None:
        return False
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return if_none_match.strip() == "*" or etag in tags
