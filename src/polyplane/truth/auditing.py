"""What a transaction leaves in audit: heard from the ORM's flushes and from bulk statements."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    PassiveFlag,
    Session,
    SessionTransaction,
    UOWTransaction,
)
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.sql.dml import Delete, Insert, UpdateBase

from polyplane.errors import Refused, TooLarge
from polyplane.model.audit import (
    COMPUTED,
    CONTENT,
    DETAIL_BYTES_MAX,
    MASK,
    NAME_MAX,
    Entry,
    clean,
    content_hash,
    is_audited,
    masked_columns,
    plain,
    shown,
)
from polyplane.model.caller import Caller
from polyplane.model.digest import canonical
from polyplane.model.table import table_name
from polyplane.truth.statements import statement

RECORD: Final = sa.text(re.sub(r"%\((\w+)\)s", r":\1", statement("audit", "record")))
RECORD_AND_TELL: Final = sa.text(
    f"WITH recorded AS ({RECORD.text}) SELECT pg_current_xact_id()::text"
)
"""The same, and the transaction's number: no round trip more than without audit."""
LINES_MAX: Final = 5_000
"""Of one INSERT; a transaction that writes more has several."""

_CREATED, _CHANGED, _DELETED = "row.created", "row.changed", "row.deleted"
_ABSENT: Final = object()
_LAST: Final = 1 << 62


class _Told(NamedTuple):
    """What audit tells of a mapped class: (field, whether its values are masked)."""

    resource: str
    fields: tuple[tuple[str, bool], ...]
    key_masked: bool


class AuditedSession(Session):
    """A session that notes what is written to audited tables, to be sent with the transaction."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.noted: list[Entry] = []
        self.marks: dict[SessionTransaction, int] = {}
        """Savepoint -> how much was noted before it."""

    def execute(self, statement: Any, params: Any = None, **kwargs: Any) -> Any:
        """As a session does; writes in bulk are noted."""
        result = super().execute(statement, params, **kwargs)
        if isinstance(statement, UpdateBase):
            cursor = result if hasattr(result, "rowcount") else getattr(result, "raw", None)
            self._note(statement, params, getattr(cursor, "rowcount", -1))
        return result

    def scalars(self, statement: Any, params: Any = None, **kwargs: Any) -> Any:
        """As a session does; writes in bulk are noted."""
        if isinstance(statement, UpdateBase):
            return self.execute(statement, params, **kwargs).scalars()
        return super().scalars(statement, params, **kwargs)

    def scalar(self, statement: Any, params: Any = None, **kwargs: Any) -> Any:
        """As a session does; writes in bulk are noted."""
        if isinstance(statement, UpdateBase):
            return self.execute(statement, params, **kwargs).scalar()
        return super().scalar(statement, params, **kwargs)

    def _note(self, done: UpdateBase, params: Any, rows: int) -> None:
        table = done.table
        if not isinstance(table, sa.Table) or not is_audited(table):
            return
        if rows < 0 and isinstance(params, Sequence):
            rows = len(params)
        verb = "created" if isinstance(done, Insert) else "changed"
        verb = "deleted" if isinstance(done, Delete) else verb
        detail = {"rows": rows} if rows >= 0 else {}
        self.noted.append(Entry(f"rows.{verb}", table_name(table), detail=detail))


@event.listens_for(AuditedSession, "after_transaction_create")
def _begun(session: AuditedSession, begun: SessionTransaction) -> None:
    if begun.nested:
        session.marks[begun] = len(session.noted)


@event.listens_for(AuditedSession, "after_soft_rollback")
def _rolled_back(session: AuditedSession, ended: SessionTransaction) -> None:
    """What was done since a savepoint was not done."""
    if ended.nested:
        del session.noted[session.marks.pop(ended, 0) :]


@event.listens_for(AuditedSession, "after_flush")
def _flushed(session: AuditedSession, work: UOWTransaction) -> None:
    """Note what a flush has written. Classes that are not audited cost one look each."""
    found: list[tuple[int, str, Entry]] = []
    for mapper, states in work.mappers.items():
        told = _told(mapper)
        if told is None:
            continue
        for state in states:
            is_deleted, is_only_listed = work.states[state]
            entry = None if is_only_listed else _entry(told, mapper, state, is_deleted)
            if entry is not None:
                # New rows as they were added; the rest, which has no order, after them.
                added = state.insert_order or 0 if entry.action == _CREATED else _LAST
                found.append((added, entry.resource_id or "", entry))
    found.sort(key=lambda it: it[:2])
    session.noted.extend(entry for _, _, entry in found)


@lru_cache(maxsize=4096)
def _told(mapper: Mapper[Any]) -> _Told | None:
    table = mapper.local_table
    if not isinstance(table, sa.Table) or not is_audited(table):
        return None
    masked = masked_columns(table)
    fields = tuple((it.key, it.columns[0].name in masked) for it in mapper.column_attrs)
    key_masked = any(column.name in masked for column in mapper.primary_key)
    return _Told(table_name(table), fields, key_masked)


def _entry(
    told: _Told, mapper: Mapper[Any], state: InstanceState[Any], is_deleted: bool
) -> Entry | None:
    row = state.obj()
    key = _key(mapper.primary_key_from_instance(row)) if not told.key_masked else MASK
    if is_deleted:
        return Entry(_DELETED, told.resource, key, before=_loaded(told, state))
    if state.key is None:  # it is new until the flush has ended
        return Entry(_CREATED, told.resource, key, after=_loaded(told, state))
    before, after = _changes(told, state, row)
    return Entry(_CHANGED, told.resource, key, before=before, after=after) if after else None


def _loaded(told: _Told, state: InstanceState[Any]) -> dict[str, Any]:
    known = state.dict
    return {name: _value(known[name], it) for name, it in told.fields if name in known}


def _changes(
    told: _Told, state: InstanceState[Any], row: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The changed fields as they were, where that was known, and as they are. Nothing is loaded."""
    before, after = {}, {}
    for name, is_masked in told.fields:
        if name in state.expired_attributes:  # by this flush, which has set what it cannot know
            after[name] = COMPUTED
        if name not in state.committed_state:
            continue
        added, _, deleted = get_history(row, name, PassiveFlag.PASSIVE_NO_INITIALIZE)
        if not added and not deleted:
            continue
        now = added[0] if added else state.dict.get(name, _ABSENT)
        after[name] = _value(now, is_masked) if now is not _ABSENT else COMPUTED
        if deleted:
            before[name] = _value(deleted[0], is_masked)
    return before, after


