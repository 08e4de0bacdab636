"""Sessions whose rows have secrets: encrypted when they are flushed, decrypted when revealed.

Only planes with secret columns have such sessions. A row's key must be known before its secrets are
encrypted, since they are bound to it: what the server would make is asked for before, once a flush.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.util import await_only

from polyplane.errors import Refused
from polyplane.model.caller import Caller
from polyplane.model.secret import Secret, bound, ciphertext_of, is_bound, sealed
from polyplane.model.secret_rows import Look, Place, Scope, SecretRows
from polyplane.security.cipher import key_id_of
from polyplane.truth.auditing import AuditedSession
from polyplane.truth.keyring import Keyring, SecretKey

_SEALING: Final = "polyplane.sealing"


class Sealing:
    """What the sessions of one plane encrypt with, and which of its models have what to encrypt."""

    def __init__(self, ring: Keyring, rows: Sequence[SecretRows]) -> None:
        self.ring = ring
        self.rows = {it.model: it for it in rows}
        for model in self.rows:
            if not event.contains(model, "load", _loaded):
                event.listen(model, "load", _loaded)
                event.listen(model, "refresh", _refreshed)

    def session_of(self, caller: Caller) -> dict[str, Any]:
        """How a session for `caller` is to be made."""
        return {"sync_session_class": _Session, "info": {_SEALING: _Open(self, caller.tenant)}}


class _Open:
    """One session's: what it has made and read, and not yet given keys to."""

    def __init__(self, sealing: Sealing, tenant: str) -> None:
        self.ring = sealing.ring
        self.rows = sealing.rows
        self.tenant = tenant
        self.keys: dict[str, SecretKey] = {}
        """Those of this transaction, which may be the only one that knows of them."""
        self.waiting: list[tuple[Secret[Any], Place, str]] = []

    async def give_keys(self) -> None:
        """Let what was read be revealed: one look-up for all of it."""
        waiting, self.waiting = self.waiting, []
        wanted = {key_id_of(text) for _, _, text in waiting} - self.keys.keys()
        found = {**self.keys, **await self.ring.keys(wanted)} if wanted else self.keys
        for secret, place, text in waiting:
            bound(secret, partial(found[key_id_of(text)].unseal, text, place))


class _Session(AuditedSession):
    """A session that knows what to encrypt with."""


# Reading


def _loaded(row: Any, context: Any) -> None:
    _refreshed(row, context, None)


def _refreshed(row: Any, context: Any, names: Any) -> None:
    """Say of each ciphertext of `row` where it was read, and that it needs its key."""
    opened: _Open | None = context.session.info.get(_SEALING)
    rows = None if opened is None else opened.rows.get(type(row))
    if opened is None or rows is None or _streams(context.execution_options):
        return
    look = _as_stored(row)
    for name, column in rows.secrets:
        value = row.__dict__.get(name)
        text = ciphertext_of(value) if isinstance(value, Secret) and not is_bound(value) else None
        if text is not None:
            try:
                opened.waiting.append((value, rows.place(look, column), text))
            except KeyError:  # without its tenant, say: it stays as it is, and says so
                continue


def _as_stored(row: Any) -> Look:
    """The attributes of `row` as the database has them, whatever was set since."""
    state: Any = sa.inspect(row)
    return lambda name: state.committed_state.get(name, state.dict[name])


def _executing(state: ORMExecuteState) -> Any:
    """Fetch the data keys of all rows that a statement has given."""
    opened: _Open | None = state.session.info.get(_SEALING)
    if opened is None or not state.is_orm_statement or _streams(state.execution_options):
        return None
    # All rows are made here, where there may be waited for their keys.
    result = state.invoke_statement(execution_options={"prebuffer_rows": True})
    if opened.waiting:
        await_only(opened.give_keys())
    return result


def _streams(options: Mapping[str, Any]) -> bool:
    """Whether rows are made while somebody takes them, when there is no waiting for keys."""
    return bool(options.get("stream_results") or options.get("yield_per"))


# Writing


