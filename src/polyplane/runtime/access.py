"""How applications read and feed stores: what `plane[...]` and `plane.acting(...)[...]` hand out.

Each reader is made with the scope of whoever reads. It hands it to the store, which filters, and
looks again at everything that comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, Generic
from uuid import uuid4

import orjson
import pyarrow as pa
import structlog
from typing_extensions import TypeVar

from polyplane.errors import Refused
from polyplane.feed.protocol import Ack, Feed, Outgoing, Subjects, told
from polyplane.flow.projector import Target
from polyplane.model import points
from polyplane.model.digest import canonical
from polyplane.model.items import Where
from polyplane.model.message import Message
from polyplane.model.position import Position
from polyplane.model.projection import Projection
from polyplane.model.scope import Scope, Whose
from polyplane.model.stream import Stream
from polyplane.model.tenancy import of_tenant
from polyplane.runtime.alarms import Alarms
from polyplane.runtime.generations import Reading
from polyplane.stores.protocol import CacheStore, SeriesStore
from polyplane.truth.database import Database
from polyplane.truth.scan import rows_by_key

P = TypeVar("P", bound=Projection[Any])

_log = structlog.get_logger(__name__)

ARROW: Final = "application/vnd.apache.arrow.stream"
MESSAGE_POINTS: Final = 5_000
MESSAGE_BYTES: Final = 512 << 10
"""A NATS server takes 1 MB unless it is told otherwise."""


class CacheReader(Generic[P]):
    """Read through one `Cached` projection."""

    def __init__(
        self,
        scope: Scope,
        whose: Whose,
        target: Target,
        reading: Callable[[], Reading],
        store: CacheStore,
        database: Database,
        feed: Feed,
        changes: str,
        epoch: Callable[[], int],
        alarms: Alarms,
    ) -> None:
        """`changes` is the name of the changes stream, `epoch` gives the present one."""
        self._scope = scope
        self._whose = whose
        self._target = target
        self._reading = reading
        self._store = store
        self._database = database
        self._feed = feed
        self._changes = changes
        self._epoch = epoch
        self._alarms = alarms

    async def get(self, key: Any) -> Any | None:
        """The value that follows from the row under `key`, or None when there is none to be seen.

        On a miss truth is read and the value stored; the order of the feed is taken first, so
        that a change that comes meanwhile is newer and wins. While readers read what other code
        derives, or what has lost its tail is filled again, the value comes from truth alone.
        """
        reading = self._reading()
        if reading.derived and reading.filled:
            found = await self._store.get(reading.collection, self._scope, str(key))
            if found is not None:
                if not self._scope.sees(self._whose.marks, found.marks):
                    raise self._alarms.violated(reading.collection.name, f"entry {key}")
                return found.value
        epoch = self._epoch()  # first: should it end now, the value has a stamp of the old one
        bounds = await self._feed.bounds(self._changes)
        async with self._database.connection() as connection:
            rows = await rows_by_key(connection, self._target.source, [str(key)])
        # What is another's is as if it were not there, before anything is made of it: nothing
        # that follows, neither a fault nor a filled cache, may tell that it is.
        puts, _ = await self._target.deriver.items(
            (it, row) for it, row in rows.items() if self._is_mine(it, row)
        )
        if not puts:
            return None
        if reading.derived:
            position = Position(epoch, bounds.last)
            await self._store.offer(reading.collection, puts, position.packed())
        return orjson.loads(canonical(puts[0].content.value))

    def _is_mine(self, key: str, row: Any) -> bool:
        if not self._whose.marks:
            return True
        try:
            said = self._whose.read(row.row if self._target.source.related else row)
        except Refused as error:  # nobody can say whose it is
            _log.warning("cache.unreadable", projection=self._target.name, key=key, why=str(error))
            return False
        return self._scope.sees(self._whose.marks, said)


class StreamAccess:
    """Feed and query one stream."""

    def __init__(
        self,
        scope: Scope,
        stream: type[Stream],
        store: SeriesStore,
        feed: Feed,
        subjects: Subjects,
        alarms: Alarms,
    ) -> None:
        self._scope = scope
        self._stream = stream
        self._store = store
        self._feed = feed
        self._alarms = alarms
        self._tenant = scope.tenant if stream.tenant_column else None
        _, self._subject = subjects.stream(stream.name)
        if self._tenant is not None:
            self._subject = subjects.points(stream.name, self._tenant)

    # Reading

    async def window(
        self,
        *,
        value: str,
        bucket_s: int,
        where: Where,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int = 10_000,
    ) -> pa.Table:
        """Per time bucket: `bucket` (UTC), `avg`, `min`, `max`, `count` of column `value`.

        Raises Refused for what the stream has not, or cannot compare.
        """
        found = await self._store.window(
            self._stream,
            self._scope,
            value=value,
            bucket_s=bucket_s,
            where=self._where(where),
            start=start,
            end=end,
            limit=limit,
        )
        if not self._stream.tenant_column:
            return found
        self._check(value for name in _WHOSE for value in found[name].unique().to_pylist())
        return found.drop_columns(list(_WHOSE))

    async def latest(self, *, by: str, where: Where, limit: int = 1_000) -> pa.Table:
        """The newest point for each value of column `by`. Raises Refused as `window`."""
        found = await self._store.latest(
            self._stream, self._scope, by=by, where=self._where(where), limit=limit
        )
        if name := self._stream.tenant_column:
            self._check(found[name].unique().to_pylist())
        return found

    async def count(self, where: Where | None = None) -> int:
        """How many points there are. Raises Refused as `window`."""
        found = await self._store.count(self._stream, self._scope, self._where(where or {}))
        if found.points or found.tenants:
            self._check(found.tenants or (None,))
        return found.points

    def _where(self, where: Where) -> Where:
        """`where`, which cannot say whose points it means."""
        if (name := self._stream.tenant_column) and name in where:
            raise Refused(f"{name} is given by the plane.", field=name)
        return where

    def _check(self, tenants: Iterable[str | None]) -> None:
        if self._stream.tenant_column and any(it != self._tenant for it in tenants):
            raise self._alarms.violated(self._stream.name, "points of another tenant")

    # Feeding

    async def publish(
        self, batch: pa.Table | Mapping[str, Sequence[Any]], *, batch_id: str | None = None
    ) -> Ack:
        """Take points durably; they are queryable a moment later. The acknowledgement of the last.

        `batch` is an Arrow table or columns of plain values. The same `batch_id` again brings
        nothing twice. Raises Refused, naming the column and row, and then nothing is taken.
        """
        table = self._conformed(batch)
        if table.num_rows == 0:
            raise Refused("A batch without points.", field=self._stream.name)
        name = self._batch(batch_id)
        messages = (
            Outgoing(self._subject, body, f"{name}:{start}", {"Content-Type": ARROW})
            for start, body in _bodies(table)
        )
        acks = await asyncio.gather(*map(self._feed.publish, messages))
        return acks[-1]

    async def load(self, table: pa.Table, *, batch_id: str | None = None) -> int:
        """The direct path for large loads, past the feed; the number of points stored."""
        conformed = self._conformed(table, max_rows=10_000_000)
        ids = points.event_ids(self._batch(batch_id), conformed.num_rows)
        stored = await self._store.bulk(self._stream, conformed.append_column(points.EVENT_ID, ids))
        await self._store.barrier()
        return stored

    def _conformed(
        self, batch: pa.Table | Mapping[str, Sequence[Any]], max_rows: int = points.MAX_ROWS
    ) -> pa.Table:
        if self._tenant is not None:
            batch = of_tenant(self._stream, batch, self._tenant)
        if isinstance(batch, pa.Table):
            return points.conform(self._stream, batch, max_rows=max_rows)
        return points.decode(self._stream, batch)

    def _batch(self, batch_id: str | None) -> str:
        """The name of a batch, which is no other tenant's."""
        name = batch_id or str(uuid4())
        return name if self._tenant is None else f"{self._tenant}:{name}"


