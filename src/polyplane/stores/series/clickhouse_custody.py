"""Which parts a ClickHouse folder of ours should have, and whether it still has them.

The engine checks every block that it reads, so what is damaged is never an answer. But at its start
it sets broken parts aside, and a part whose folder is gone it does not miss: their points would
only not be counted. So the parts are noted once they are durable, beside the folder.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

import orjson
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from polyplane.errors import StoreDown
from polyplane.stores.series.clickhouse_lane import Lane

_log = structlog.get_logger(__name__)

NOTE_EVERY_S: Final = 2.0
CHECK_BYTES_MAX: Final = 4 << 30
CHECK_S_MAX: Final = 8.0
"""How much is read at a start to find flipped bits, and for how long; the newest parts first."""

_ACTIVE: Final = (
    "SELECT table, name, rows, bytes_on_disk FROM system.parts"
    " WHERE database = {database:String} AND active ORDER BY modification_time DESC"
)
_ASIDE: Final = (
    "SELECT table, name, coalesce(reason, '') FROM system.detached_parts"
    " WHERE database = {database:String}"
)
_TABLES: Final = "SELECT name, engine_full FROM system.tables WHERE database = {database:String}"
_ONE: Final = {"check_query_single_value_result": 1}
_RETENTION: Final = re.compile(r"toIntervalDay\((\d+)\)(?! RECOMPRESS)")


def set_torn_aside(folder: Path) -> list[str]:
    """Move definitions of tables that hold nothing any more to `torn` beside the folder; in words.

    The engine does not open with one of them. What the table held is missed afterwards.
    """
    found = []
    for path in sorted(folder.glob("metadata/*/*.sql")):
        if not path.read_bytes().strip(b"\0 \n"):
            aside = folder.with_name(f"{folder.name}.torn")
            aside.mkdir(exist_ok=True)
            path.replace(aside / f"{path.parent.name}.{path.name}")
            found.append(f"{path.stem}: its definition was torn, and is set aside.")
    return found


class Part(NamedTuple):
    """An immutable piece of a table: the blocks `first` to `last` of a partition."""

    table: str
    partition: str
    first: int
    last: int
    rows: int

    def covers(self, other: Part) -> bool:
        """Whether it holds all that `other` held: they were merged."""
        same = (self.table, self.partition) == (other.table, other.partition)
        return same and self.first <= other.first and other.last <= self.last


def part_of(table: str, name: str, rows: int) -> Part | None:
    """The part of that name: `<partition>_<first>_<last>_<level>`, perhaps `_<mutation>`."""
    words = name.split("_")
    if len(words) not in (4, 5) or not all(word.isdigit() for word in words):
        return None
    return Part(table, words[0], int(words[1]), int(words[2]), rows)


def missing(noted: Iterable[Part], active: Iterable[Part]) -> list[Part]:
    """Those of `noted` whose points no active parts hold."""
    by_place: dict[tuple[str, str], list[Part]] = {}
    for part in active:
        by_place.setdefault((part.table, part.partition), []).append(part)
    return [
        part
        for part in noted
        if not _is_there(part, by_place.get((part.table, part.partition), []))
    ]


def _is_there(part: Part, active: list[Part]) -> bool:
    """Merged into another one, or its own sources instead of it: see `clickhouse_room`."""
    sources = sum(it.rows for it in active if part.covers(it))
    return sources >= part.rows or any(it.covers(part) for it in active)


def may_have_expired(part: Part, retention_days: int | None, now: datetime) -> bool:
    """Whether retention may have taken the whole part away by now."""
    if retention_days is None:
        return False
    month = datetime(int(part.partition[:4]), int(part.partition[4:6]), 1, tzinfo=UTC)
    return month + timedelta(days=retention_days) < now


class Custody:
    """Answers for the parts of one database in a folder of ours.

    Does nothing until they are `taken`: a reader beside the one who writes notes nothing.
    """

    def __init__(self, database: str, folder: Path | None, torn: list[str]) -> None:
        """`torn` is what was set aside before the engine opened."""
        self._database = database
        self._where = {"database": database}
        self._path = folder and folder.with_name(f"{folder.name}.{database}.parts.json")
        self._lost: dict[str, str] = {}
        self._due_at = 0.0
        self._torn = torn
        self.is_taken = False

    async def taken(self, lane: Lane) -> list[str]:
        """Look for what is damaged, in words; note from now on what is durable."""
        self._lost = await lane.run(self._missing)
        found = [*self._torn, *await lane.run(self._set_aside)]
        found += await lane.run(self._damaged)
        found += [f"{table}: {what}." for table, what in self._lost.items()]
        for said in found:
            _log.warning("store.damaged", engine="clickhouse", what=said)
        self.is_taken = True
        return found

    async def kept(self, lane: Lane, synced: Awaitable[None], *, may_note: bool = True) -> None:
        """Wait until all is `synced`; now and then note which parts that were, if they `may` be."""
        rests = not may_note or monotonic() < self._due_at
        if not self.is_taken or self._lost or rests:
            await synced
            return
        active = await lane.run(self._active)
        await synced
        self._due_at = monotonic() + NOTE_EVERY_S
        try:
            self._note(active)
        except OSError as error:  # a full disk: what is not noted is only not missed
            _log.warning("parts.not_noted", path=str(self._path), error=str(error))

    async def miss(self, lane: Lane) -> None:
        """Look again whether parts that were there are not; what was set aside goes, unless its
        table misses something.
        """
        if self.is_taken:
            self._lost = await lane.run(self._missing)
            await lane.run(self._set_aside)

    def leave(self) -> None:
        """The next barrier is the last."""
        self._due_at = 0.0

    def check(self, *names: str) -> None:
        """Raise StoreDown for a stream that has lost points: what is left is no answer."""
        for name in self._lost.keys() & set(names):
            raise StoreDown(
                f"{name} is damaged: {self._lost[name]}.",
                fix=f"Restore a backup; or delete {self._path} and start again, without them.",
            )

    def _note(self, active: Iterable[Part]) -> None:
        # Not synced: an older note knows less, and nothing wrong.
        assert self._path is not None
        unfinished = self._path.with_suffix(".new")
        unfinished.write_bytes(orjson.dumps([list(part) for part in active]))
        unfinished.replace(self._path)

    def _noted(self) -> list[Part]:
        """What was there; nothing, when that cannot be read."""
        found: Any = None
        with suppress(FileNotFoundError, ValueError):
            found = orjson.loads(self._path.read_bytes()) if self._path else None
        return [Part(*it) for it in found] if isinstance(found, list) else []

    def _active(self, client: Client) -> list[Part]:
        rows = client.query(_ACTIVE, self._where).result_rows
        found = (part_of(table, name, count) for table, name, count, _ in rows)
        return [part for part in found if part is not None]

    def _missing(self, client: Client) -> dict[str, str]:
        """Table -> what of it is lost, in words."""
        now = datetime.now(UTC)
        days: dict[str, int | None] = {}
        for table, engine in client.query(_TABLES, self._where).result_rows:
            retention = _RETENTION.search(engine.partition(" TTL ")[2])
            days[table] = int(retention[1]) if retention else None
        gone: dict[str, list[Part]] = {}
        for part in missing(self._noted(), self._active(client)):
            if not may_have_expired(part, days.get(part.table), now):
                gone.setdefault(part.table, []).append(part)
        return {
            table: f"{sum(it.rows for it in parts):,} points of {len(parts)} parts are lost"
            f" ({', '.join(sorted({it.partition for it in parts}))})"
            for table, parts in gone.items()
        }

    def _set_aside(self, client: Client) -> list[str]:
        """The parts that the engine could not use, in words.

        Where nothing is missed they are what a power cut left of points that nobody had confirmed,
        and that come again: they are removed.
        """
        found = []
        for table, name, why in client.query(_ASIDE, self._where).result_rows:
            if not why.startswith(("broken", "unexpected", "noquorum")):
                continue
            found.append(f"{table}: part {name} was set aside ({why}).")
            if table not in self._lost:
                drop = f"ALTER TABLE `{self._database}`.`{table}` DROP DETACHED PART '{name}'"
                client.command(drop, settings={"allow_drop_detached": 1})
        return found

    def _damaged(self, client: Client) -> list[str]:
        """Active parts with blocks that are not what was written, in words."""
        found, left, until = [], CHECK_BYTES_MAX, monotonic() + CHECK_S_MAX
        for table, name, _, size in client.query(_ACTIVE, self._where).result_rows:
            left -= size
            if left < 0 or monotonic() > until:
                break
            check = f"CHECK TABLE `{self._database}`.`{table}` PART '{name}'"
            try:
                if int(client.query(check, settings=_ONE).result_rows[0][0]) == 1:
                    continue
                why = "it is broken"
            except ClickHouseError as error:
                client.ping()
                why = str(error).partition(" (version")[0][:200]
            found.append(f"{table}: part {name} cannot be read: {why}.")
        return found