def _flushing(session: Session, context: Any, instances: Any) -> None:
    """Encrypt the secrets of all rows that are about to be written."""
    opened: _Open | None = session.info.get(_SEALING)
    if opened is None:
        return
    new = [(row, rows) for row in session.new if (rows := opened.rows.get(type(row)))]
    dirty = [(row, rows) for row in session.dirty if (rows := opened.rows.get(type(row)))]
    if not new and not dirty:
        return
    _identify(session, opened, new)
    changed = [(row, rows, _changed(row, rows)) for row, rows in chain(new, dirty)]
    _encrypt(session, opened, [it for it in changed if it[2]])


def _identify(session: Session, opened: _Open, new: Sequence[tuple[Any, SecretRows]]) -> None:
    """Give new rows the tenant and the key that they would only have once they are written."""
    made: dict[tuple[type[Any], str], list[Any]] = {}
    for row, rows in new:
        if rows.tenant is not None and getattr(row, rows.tenant) is None:
            setattr(row, rows.tenant, opened.tenant)
        for name in rows.keys:
            if getattr(row, name) is None:
                made.setdefault((type(row), name), []).append(row)
    for (model, name), wanting in made.items():
        column = opened.rows[model].table.primary_key.columns[_column(model, name)]
        for row, key in zip(wanting, _new_keys(session, column, len(wanting)), strict=True):
            setattr(row, name, key)


def _column(model: type[Any], name: str) -> str:
    return str(sa.inspect(model).column_attrs[name].columns[0].key)


def _new_keys(session: Session, column: sa.Column[Any], count: int) -> Sequence[Any]:
    """`count` keys as the column's default makes them."""
    default: Any = column.default
    if default is not None and default.is_callable:
        return [default.arg(None) for _ in range(count)]
    made: Any = column.server_default
    if not isinstance(made, sa.DefaultClause):
        raise Refused(
            f"{column} is missing, and secrets are bound to it.",
            field=column.name,
            fix="Give it before the row is written.",
        )
    text = made.arg if not isinstance(made.arg, str) else sa.literal(made.arg)
    value: sa.ColumnElement[Any] = sa.type_coerce(text, column.type)
    series = sa.select(sa.func.generate_series(1, count).label("n")).subquery()
    return session.connection().execute(sa.select(value).select_from(series)).scalars().all()


def _changed(row: Any, rows: SecretRows) -> list[tuple[str, str]]:
    """The secrets of `row` that must be encrypted: what is new, or all when what they are bound to
    changes.
    """
    state: Any = sa.inspect(row)
    if state.pending:
        return [it for it in rows.secrets if getattr(row, it[0]) is not None]
    names = list(rows.secrets)
    if not any(state.attrs[name].history.has_changes() for name in rows.decisive):
        names = [it for it in names if state.attrs[it[0]].history.has_changes()]
    return [it for it in names if getattr(row, it[0]) is not None]


def _encrypt(
    session: Session,
    opened: _Open,
    changed: Sequence[tuple[Any, SecretRows, list[tuple[str, str]]]],
) -> None:
    if not changed:
        return
    scopes = [rows.scope(partial(getattr, row)) for row, rows, _ in changed]
    keys = _keys(session, opened, set(scopes))
    for (row, rows, names), scope in zip(changed, scopes, strict=True):
        for name, column in names:
            value = getattr(row, name)
            if not isinstance(value, Secret):
                raise Refused(
                    f"{column} is secret, and was given a {type(value).__name__}.",
                    field=column,
                    fix='Give it a Secret: Secret("...").',
                )
            place = rows.place(partial(getattr, row), column)
            text = keys[scope].seal(value.reveal(), place)
            setattr(row, name, bound(sealed(text), partial(keys[scope].unseal, text, place)))


def _keys(session: Session, opened: _Open, scopes: set[Scope]) -> Mapping[Scope, SecretKey]:
    """The data keys of `scopes`, within the session's transaction."""

    driver: Any = session.connection().connection.driver_connection

    async def execute(query: Any, given: Any) -> Sequence[Sequence[Any]]:
        cursor = await driver.execute(query, given)
        return await cursor.fetchall() if cursor.description else []

    found: dict[Scope, SecretKey] = await_only(opened.ring.for_writing(execute, scopes))
    opened.keys |= {key.id: key for key in found.values()}
    return found


event.listen(_Session, "before_flush", _flushing)
event.listen(_Session, "do_orm_execute", _executing)
