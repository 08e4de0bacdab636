"""One transaction of truth: rows, captured changes, domain events and audit, all or nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import uuid4

import orjson
import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from polyplane.errors import Conflict, Forbidden, PolyplaneError, Refused, TooLarge
from polyplane.model.audit import DONE, Entry
from polyplane.model.caller import Caller
from polyplane.model.position import Token
from polyplane.model.table import Model, table_name
from polyplane.truth.auditing import RECORD, RECORD_AND_TELL, AuditedSession, checked, records
from polyplane.truth.context import SET_IN_SESSION, settings_of
from polyplane.truth.database import Database, in_our_words
from polyplane.truth.repeats import Repeat
from polyplane.truth.statements import statement

M = TypeVar("M", bound=Model)

MAX_NAME: Final = 255
MAX_EVENT_BYTES: Final = 512 << 10

_OVERTAKEN = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
)
_AGAIN = "Do it again."
_EMIT = sa.text(
    re.sub(r"%\((\w+)\)s::(\w+)\[\]", r"CAST(:\1 AS \2[])", statement("outbox", "emit"))
)
_XID = sa.text("SELECT pg_current_xact_id_if_assigned()::text")


class Write:
    """A transaction in progress. Nothing is visible to anyone until the block ends.

    `session` is the SQLAlchemy session, for all that the shortcuts do not cover. `token` is None
    until the block has ended, and after a transaction that wrote nothing.
    """

    def __init__(self, session: AsyncSession, *, caller: Caller, epoch: int) -> None:
        self.session = session
        self.caller = caller
        self.token: Token | None = None
        self.afterwards: list[Callable[[], None]] = []
        """To be called when it is committed."""
        self._epoch = epoch
        self._events: list[tuple[str, str]] = []
        heard = session.sync_session
        self._noted: list[Entry] = heard.noted if isinstance(heard, AuditedSession) else []

    @property
    def actor(self) -> str:
        """Who acts, as events and audit name them."""
        return self.caller.actor

    @property
    def tenant(self) -> str:
        """The tenant they act for."""
        return self.caller.tenant

    def add(self, row: Model) -> None:
        """Add one row."""
        self.session.add(row)

    def add_all(self, rows: list[Any]) -> None:
        """Add many rows; they are inserted in batches."""
        self.session.add_all(rows)

    async def delete(self, row: Model) -> None:
        """Delete one row."""
        await self.session.delete(row)

    async def get(self, model: type[M], key: Any, *, for_update: bool = False) -> M | None:
        """The row of `model` under its primary key, or None; locked with `for_update`."""
        return await self.session.get(model, key, with_for_update=for_update or None)

    async def execute(self, query: Any, parameters: Any = None) -> sa.Result[Any]:
        """Run a SQLAlchemy statement."""
        result: sa.Result[Any] = await self.session.execute(query, parameters)
        return result

    async def scalars(self, query: Any) -> sa.ScalarResult[Any]:
        """Run a query for the first column, or the mapped objects, of its rows."""
        return await self.session.scalars(query)

    async def flush(self) -> None:
        """Send what was added so far; server-made keys are known afterwards."""
        if self.session.new or self.session.dirty or self.session.deleted:
            await self.session.flush()

    def emit(self, kind: str, data: dict[str, Any], *, subject: str = "") -> str:
        """Publish a domain event (CloudEvents 1.0) if and only if this transaction commits.

        `kind` is `<application>.<type>`; `subject`, when given, ends the NATS subject too, so that
        one receiver can listen for its own. Returns the event's id. Raises Refused or TooLarge for
        what could not be published.
        """
        # What cannot become a subject, or a message, would hold up all that comes after it.
        if not re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", kind) or len(kind) > MAX_NAME:
            raise Refused(f"{kind[:MAX_NAME]!r} is not <application>.<type>.", field="kind")
        for name, text in (("tenant", self.tenant), ("subject", subject)):
            if len(text.encode()) > MAX_NAME:
                raise Refused(f"{name} has at most {MAX_NAME} bytes.", field=name)
        event = {
            "specversion": "1.0",
            "id": str(uuid4()),
            "source": f"polyplane/{self.tenant}/{kind.partition('.')[0]}",
            "type": kind,
            "time": datetime.now(UTC).isoformat(),
            "datacontenttype": "application/json",
            "tenant": self.tenant,
            "actor": self.actor,
            "data": data,
        }
        if subject:
            event["subject"] = subject
        try:
            body = orjson.dumps(event)
        except TypeError as error:
            raise Refused(f"The event's data is no JSON: {error}.", field="data") from error
        if len(body) > MAX_EVENT_BYTES:
            raise TooLarge(f"An event has at most {MAX_EVENT_BYTES} bytes.", field="data")
        self._events.append((kind, body.decode()))
        return str(event["id"])

    def audit(
        self,
        action: str,
        resource_type: str,
        resource_id: str | None = None,
        detail: dict[str, Any] | None = None,
        *,
        outcome: str = DONE,
    ) -> None:
        """Leave a line in audit if and only if this transaction commits, beside those of its rows.

        `action` is `<thing>.<what was done>`. Nothing personal belongs in `detail`, which stays for
        ever. Raises Refused or TooLarge for what could not be stored.
        """
        entry = Entry(action, resource_type, resource_id, detail=detail, outcome=outcome)
        self._noted.append(checked(entry))

    async def send(self) -> None:
        """Flush rows, events and audit; called at the end of the transaction."""
        await self._send(RECORD)

    async def finish(self) -> None:
        """Flush rows, events and audit, and learn the transaction's number; called by `write`."""
        found = await self._send(RECORD_AND_TELL) or await self.session.execute(_XID)
        xid = found.scalar_one()
        self.token = None if xid is None else Token(self._epoch, int(xid))

    async def _send(self, record: sa.TextClause) -> sa.Result[Any] | None:
        """What the last `record` answers; None when there was nothing for audit."""
        await self.flush()
        if self._events:
            kinds, bodies = zip(*self._events, strict=True)
            await self.session.execute(_EMIT, {"types": list(kinds), "bodies": list(bodies)})
        found = None
        if self._noted:
            for parameters in records(self._noted, self.caller):
                found = await self.session.execute(record, parameters)
            self._noted.clear()
        return found


