"""What a row of truth is to whoever derives from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from polyplane.errors import Refused

Row = tuple[str, Any]
"""(canonical key, the row as an object with one attribute per column, or an `Unreadable`).

Of a source with touches the second is a `Joined`."""


class Joined(NamedTuple):
    """A row, and by name the rows of other tables that belong to it, in the order of their keys."""

    row: Any
    related: Mapping[str, Sequence[Any]]


class Unreadable:
    """In the place of a row of which a value has no Python form, as the date 'infinity' has none.

    Whoever looks into it, as every `derive` does, hears which column that is.
    """

    __slots__ = ("_column", "_kind")

    def __init__(self, column: str, error: Exception) -> None:
        self._column = column
        self._kind = type(error).__name__

    def __getattr__(self, attribute: str) -> NoReturn:
        raise Refused(f"{self._column} has no Python value ({self._kind}).", field=self._column)