def _value(value: Any, is_masked: bool) -> Any:
    return MASK if is_masked and value is not None else shown(value)


def _key(values: Sequence[Any]) -> str:
    if len(values) == 1:
        found = plain(values[0])
        return found if isinstance(found, str) else json.dumps(found)
    return canonical([plain(it) for it in values]).decode()


def checked(entry: Entry) -> Entry:
    """`entry` as it can be stored; Refused or TooLarge for what cannot."""
    for field in ("action", "resource_type", "resource_id", "outcome"):
        text = getattr(entry, field)
        if text is not None and not (text or field == "resource_id"):
            raise Refused(f"{field} is empty.", field=field)
        if text is not None and len(text) > NAME_MAX:
            raise TooLarge(f"{field} has at most {NAME_MAX} characters.", field=field)
    detail = None if entry.detail is None else plain(entry.detail)
    if detail is not None and len(canonical(detail)) > DETAIL_BYTES_MAX:
        raise TooLarge(f"A detail has at most {DETAIL_BYTES_MAX:,} bytes.", field="detail")
    return entry._replace(
        action=clean(entry.action),
        resource_type=clean(entry.resource_type),
        resource_id=None if entry.resource_id is None else clean(entry.resource_id),
        detail=detail,
        outcome=clean(entry.outcome),
    )


def records(entries: Sequence[Entry], caller: Caller) -> Iterator[dict[str, Any]]:
    """The parameters of RECORD that write `entries` down, each with the hash of its content."""
    who = {
        "at": datetime.now(UTC),
        "tenant": clean(caller.tenant),
        "actor": clean(caller.actor),
        "request_id": clean(caller.request_id),
        "address": clean(caller.address),
    }
    for start in range(0, len(entries), LINES_MAX):
        lines = []
        for n, entry in enumerate(entries[start : start + LINES_MAX]):
            named = entry._asdict()
            document = {name: who[name] if name in who else named[name] for name in CONTENT}
            line = {name: value for name, value in named.items() if value is not None}
            lines.append({"n": n, "hash": content_hash(document), **line})
        yield {"lines": canonical(lines).decode(), **who}