def writing(bind: Any, **options: Any) -> AsyncSession:
    """A session for a `Write` on an engine or a connection, that hears what audit is to tell."""
    options = {"sync_session_class": AuditedSession, **options}
    return AsyncSession(bind, expire_on_commit=False, **options)


@asynccontextmanager
async def write(database: Database, *, caller: Caller, epoch: int) -> AsyncIterator[Write]:
    """A write transaction, committed when the block ends and rolled back when it raises.

    When the caller must do it once only (`Caller.repeat`), it is committed with the answer, and all
    that the request writes is in it. Raises Conflict or Refused, naming the column, for what the
    database's constraints refuse; TruthDown when PostgreSQL does not answer.
    """
    repeat = _repeat_of(caller)
    if repeat is not None:
        async with _written_once(database, caller, epoch, repeat) as tx:
            yield tx
        return
    with in_our_words(), constraints_in_our_words():
        async with writing(database.engine, **database.session_of(caller)) as session:
            tx = Write(session, caller=caller, epoch=epoch)
            try:
                await session.execute(SET_IN_SESSION, settings_of(caller))
                yield tx
                await tx.finish()
                await session.commit()
            except BaseException:
                tx.token = None
                raise
    for call in tx.afterwards:
        call()


def _repeat_of(caller: Caller) -> Repeat | None:
    """What the caller must do once only; of another than it was claimed for, nothing."""
    repeat = caller.repeat
    return repeat if isinstance(repeat, Repeat) and repeat.is_for(caller) else None


