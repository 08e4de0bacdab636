"""Vectors in LanceDB: a folder (or a bucket) of tables, no server.

One row per key. An item's position is a column and the gate is the condition of the merge. Any
number of processes may write: merges of a table exclude each other, everything else commits
optimistically. Every apply makes a small fragment; `maintain` folds them before they cost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import lancedb
import pyarrow as pa
from lancedb.query import ColumnOrdering

from polyplane.errors import Misconfigured, NotFound, StoreDown
from polyplane.garbage import uncollected
from polyplane.model.collection import Collection
from polyplane.model.items import Held, Hit, Item, Stamp, Where
from polyplane.model.scope import Scope
from polyplane.model.terms import asked
from polyplane.stores import disk
from polyplane.stores.protocol import VectorStore
from polyplane.stores.vector import lance_disk, lance_indexes, lance_table
from polyplane.stores.vector.lance_inspection import Watch, inspect
from polyplane.stores.vector.lance_upkeep import Upkeep, add_columns, merge, overrule
from polyplane.stores.vector.where import (
    check_full_text,
    check_limit,
    check_names,
    check_query,
    check_tags,
    narrowed,
    reserved,
)

MAINTAIN_TIMEOUT_S: Final = 1800.0
CACHE_BYTES: Final = 64 * 2**20
GET_KEYS: Final = 1_000
"""Keys per look-up."""
_STAMP: Final = ["key", "position", "digest"]


async def connect(
    url: str,
    *,
    durable: bool = True,
    timeout_s: float = 30.0,
    storage_options: dict[str, str] | None = None,
) -> LanceStore:
    """Open (or create) the folder of `lancedb:///absolute/path` or `lancedb://relative/path`.

    `lancedb://s3://bucket/prefix` and the like name an object store, opened with
    `storage_options`; it has no barrier of its own because each write there is durable at once.
    `durable=False` leaves out the barrier, for data that may be lost. Raises StoreDown.
    """
    location = url.removeprefix("lancedb://")
    folder = None if "://" in location else Path(location).absolute()
    healed: list[Path] = []
    try:
        if folder is not None:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            healed = await asyncio.to_thread(lance_disk.heal, folder)
        # A zero interval makes each read see what other processes have committed before it.
        async with asyncio.timeout(timeout_s):
            database = await lancedb.connect_async(
                location if folder is None else str(folder),
                read_consistency_interval=timedelta(0),
                storage_options=storage_options,
                session=lancedb.Session(CACHE_BYTES, CACHE_BYTES),
            )
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise StoreDown(f"LanceDB at {location} does not open: {error}") from error
    return LanceStore(database, folder, durable=durable, timeout_s=timeout_s, healed=healed)


class LanceStore(VectorStore):
    """The vector store over LanceDB; made by `connect`."""

    multi_process = True

    def __init__(
        self,
        database: lancedb.AsyncConnection,
        folder: Path | None,
        *,
        durable: bool,
        timeout_s: float,
        healed: Sequence[Path] = (),
    ) -> None:
        """`healed` are the torn manifests that were dropped when it was opened."""
        self.durable = durable
        self._database = database
        self._folder = folder
        self._timeout_s = timeout_s
        self._tables: dict[str, lancedb.AsyncTable] = {}
        self._upkeep: dict[str, Upkeep] = {}
        self._watch: Watch | None = None
        self._healed = healed

    @property
    def folder(self) -> Path | None:
        """Where the files are; None when they are not ours."""
        return self._folder

    async def ping(self) -> None:
        async with self._answering("list its tables"):
            await self._database.list_tables(limit=1)

    async def barrier(self) -> None:
        if self.durable and self._folder is not None:
            async with self._answering("write its files to disk"):
                began_ns = time.time_ns()
                await asyncio.to_thread(disk.sync, self._folder)
            if self._watch is not None:
                self._watch.synced(began_ns)

    async def inspect(self) -> list[str]:
        """Read again what was noted of every file, and all there is after an unclean stop.

        A table that is damaged is deleted, and so is the newest version of one that only lacks
        what a power cut took. From now on what becomes durable is noted.
        """
        if self._folder is None:
            return []
        async with self._answering("read its files", MAINTAIN_TIMEOUT_S):
            self._watch, found = await inspect(self._database, self._folder)
        torn = (f"{it.parents[1].stem}: {it.name} was torn and is dropped." for it in self._healed)
        return [*torn, *found]

    async def close(self) -> None:
        if self._watch is not None:
            await self._watch.close()
            self._watch = None
        for table in self._tables.values():
            table.close()  # type: ignore[no-untyped-call]
        self._tables.clear()
        self._database.close()  # type: ignore[no-untyped-call]

    async def prepare(self, collection: Collection) -> None:
        """Raises Misconfigured when the table exists with other columns or dimensions."""
        check_names(collection, tuple(collection.tag_types), _reserved(collection))
        wanted = lance_table.schema(collection)
        async with self._answering(f"create {collection.target}"):
            table = await self._open_or_create(collection.target, wanted)
            columns = await table.schema()
        self._tables[collection.target] = table
        if any(field not in columns for field in wanted):
            raise Misconfigured(
                f"{collection.target} exists with other columns or dimensions.",
                fix="Raise the projection's `version`: it is then built anew beside the old one.",
            )

    async def apply(
        self, collection: Collection, puts: Sequence[Item], drops: Sequence[str], position: int
    ) -> None:
        """Raises Refused, naming the tag, when an item's tags are not of the declared types."""
        if not puts and not drops:
            return
        check_tags(collection, puts, _reserved(collection))
        table = await self._table(collection)
        async with self._answering(f"apply to {collection.target}"):
            columns = await self._columns(table, collection, puts)
            rows = lance_table.batch(collection, columns, puts, drops, position)
            older = "target.position < source.position"
            await merge(table, rows, older, lock=self._lock(collection), insert=True)

    async def scan(
        self, collection: Collection, *, after: str | None = None, batch_size: int = 10_000
    ) -> AsyncIterator[list[Stamp]]:
        """One snapshot of the table, sorted by the engine; keys, positions and digests only."""
        table = await self._table(collection)
        wanted = table.query()
        if after is not None:
            wanted = wanted.where(lance_table.behind("key", after))
        async with self._answering(f"scan {collection.target}"):
            batches = await (
                wanted.select(_STAMP)
                .order_by([ColumnOrdering(column_name="key")])
                .to_batches(max_batch_length=batch_size)
            )
        while True:
            async with self._answering(f"scan {collection.target}"):
                batch = await anext(batches, None)
            if batch is None:
                return
            with uncollected():
                columns = (batch[name].to_pylist() for name in _STAMP)
                stamps = list(map(Stamp._make, zip(*columns, strict=True)))
            yield stamps

    async def stamps(self, collection: Collection, keys: Sequence[str]) -> list[Stamp]:
        table = await self._table(collection)
        found: list[Stamp] = []
        for start in range(0, len(keys), GET_KEYS):
            wanted = lance_table.among("key", keys[start : start + GET_KEYS])
            async with self._answering(f"read {collection.target}"):
                rows = await table.query().where(wanted).select(_STAMP).to_arrow()
            found += map(Stamp._make, zip(*(rows[n].to_pylist() for n in _STAMP), strict=True))
        return found

    async def contents(self, collection: Collection, keys: Sequence[str]) -> list[Held]:
        table = await self._table(collection)
        found: list[Held] = []
        for start in range(0, len(keys), GET_KEYS):
            wanted = lance_table.among("key", keys[start : start + GET_KEYS])
            async with self._answering(f"read {collection.target}"):
                columns = await self._columns(table, collection)
                rows = await table.query().where(wanted).select(columns.names).to_arrow()
            found += lance_table.contents(collection, rows)
        return found

    async def bury(self, collection: Collection, keys: Sequence[str], position: int) -> None:
        table = await self._table(collection)
        for start in range(0, len(keys), GET_KEYS):
            some = keys[start : start + GET_KEYS]
            async with self._answering(f"bury in {collection.target}"):
                columns = await self._columns(table, collection)
                rows = lance_table.batch(collection, columns, [], some, position)
                held = lance_table.among("key", some)
                await overrule(table, held, rows, lock=self._lock(collection))

    async def search(
        self,
        collection: Collection,
        scope: Scope,
        embedding: Sequence[float],
        *,
        limit: int = 10,
        where: Where | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """Exact as long as there is no index (see `lance_indexes`).

        A vector of zeros has no direction: it is found by nothing and finds nothing.
        """
        check_query(collection, embedding, limit)
        where = narrowed(collection, scope, where)
        table = await self._table(collection)
        async with self._answering(f"search {collection.target}"):
            columns = await self._columns(table, collection)
            query = lance_indexes.nearest(table, embedding, limit=limit, exact=exact)
            if wanted := lance_table.predicate(collection, columns, where):
                query = query.where(wanted)
            found = await query.select([*lance_table.shown(columns), "_distance"]).to_arrow()
        return lance_table.hits(collection, found)

    async def match(
        self,
        collection: Collection,
        scope: Scope,
        question: str,
        *,
        limit: int = 10,
        where: Where | None = None,
    ) -> list[Hit]:
        check_limit(limit)
        check_full_text(collection)
        where = narrowed(collection, scope, where)
        table = await self._table(collection)
        async with self._answering(f"search {collection.target}"):
            columns = await self._columns(table, collection)
            wanted = lance_table.predicate(collection, columns, where)
            if not (looked_for := asked(question, collection.full_text)):
                return []
            query = lance_indexes.matching(table, looked_for)
            query = query.where(wanted) if wanted else query
            query = query.select([*lance_table.shown(columns), "_score"])
            found = await query.limit(limit).to_arrow()
        return lance_table.hits(collection, found)

    async def get(self, collection: Collection, scope: Scope, keys: Sequence[str]) -> list[Hit]:
        table = await self._table(collection)
        where = narrowed(collection, scope, None)
        found: dict[str, Hit] = {}
        for start in range(0, len(keys), GET_KEYS):
            async with self._answering(f"read {collection.target}"):
                columns = await self._columns(table, collection)
                seen = lance_table.predicate(collection, columns, where)
                wanted = lance_table.among("key", keys[start : start + GET_KEYS])
                rows = await (
                    table.query()
                    .where(f"{wanted} AND {seen}" if seen else wanted)
                    .select(lance_table.shown(columns))
                    .to_arrow()
                )
            found |= {hit.key: hit for hit in lance_table.hits(collection, rows)}
        return [found[key] for key in keys if key in found]

    async def maintain(self, collection: Collection, *, full: bool = False) -> None:
        """Fold small fragments; compact, index and remove old versions when it pays.

        May run beside `apply`, here and in other processes: both commit optimistically.
        """
        upkeep = self._upkeep.get(collection.target)
        if upkeep is None:
            versions = self._folder and self._folder / f"{collection.target}.lance" / "_versions"
            upkeep = Upkeep(self._lock(collection), versions)
            self._upkeep[collection.target] = upkeep
        async with self._answering(f"maintain {collection.target}", MAINTAIN_TIMEOUT_S):
            # A handle of its own, so that long work does not hold up the one that applies.
            table = await self._database.open_table(collection.target)
            try:
                await upkeep.run(table, collection, full=full)
            finally:
                table.close()  # type: ignore[no-untyped-call]

    async def forget(self, collection: Collection) -> None:
        if table := self._tables.pop(collection.target, None):
            table.close()  # type: ignore[no-untyped-call]
        self._upkeep.pop(collection.target, None)
        async with self._answering(f"delete {collection.target}"):
            await self._database.drop_table(collection.target, ignore_missing=True)

    async def _open_or_create(self, name: str, columns: pa.Schema) -> lancedb.AsyncTable:
        try:
            return await self._database.open_table(name)
        except ValueError:  # it is not there
            pass
        try:
            table = await self._database.create_table(
                name,
                schema=columns,
                storage_options={"new_table_enable_v2_manifest_paths": "true"},
            )
            await table.set_unenforced_primary_key("key")
            return table
        except ValueError:  # another process has just created it
            return await self._database.open_table(name)

    def _lock(self, collection: Collection) -> Path | None:
        return self._folder and self._folder / f"{collection.target}.lock"

    async def _table(self, collection: Collection) -> lancedb.AsyncTable:
        """The open table; NotFound when the collection was never prepared."""
        table = self._tables.get(collection.target)
        if table is None:
            async with self._answering(f"open {collection.target}"):
                try:
                    table = await self._database.open_table(collection.target)
                except ValueError as error:
                    raise NotFound(
                        f"There is no collection {collection.target}.", fix="Prepare it first."
                    ) from error
            self._tables[collection.target] = table
        return table

    async def _columns(
        self, table: lancedb.AsyncTable, collection: Collection, puts: Sequence[Item] = ()
    ) -> pa.Schema:
        """The table's columns; an untyped table first gets the ones that `puts` bring."""
        if collection.tag_types:
            return lance_table.schema(collection)
        columns = await table.schema()
        missing = lance_table.new_columns(collection, columns, puts)
        if not len(missing):
            return columns
        await add_columns(table, missing)
        return await table.schema()

    @asynccontextmanager
    async def _answering(self, what: str, timeout_s: float | None = None) -> AsyncIterator[None]:
        """StoreDown when the engine fails to do `what`, or takes too long."""
        limit_s = timeout_s or self._timeout_s
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError as error:
            raise StoreDown(f"LanceDB did not {what} within {limit_s:g} s.") from error
        except (OSError, RuntimeError) as error:
            raise StoreDown(
                f"LanceDB could not {what}: {error}",
                fix="Check the disk; if the table is damaged, rebuild the projection.",
            ) from error


def _reserved(collection: Collection) -> tuple[str, ...]:
    """What a tag cannot be called."""
    return (*lance_table.OWN, collection.text_name, *reserved(collection))
