"""ClickHouse: in process (chdb) or on a server, through the same client and the same SQL.

`chdb:///absolute/path` runs the engine in this process; one process may open a path, and a
process one path. `clickhouse://user:password@host:8123/database` (also `clickhouses`, `http`,
`https`) speaks to a server. The option `database` wins over the URL's path.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.client import Client

from polyplane.errors import Forbidden, Misconfigured, PolyplaneError, Refused, TooLarge
from polyplane.model.drift import Partition
from polyplane.model.items import Where
from polyplane.model.points import EVENT_ID, EVENT_ID_TYPE, arrow_schema
from polyplane.model.scope import Scope
from polyplane.model.stream import Stream
from polyplane.stores import disk
from polyplane.stores.protocol import Count, HeldBatch
from polyplane.stores.series import clickhouse_ddl as ddl, clickhouse_queries as queries
from polyplane.stores.series.clickhouse_custody import Custody, set_torn_aside
from polyplane.stores.series.clickhouse_lane import RESULT_ROWS_MAX, Lane
from polyplane.stores.series.clickhouse_queries import Query
from polyplane.stores.series.clickhouse_room import Room

INSERT_ROWS_MAX: Final = 1_000_000
"""Most points of one insert: a deduplication token covers one block, so it must be one block."""
RESULT_BYTES_MAX: Final = 512 * 1024 * 1024
PROVE_S: Final = 900.0
"""How long one question of a proof may take, which reads a month of points, or all of them."""
_READERS: Final = 8
"""Concurrent reads of a server. The calls of one chdb handle queue up anyway."""

_WRITE_SETTINGS: Final = {
    "async_insert": 0,  # would answer before the points are there, and forget tokens
    "min_insert_block_size_rows": INSERT_ROWS_MAX,
    "min_insert_block_size_bytes": 0,
    "max_insert_block_size": INSERT_ROWS_MAX,
    "max_partitions_per_insert_block": 0,  # points are of 1970 to 2099, at most 1,560 months
}
# Points that are stored twice count once: FINAL. The copies of a point are equal and lie in one
# month, so filters may run first and months need not be merged with each other.
_READ_SETTINGS: Final = {
    "do_not_merge_across_partitions_select_final": 1,
    "optimize_move_to_prewhere_if_final": 1,
    "transform_null_in": 1,
    "session_timezone": "UTC",
    "max_result_rows": RESULT_ROWS_MAX,
    "max_result_bytes": RESULT_BYTES_MAX,
    "result_overflow_mode": "throw",
}
# For SQL that is not ours. `readonly` comes last: it forbids to change any setting after it.
_GUEST_SETTINGS: Final = {"transform_null_in": 0, "final": 1, "readonly": 1}


async def connect(
    url: str, *, database: str = "", timeout_s: float = 30.0, **options: Any
) -> ClickHouseSeries:
    """Open the store at `url`, creating its database when it is not there.

    Raises Misconfigured for a URL, option or credentials that cannot work, or a chdb path that
    another process has open; StoreDown when a server does not answer.
    """
    if options:
        raise Misconfigured(f"ClickHouse has no option {min(options)!r}.")
    target, folder, named = _target(url, timeout_s)
    database = database or named
    if not re.fullmatch(r"\w{1,100}", database):
        raise Misconfigured(f"{database!r} is no name for a database.")
    torn = await asyncio.to_thread(set_torn_aside, folder) if folder is not None else []
    writer = await Lane.open(target, _WRITE_SETTINGS, threads=1, timeout_s=timeout_s)
    lanes = [writer]
    try:
        create = f"CREATE DATABASE IF NOT EXISTS {ddl.quoted(database)}"
        await writer.run(lambda client: client.command(create))
        target["database"] = database
        reading = {"max_execution_time": timeout_s} | _READ_SETTINGS
        for settings in (reading, reading | _GUEST_SETTINGS):
            lane = await Lane.open(target, settings, threads=_READERS, timeout_s=timeout_s)
            lanes.append(lane)
    except BaseException:
        for lane in lanes:
            await lane.close()
        raise
    slow = {"max_execution_time": PROVE_S} | _READ_SETTINGS
    patient = target if folder is not None else target | {"send_receive_timeout": PROVE_S}
    prover = partial(Lane.open, patient, slow, threads=1, timeout_s=PROVE_S)
    return ClickHouseSeries(*lanes, database=database, folder=folder, open_prover=prover, torn=torn)


def _target(url: str, timeout_s: float) -> tuple[dict[str, Any], Path | None, str]:
    """What the driver connects to, the folder we own (chdb), and the database the URL names."""
    parts = urlsplit(url)
    further = dict(parse_qsl(parts.query))
    if parts.scheme == "chdb":
        path = Path(unquote(parts.path))
        if parts.netloc or not path.is_absolute():
            raise Misconfigured("chdb needs an absolute path.", fix="Write chdb:///path/to/folder.")
        return {"interface": "chdb", "path": str(path), "chdb_options": further}, path, "default"
    secure = parts.scheme in ("clickhouses", "https")
    target: dict[str, Any] = {
        "interface": "https" if secure else "http",
        "host": parts.hostname or "localhost",
        "port": parts.port or (8443 if secure else 8123),
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "connect_timeout": 5,
        "send_receive_timeout": timeout_s,
        "autogenerate_session_id": False,  # a session would serialise concurrent reads
        **further,
    }
    return target, None, unquote(parts.path.strip("/")) or "default"


class ClickHouseSeries:
    """SeriesStore in ClickHouse: one ReplacingMergeTree per stream."""

    def __init__(
        self,
        writer: Lane,
        reader: Lane,
        guest: Lane,
        *,
        database: str,
        folder: Path | None,
        open_prover: Callable[[], Awaitable[Lane]],
        torn: list[str] | None = None,
    ) -> None:
        """`torn` is what was set aside of the folder before it was opened."""
        self.multi_process = folder is None
        self.database = database
        self._writer = writer
        self._reader = reader
        self._guest = guest
        self._prover: Lane | None = None
        self._open_prover = open_prover
        self._opening = asyncio.Lock()
        self._folder = folder
        self._custody = Custody(database, folder, torn or [])
        self._room = Room(database, folder)

    @property
    def folder(self) -> Path | None:
        """Where the files are; None when they are not ours."""
        return self._folder

    async def ping(self) -> None:
        """Return when the engine answers; StoreDown when it does not."""
        self._room.look()
        await self._writer.run(lambda client: client.command("SELECT 1"))

    async def barrier(self) -> None:
        """chdb: sync the folder. A server syncs every insert itself (`fsync_after_insert`)."""
        if self._folder is not None:
            synced = self._writer.within_deadline(asyncio.to_thread(disk.sync, self._folder))
            await self._custody.kept(self._writer, synced, may_note=not self._room.is_suspect)
            self._room.check()

    async def inspect(self) -> list[str]:
        """chdb: look whether all parts are there and well; what is not, in words.

        Streams that have lost points are not read any more.
        """
        return await self._custody.taken(self._writer) if self._folder is not None else []

    async def close(self) -> None:
        """Let running calls end, then let go. Safe to call twice."""
        with suppress(PolyplaneError):
            if self._custody.is_taken:
                self._custody.leave()
                await self.barrier()
        for lane in (self._prover, self._guest, self._reader, self._writer):
            if lane is not None:
                await lane.close()

    async def prepare(self, stream: type[Stream]) -> None:
        """Create the stream's table, or add what the declaration has gained: columns, TTL.

        Raises Misconfigured when the table has a column of another type, or another order.
        """
        create = ddl.create_table(self.database, stream, fsync_inserts=self.multi_process)
        await self._writer.run(partial(self._prepare, stream, create))

    def _prepare(self, stream: type[Stream], create: str, client: Client) -> None:
        client.command(create)
        where = {"database": self.database, "table": stream.name}
        columns = client.query(
            "SELECT name, type FROM system.columns"
            " WHERE database = {database:String} AND table = {table:String}",
            where,
        )
        tables = client.query(
            "SELECT sorting_key, engine_full FROM system.tables"
            " WHERE database = {database:String} AND name = {table:String}",
            where,
        )
        found_key, engine = tables.result_rows[0]
        found = {str(name): str(kind) for name, kind in columns.result_rows}
        for statement in ddl.changes(self.database, stream, found, found_key, engine):
            client.command(statement)

    async def append(self, stream: type[Stream], points: pa.Table, *, token: str) -> None:
        """Insert `points` once, in one block, whatever number of months they lie in.

        Raises Refused for other columns than declared, TooLarge above INSERT_ROWS_MAX points.
        """
        points = _checked(stream, points)
        if points.num_rows > INSERT_ROWS_MAX:
            raise TooLarge(f"One append has at most {INSERT_ROWS_MAX} points.")
        await self._sound()
        self._room.check()
        if points.num_rows:
            await self._writer.run(partial(self._append, stream, points, token))

    def _append(self, stream: type[Stream], points: pa.Table, token: str, client: Client) -> None:
        """The engine notes a token before it commits the points: after a crash between the two
        it would drop them as known, for ever. So look whether they are all there, and insert
        those that are lost under a token of their own. Copies that this may make count once.
        """
        self._insert(stream, points, token, client)
        if self._stored(stream, points, client) < points.num_rows:
            self._insert(stream, points, f"{token}:{uuid4()}", client)

    def _insert(self, stream: type[Stream], points: pa.Table, token: str, client: Client) -> None:
        settings = {"insert_deduplication_token": token}
        client.insert_arrow(self._table(stream), points, settings=settings)

    def _stored(self, stream: type[Stream], points: pa.Table, client: Client) -> int:
        """How many of the points in `points` the table has."""
        batches = _batches(points)
        span = pc.min_max(points["time"].cast(pa.int64()))
        query = queries.stored(
            self._table(stream), batches, span["min"].as_py(), span["max"].as_py()
        )
        return int(client.query(query.sql, query.parameters).result_rows[0][0])

    async def bulk(self, stream: type[Stream], points: pa.Table) -> int:
        """Insert `points` in blocks of INSERT_ROWS_MAX; a failure leaves whole blocks behind."""
        points = _checked(stream, points)
        await self._sound()
        self._room.check()
        for start in range(0, points.num_rows, INSERT_ROWS_MAX):
            block = points.slice(start, INSERT_ROWS_MAX)
            await self._writer.run(partial(self._insert, stream, block, str(uuid4())))
        return int(points.num_rows)

    async def query(self, scope: Scope, sql: str, parameters: dict[str, Any]) -> pa.Table:
        """Run one SELECT with parameters bound to its `{name:Type}` places.

        Read-only, points stored twice count once. Raises Refused for anything but a SELECT on
        tables and for what the engine refuses, TooLarge above RESULT_ROWS_MAX rows, StoreDown;
        Forbidden for a scope with limits.
        """
        if not scope.is_everything:
            raise Forbidden("A free query is not for callers.", fix="Use window, latest or count.")
        plain = queries.plain_parameters(parameters)
        parse = "SELECT formatQuerySingleLine({sql:String})"

        def checked(client: Client) -> pa.Table:
            canonical = client.query(parse, {"sql": sql}).result_rows[0][0]
            queries.check_reading(canonical, parameters)
            self._custody.check(*re.findall(r"\w+", canonical))
            return _arrow(client, Query(canonical, plain))

        await self._sound()
        return await self._guest.run(checked, sql_is_callers=True)

    async def window(
        self,
        stream: type[Stream],
        scope: Scope,
        *,
        value: str,
        bucket_s: int,
        where: Where,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int = 10_000,
    ) -> pa.Table:
        """Per time bucket, from `start` up to but without `end`: see the protocol."""
        self._custody.check(stream.name)
        return await self._read(
            queries.window(
                self._table(stream),
                stream,
                value=value,
                bucket_s=bucket_s,
                where=queries.narrowed(stream, scope, where),
                start=start,
                end=end,
                limit=limit,
            )
        )

    async def latest(
        self, stream: type[Stream], scope: Scope, *, by: str, where: Where, limit: int = 1_000
    ) -> pa.Table:
        """The newest point for each value of column `by`, in the order of `by`."""
        self._custody.check(stream.name)
        where = queries.narrowed(stream, scope, where)
        found = await self._read(
            queries.latest(self._table(stream), stream, by=by, where=where, limit=limit)
        )
        return found.cast(arrow_schema(stream))

    async def count(self, stream: type[Stream], scope: Scope, where: Where | None = None) -> Count:
        """How many different points there are, and whose."""
        self._custody.check(stream.name)
        where = queries.narrowed(stream, scope, where or {})
        found = await self._read(queries.count(self._table(stream), stream, where))
        tenants = found["tenants"][0].as_py() if stream.tenant_column else ()
        return Count(int(found["n"][0].as_py()), tuple(tenants))

    async def partitions(self, stream: type[Stream]) -> list[str]:
        """The months that hold points, as `202601`."""
        found = await self._prove(queries.partitions(self._table(stream)))
        return [str(name) for name in found["name"].to_pylist()]

    async def partition(self, stream: type[Stream], name: str) -> Partition:
        """See the protocol."""
        found = await self._prove(queries.partition(self._table(stream), stream, name))
        [row] = found.to_pylist()
        return Partition(name, int(row["rows"]), row["points"], row["digest"])

    async def batches(
        self, stream: type[Stream], numbers: Sequence[int], first: int = 0, last: int = 0
    ) -> list[HeldBatch]:
        """See the protocol."""
        query = queries.batches(self._table(stream), list(numbers), first, last)
        return [HeldBatch(**row) for row in (await self._prove(query)).to_pylist()]

    async def uneven(self, stream: type[Stream]) -> list[int]:
        """See the protocol. Where retention takes points away, some may be lacking."""
        may_lack = stream.retention_days is not None
        found = await self._prove(queries.uneven(self._table(stream), may_lack=may_lack))
        return [int(number) for number in found["number"].to_pylist()]

    async def _sound(self) -> None:
        """Return when no part is left that was written without room."""
        if await self._room.sound(self._writer):
            await self._custody.miss(self._writer)

    async def _prove(self, query: Query) -> pa.Table:
        """The answer to a question about all there is, for which nobody waits."""
        async with self._opening:
            if self._prover is None:
                self._prover = await self._open_prover()
        await self._sound()
        return await self._prover.run(lambda client: _arrow(client, query))

    async def _read(self, query: Query) -> pa.Table:
        await self._sound()
        return await self._reader.run(lambda client: _arrow(client, query))

    def _table(self, stream: type[Stream]) -> str:
        return f"{ddl.quoted(self.database)}.{ddl.quoted(stream.name)}"


def _checked(stream: type[Stream], points: pa.Table) -> pa.Table:
    """`points` in one record batch, so that they travel as one block."""
    expected = arrow_schema(stream).append(pa.field(EVENT_ID, EVENT_ID_TYPE, nullable=False))
    if points.schema.names != expected.names or points.schema.types != expected.types:
        raise Refused(
            f"{stream.name} takes the columns of arrow_schema(stream) and {EVENT_ID}, not"
            f" {', '.join(points.schema.names)}.",
            field=stream.name,
        )
    for field in expected:
        if not field.nullable and points[field.name].null_count:
            raise Refused(f"{field.name} must not be null.", field=field.name)
    return points.combine_chunks()


def _batches(points: pa.Table) -> list[int]:
    """The distinct batch parts of the event ids, as `ddl.batch_of` gives them."""
    ids = points[EVENT_ID].combine_chunks()
    words = np.frombuffer(ids.buffers()[1], dtype="<u8").reshape(-1, 2)
    return [int(n) for n in np.unique(words[ids.offset : ids.offset + len(ids), 0])]


def _arrow(client: Client, query: Query) -> pa.Table:
    answer = client.raw_query(query.sql, query.parameters, fmt="ArrowStream")
    with pa.ipc.open_stream(answer) as reader:
        return reader.read_all()