@asynccontextmanager
async def _written_once(
    database: Database, caller: Caller, epoch: int, repeat: Repeat
) -> AsyncIterator[Write]:
    """As `write`, but for the end: `repeat` holds the transaction. Blocks after the first are
    savepoints in it.
    """
    with in_our_words(), constraints_in_our_words(), repeat.block():
        async with AsyncExitStack() as stack:
            session, whole = repeat.session, repeat.session is None
            if session is None:
                made = writing(database.engine, **database.session_of(caller))
                session = await stack.enter_async_context(made)
                await session.execute(SET_IN_SESSION, settings_of(caller))
                await repeat.claim(session, caller)
            tx = Write(session, caller=caller, epoch=epoch)
            try:
                async with nullcontext() if whole else session.begin_nested():
                    yield tx
                    await tx.finish()
            except BaseException:
                tx.token = None
                raise
            repeat.hold(session, stack.pop_all(), tx.afterwards)


@asynccontextmanager
async def read(database: Database, *, caller: Caller) -> AsyncIterator[AsyncSession]:
    """A read-only transaction on one snapshot; Refused for a value that does not fit.

    What the caller has written and must write once only, it sees: then it is that transaction.
    """
    repeat = _repeat_of(caller)
    with in_our_words(), constraints_in_our_words():
        if repeat is not None and repeat.session is not None:
            yield repeat.session
            return
        options = database.session_of(caller)
        async with AsyncSession(database.snapshots, expire_on_commit=False, **options) as session:
            await session.execute(SET_IN_SESSION, settings_of(caller))
            yield session


@contextmanager
def constraints_in_our_words() -> Iterator[None]:
    """What constraints, and other transactions, refuse becomes Conflict or Refused."""
    try:
        yield
    except StaleDataError as error:
        raise Conflict("A row is gone that was to be changed.", fix=_AGAIN) from error
    except (DBAPIError, psycopg.Error) as error:
        refused = refusal(error.orig if isinstance(error, DBAPIError) else error)
        if refused is None:
            raise
        raise refused from error


def refusal(error: BaseException | None) -> PolyplaneError | None:
    """The error of ours for a constraint's or a type's refusal, or None for anything else."""
    if isinstance(error, _OVERTAKEN):
        return Conflict("Another transaction was at the same rows; nothing is stored.", fix=_AGAIN)
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        said = error.diag.message_primary or "insufficient privilege"
        return Forbidden(f"PostgreSQL does not let this caller do it: {said}.")
    if not isinstance(error, psycopg.errors.IntegrityError | psycopg.errors.DataError):
        return None
    told = error.diag
    column = told.column_name or _column_of(told) or told.constraint_name or ""
    match error:
        case psycopg.errors.UniqueViolation() | psycopg.errors.ExclusionViolation():
            return Conflict(f"There is already a row with this {column}.", field=column)
        case psycopg.errors.ForeignKeyViolation():
            if "still referenced" in (told.message_detail or ""):
                return Conflict(f"It is still referred to by {told.table_name}.", field=column)
            return Refused(f"There is nothing under the given {column}.", field=column)
        case psycopg.errors.NotNullViolation():
            return Refused(f"{column} is missing.", field=column)
        case psycopg.errors.CheckViolation():
            return Refused(f"The rule {told.constraint_name} is not met.", field=column)
    return Refused((told.message_primary or "A value does not fit") + ".", field=column)


def _column_of(told: psycopg.errors.Diagnostic) -> str:
    """The columns of a key that is refused, without the values and the tenant.

    Of `Key (a, b)=(...) already exists.`; where row security hides that, of the constraint's model.
    """
    found = re.match(r"Key \(([^)]*)\)=", told.message_detail or "")
    names = found[1].split(", ") if found else _columns_of_model(told)
    return ", ".join(name for name in names if name != "tenant_id" or len(names) == 1)


def _columns_of_model(told: psycopg.errors.Diagnostic) -> list[str]:
    for mapper in Model.registry.mappers:
        table = mapper.local_table
        if (
            isinstance(table, sa.Table)
            and table_name(table) == f"{told.schema_name}.{told.table_name}"
        ):
            for constraint in table.constraints:
                if constraint.name == told.constraint_name:
                    return [column.name for column in getattr(constraint, "columns", ())]
    return []
