"""Streams: time series owned by the series store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from polyplane.errors import Misconfigured
from polyplane.model.projection import snake

COLUMN_TYPES: tuple[type, ...] = (str, int, float, bool, datetime, UUID, dict)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a stream: its Python type and whether it may be null."""

    name: str
    type: type
    optional: bool


class Stream:
    """A time series: declare its columns as annotations; `time` (datetime) is required.

    Column types: str, int (64 bit), float (64 bit), bool, datetime (UTC, microseconds), UUID,
    dict (JSON), each optionally `| None`. Points with the same `order_by` values and `event_id`
    are one point; `event_id` is given by the plane from the batch that brought the point.
    """

    name: ClassVar[str] = ""
    order_by: ClassVar[tuple[str, ...]] = ()
    """Columns the store sorts by, before `time`; put what queries filter by first."""
    indexes: ClassVar[tuple[str, ...]] = ()
    """Further columns worth a skipping index."""
    retention_days: ClassVar[int | None] = None
    compress_after_days: ClassVar[int | None] = None
    tenant_column: ClassVar[str] = ""
    """The text column that says whose tenant's a point is, if points belong to tenants. The plane
    fills it in; it is read by `plane.acting(caller)` only."""

    time: datetime

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("name"):
            cls.name = snake(cls.__name__)

    @classmethod
    @cache
    def columns(cls) -> tuple[Column, ...]:
        """The declared columns, in order, `time` first; Misconfigured for an unknown type."""
        found = []
        for name, hint in get_type_hints(cls).items():
            if get_origin(hint) is ClassVar:
                continue
            union = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
            options = [get_origin(a) or a for a in union if a is not type(None)]
            if len(options) != 1 or options[0] not in COLUMN_TYPES:
                raise Misconfigured(f"{cls.__name__}.{name} has the type {hint!r}.")
            found.append(Column(name, options[0], type(None) in union))
        if cls.tenant_column and (cls.tenant_column, str) not in {(c.name, c.type) for c in found}:
            raise Misconfigured(
                f"{cls.__name__} has no text column {cls.tenant_column}.",
                fix=f"Declare {cls.tenant_column}: str",
            )
        return tuple(sorted(found, key=lambda column: column.name != "time"))
