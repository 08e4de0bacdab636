"""How applications read and feed stores: what `plane[...]` hands out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Final, Generic
from uuid import uuid4

import orjson
import pyarrow as pa
from typing_extensions import TypeVar

from polyplane.errors import Misconfigured, Refused, StoreDown
from polyplane.feed.protocol import Ack, Feed, Outgoing, Subjects
from polyplane.flow.projector import Target
from polyplane.model import points
from polyplane.model.digest import canonical
from polyplane.model.items import Hit, Where
from polyplane.model.message import Message
from polyplane.model.position import Position
from polyplane.model.projection import Projection
from polyplane.model.stream import Stream
from polyplane.runtime.generations import Reading
from polyplane.stores.protocol import CacheStore, SeriesStore, VectorStore
from polyplane.truth.database import Database
from polyplane.truth.scan import rows_by_key

P = TypeVar("P", bound=Projection[Any])

ARROW: Final = "application/vnd.apache.arrow.stream"
MESSAGE_POINTS: Final = 5_000
MESSAGE_BYTES: Final = 512 << 10
"""A NATS server takes 1 MB unless it is told otherwise."""


class VectorReader(Generic[P]):
    """Search in the collection of one `Vectors` projection."""

    def __init__(
        self,
        reading: Callable[[], Reading],
        refresh: Callable[[], Awaitable[None]],
        store: VectorStore,
    ) -> None:
        """`refresh` has `reading` give what the journal knows."""
        self._reading = reading
        self._refresh = refresh
        self._store = store

    async def search(
        self, query: str | Sequence[float], *, limit: int = 10, tags: Where | None = None
    ) -> list[Hit]:
        """The items nearest to `query` (a text, or an embedding) that satisfy `tags`, best first.

        Raises Refused for an unknown tag or a limit outside 1 to 1,000, StoreDown while the
        collection is being filled: what it lacks would be no answer.
        """
        if not 1 <= limit <= 1_000:
            raise Refused("limit must be from 1 to 1,000.", field="limit")
        reading = await self._whole()  # throughout, whatever is switched meanwhile
        if isinstance(query, str):
            if reading.embedder is None:
                raise Misconfigured("A text cannot be searched for without an embedder.")
            (embedding,) = await reading.embedder.embed([query])
        else:
            embedding = query
        return await self._store.search(reading.collection, embedding, limit=limit, where=tags)

    async def get(self, keys: Sequence[Any]) -> list[Hit]:
        """The items under `keys` that exist, in the order of `keys`."""
        return await self._store.get((await self._whole()).collection, [str(key) for key in keys])

    async def _whole(self) -> Reading:
        """The collection to read, which holds all of truth; else StoreDown."""
        if not (reading := self._reading()).filled:
            await self._refresh()
            if not (reading := self._reading()).filled:
                raise StoreDown(
                    f"{reading.collection.target} is being filled.",
                    fix="Try again in a moment; `polyplane status` shows how far it is.",
                )
        return reading


class CacheReader(Generic[P]):
    """Read through one `Cached` projection."""

    def __init__(
        self,
        target: Target,
        reading: Callable[[], Reading],
        store: CacheStore,
        database: Database,
        feed: Feed,
        changes: str,
        epoch: Callable[[], int],
    ) -> None:
        """`changes` is the name of the changes stream, `epoch` gives the present one."""
        self._target = target
        self._reading = reading
        self._store = store
        self._database = database
        self._feed = feed
        self._changes = changes
        self._epoch = epoch

    async def get(self, key: Any) -> Any | None:
        """The value that follows from the row under `key`, or None when there is none.

        On a miss truth is read and the value stored; the order of the feed is taken first, so
        that a change that comes meanwhile is newer and wins. While readers read what other code
        derives, or what has lost its tail is filled again, the value comes from truth alone.
        """
        reading = self._reading()
        if reading.derived and reading.filled:
            value = await self._store.get(reading.collection, str(key))
            if value is not None:
                return value
        epoch = self._epoch()  # first: should it end now, the value has a stamp of the old one
        bounds = await self._feed.bounds(self._changes)
        async with self._database.connection() as connection:
            rows = await rows_by_key(connection, self._target.source, [str(key)])
        puts, _ = await self._target.deriver.items(rows.items())
        if not puts:
            return None
        if reading.derived:
            position = Position(epoch, bounds.last)
            await self._store.offer(reading.collection, puts, position.packed())
        return orjson.loads(canonical(puts[0].content.value))


class StreamAccess:
    """Feed and query one stream."""

    def __init__(
        self, stream: type[Stream], store: SeriesStore, feed: Feed, subjects: Subjects
    ) -> None:
        self._stream = stream
        self._store = store
        self._feed = feed
        _, self._subject = subjects.stream(stream.name)
        self.window = partial(store.window, stream)
        self.latest = partial(store.latest, stream)
        self.count = partial(store.count, stream)

    async def publish(
        self, batch: pa.Table | Mapping[str, Sequence[Any]], *, batch_id: str | None = None
    ) -> Ack:
        """Take points durably; they are queryable a moment later. The acknowledgement of the last.

        `batch` is an Arrow table or columns of plain values. The same `batch_id` again brings
        nothing twice. Raises Refused, naming the column and row, and then nothing is taken.
        """
        if isinstance(batch, pa.Table):
            table = points.conform(self._stream, batch)
        else:
            table = points.decode(self._stream, batch)
        if table.num_rows == 0:
            raise Refused("A batch without points.", field=self._stream.name)
        name = batch_id or str(uuid4())
        messages = (
            Outgoing(self._subject, body, f"{name}:{start}", {"Content-Type": ARROW})
            for start, body in _bodies(table)
        )
        acks = await asyncio.gather(*map(self._feed.publish, messages))
        return acks[-1]

    async def load(self, table: pa.Table, *, batch_id: str | None = None) -> int:
        """The direct path for large loads, past the feed; the number of points stored."""
        conformed = points.conform(self._stream, table, max_rows=10_000_000)
        ids = points.event_ids(batch_id or str(uuid4()), conformed.num_rows)
        stored = await self._store.bulk(self._stream, conformed.append_column(points.EVENT_ID, ids))
        await self._store.barrier()
        return stored


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

    Raises Refused for anything else.
    """
    if message.headers.get("Content-Type") == ARROW:
        table = points.decode_ipc(stream, message.body)
    else:
        try:
            columns = orjson.loads(message.body)
        except orjson.JSONDecodeError as error:
            raise Refused(f"Neither Arrow nor JSON: {error}.") from error
        if not isinstance(columns, dict) or not all(isinstance(v, list) for v in columns.values()):
            raise Refused("Points are columns: an object of lists.")
        table = points.decode(stream, columns)
    batch_id = message.headers.get("Nats-Msg-Id") or _made_of(stream, message)
    return table.append_column(points.EVENT_ID, points.event_ids(batch_id, table.num_rows))


def _made_of(stream: type[Stream], message: Message) -> str:
    """An id for a message that has none, the same at each delivery. A sequence alone would come
    again, with other points, once the feed's stream was lost and made anew.
    """
    body = blake2b(message.body, digest_size=16).hexdigest()
    return f"{stream.name}:{message.sequence}:{body}"
