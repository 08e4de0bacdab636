"""What audit writes down: who did what to which thing, what it was before, and what after.

Values become plain JSON that PostgreSQL gives back as it was given, so that the hash of a row's
content can be made again from the row. Personal and secret values never get here: they are masked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from hashlib import sha256
from typing import Any, Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from polyplane.model.digest import canonical
from polyplane.model.marks import PERSONAL, SECRET, marked, tenant_column

AUDITED: Final = "polyplane.audited"
"""In a table's `info`: whether its writes are audited, whatever its columns say."""
MASK: Final = "***"
COMPUTED: Final = "(computed)"
"""In the place of what only the database knows."""
VALUE_BYTES_MAX: Final = 4 << 10
"""Of one value, as JSON; what is longer is told by its length and digest."""
DETAIL_BYTES_MAX: Final = 64 << 10
NAME_MAX: Final = 200
DONE: Final = "done"


class Entry(NamedTuple):
    """One thing that was done, as the transaction that did it notes it; see `AuditRow`."""

    action: str
    resource_type: str
    resource_id: str | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    detail: dict[str, Any] | None = None
    outcome: str = DONE


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of audit. `before` and `after`: the changed columns by field name.

    `content` is the SHA-256 that was written with it; `xid` the number of its transaction.
    """

    seq: int
    at: datetime
    tenant: str
    actor: str
    action: str
    resource_type: str
    resource_id: str | None
    before: Any
    after: Any
    detail: Any
    request_id: str
    address: str
    outcome: str
    content: str
    xid: int = 0

    def document(self) -> dict[str, Any]:
        """What the hash is made of."""
        return {name: getattr(self, name) for name in CONTENT}


CONTENT: Final = (
    "at",
    "tenant",
    "actor",
    "action",
    "resource_type",
    "resource_id",
    "before",
    "after",
    "detail",
    "request_id",
    "address",
    "outcome",
)
"""The fields of a row that its hash is made of; its `seq` goes into the leaf of its seal."""


def content_hash(document: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical form of a row's content, in hexadecimal."""
    return sha256(canonical(document)).hexdigest()


@cache
def is_audited(table: sa.Table) -> bool:
    """Whether writes to `table` are audited: it has a tenant's column, or its `info` says so."""
    return bool(table.info.get(AUDITED, tenant_column(table) is not None))


@cache
def masked_columns(table: sa.Table) -> frozenset[str]:
    """The names of the columns whose values nobody is to read in audit."""
    return frozenset(column.name for mark in (PERSONAL, SECRET) for column in marked(table, mark))


def clean(text: str) -> str:
    """`text` without what PostgreSQL does not store: NUL, and halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def shown(value: Any) -> Any:
    """`value` as audit writes it: plain JSON, and of what is long only length and digest."""
    found = plain(value)
    if isinstance(found, bool | int | float | None) or (
        isinstance(found, str) and len(found) * 4 < VALUE_BYTES_MAX
    ):
        return found
    whole = canonical(found)
    if len(whole) <= VALUE_BYTES_MAX:
        return found
    return {"bytes": len(whole), "sha256": sha256(whole).hexdigest()}


def plain(value: Any) -> Any:
    """`value` as JSON that comes back from PostgreSQL as it went in."""
    match value:
        case None | bool():
            return value
        case Enum():
            return plain(value.value)
        case int():
            return int(value)
        case float():
            if not math.isfinite(value):
                return str(value)
            # PostgreSQL gives 3.0 as 3.0 and 1e300 as digits: integers stay integers on both ways.
            return int(value) if value.is_integer() else float(value)
        case str():
            return clean(value)
        case datetime():
            return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
        case date() | time():
            return value.isoformat()
        case Decimal() | UUID() | timedelta():
            return str(value)
        case bytes() | bytearray() | memoryview():
            whole = bytes(value)
            return {"bytes": len(whole), "sha256": sha256(whole).hexdigest()}
        case Mapping():
            return {clean(str(key)): plain(it) for key, it in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(it) for it in value]
        case sa.ClauseElement():
            return COMPUTED
    return f"({type(value).__name__})"  # never its text, which may tell what it should not