_WHOSE: Final = ("tenant_min", "tenant_max")


def _bodies(table: pa.Table, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """(first row, message) for pieces that fit, the same each time: their ids are made of it."""
    whole = table.num_rows <= MESSAGE_POINTS
    body = points.ipc_bytes(table) if whole else b""
    if whole and (len(body) <= MESSAGE_BYTES or table.num_rows == 1):
        yield start, body
        return
    size = table.num_rows // 2 if whole else MESSAGE_POINTS
    for first in range(0, table.num_rows, size):
        yield from _bodies(table.slice(first, size), start + first)


def decode_message(stream: type[Stream], message: Message) -> pa.Table:
    """The points of a message of the feed, Arrow or JSON columns, with their `event_id`.

    Where points belong to tenants, the subject says to which: that is what a sender's rights are
    about. Raises Refused for anything else.
    """
    tenant = _tenant_of(stream, message) if stream.tenant_column else None
    if message.headers.get("Content-Type") == ARROW:
        table = points.decode_ipc(stream, message.body, tenant=tenant)
    else:
        try:
            columns = orjson.loads(message.body)
        except orjson.JSONDecodeError as error:
            raise Refused(f"Neither Arrow nor JSON: {error}.") from error
        if not isinstance(columns, dict) or not all(isinstance(v, list) for v in columns.values()):
            raise Refused("Points are columns: an object of lists.")
        if tenant is not None:
            columns = of_tenant(stream, columns, tenant)
        table = points.decode(stream, columns)
    batch_id = message.headers.get("Nats-Msg-Id") or _made_of(stream, message)
    return table.append_column(points.EVENT_ID, points.event_ids(batch_id, table.num_rows))


def _tenant_of(stream: type[Stream], message: Message) -> str:
    """Whose the points of a message are; Refused when its subject does not say it."""
    _, is_said, last = message.subject.rpartition(f".streams.{stream.name}.")
    if not is_said:
        raise Refused("The subject says no tenant.", field=stream.tenant_column)
    return told(last)


def _made_of(stream: type[Stream], message: Message) -> str:
    """An id for a message that has none, the same at each delivery. A sequence alone would come
    again, with other points, once the feed's stream was lost and made anew.
    """
    body = blake2b(message.body, digest_size=16).hexdigest()
    return f"{stream.name}:{message.sequence}:{body}"
