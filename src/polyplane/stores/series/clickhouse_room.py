"""A ClickHouse folder of ours whose disk has been full: which parts came of that, and without them.

chdb 4.4 does not stop at a write for which there is no room. It ends a merge whose files are empty,
and lets it take the place of the parts that it was made of; these stay beside it for some minutes.
So nothing is stored while there is hardly room, no merge begins, and before anything is read what
was written since is checked: a part that is broken goes, and those that it was made of come back.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Final

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from polyplane.errors import StoreDown
from polyplane.stores.series.clickhouse_lane import Lane

_log = structlog.get_logger(__name__)

ROOM_BYTES_MIN: Final = 32 << 20
_BEFORE: Final = timedelta(minutes=10)
"""What was written before it was noticed may be broken, too."""
_ROUNDS_MAX: Final = 20
"""A part that comes back may be broken itself: each round goes one merge back."""
_AGAIN_S: Final = 1.0
"""While there is no room, at most so often."""
_MERGES_S: Final = 10.0

_WRITTEN: Final = (
    "SELECT table, name, path FROM system.parts WHERE database = {database:String} AND active"
    " AND modification_time >= {since:DateTime}"
)
_MERGES: Final = "SELECT count() FROM system.merges WHERE database = {database:String}"
_BROKEN: Final = {
    "BAD_SIZE_OF_FILE_IN_DATA_PART",
    "CANNOT_READ_ALL_DATA",
    "CHECKSUM_DOESNT_MATCH",
    "CORRUPTED_DATA",
    "FILE_DOESNT_EXIST",
    "NO_FILE_IN_DATA_PART",
    "UNEXPECTED_END_OF_FILE",
    "ATTEMPT_TO_READ_AFTER_EOF",
    "CANNOT_DECOMPRESS",
    "CANNOT_READ_FROM_FILE_DESCRIPTOR",
}
"""Errors that are a part's own; any other, as for want of memory or time, says nothing of it."""
_ONE: Final = {"check_query_single_value_result": 1}


def set_aside(part: Path) -> Path:
    """Move a part's folder to where its table does not look; where it is then.

    Beside another one of its name, if that was set aside before, as ClickHouse itself does.
    """
    detached = part.parent / "detached"
    detached.mkdir(exist_ok=True)
    names = (f"broken_{part.name}{f'_try{n}' if n else ''}" for n in range(_ROUNDS_MAX))
    for name in names:
        if not os.path.lexists(detached / name):
            return part.rename(detached / name)
    raise StoreDown(f"{part.name} is broken, and was set aside {_ROUNDS_MAX} times before.")


class Room:
    """Watches the room on the disk of one folder; does nothing where there is no folder."""

    def __init__(self, database: str, folder: Path | None) -> None:
        self._database = database
        self._folder = folder
        self._since: datetime | None = None
        self._next_s = 0.0
        self._mending = asyncio.Lock()

    @property
    def is_suspect(self) -> bool:
        """Whether there was no room, and what came of it has not been looked at."""
        return self._since is not None

    def look(self) -> bool:
        """Whether there is room; notes it when there is not."""
        if self._folder is None:
            return True
        free = os.statvfs(self._folder)
        has_room = free.f_bavail * free.f_frsize >= ROOM_BYTES_MIN
        if not has_room and self._since is None:
            self._since = datetime.now(UTC) - _BEFORE
        return has_room

    def check(self) -> None:
        """Raise StoreDown unless what was just written had room."""
        if not self.look() or self.is_suspect:
            raise StoreDown(f"There is no room for points in {self._folder}.", fix="Make room.")

    async def sound(self, lane: Lane) -> bool:
        """Return when what is there can be read; whether parts had to go. Raises StoreDown."""
        has_room, mended = self.look(), False
        if self._since is None:
            return False
        async with self._mending:
            if self._since is None or (not has_room and monotonic() < self._next_s):
                return False
            await lane.run(self._stop)
            for _ in range(_ROUNDS_MAX):
                broken = await lane.run(self._broken)
                for table in {table for table, _ in broken}:
                    paths = [path for of, path in broken if of == table]
                    await lane.run(partial(self._without, table, paths))
                if not broken:
                    break
                mended = True
            else:
                raise StoreDown("Parts that were written without room cannot be mended.")
            self._next_s = monotonic() + _AGAIN_S
            if has_room:
                await lane.run(self._start)
                self._since = None
        return mended

    def _stop(self, client: Client) -> None:
        for table in self._tables(client):
            client.command(f"SYSTEM STOP MERGES {table}")
        until = monotonic() + _MERGES_S
        while int(client.query(_MERGES, {"database": self._database}).result_rows[0][0]):
            if monotonic() > until:
                raise StoreDown("ClickHouse does not stop to merge.")

    def _start(self, client: Client) -> None:
        for table in self._tables(client):
            client.command(f"SYSTEM START MERGES {table}")

    def _tables(self, client: Client) -> list[str]:
        found = "SELECT name FROM system.tables WHERE database = {database:String}"
        rows = client.query(found, {"database": self._database}).result_rows
        return [f"`{self._database}`.`{name}`" for (name,) in rows]

    def _broken(self, client: Client) -> list[tuple[str, Path]]:
        """Table and folder of each part that was written since and is not whole."""
        assert self._since is not None
        where = {"database": self._database, "since": self._since}
        found = []
        for table, name, path in client.query(_WRITTEN, where).result_rows:
            check = f"CHECK TABLE `{self._database}`.`{table}` PART '{name}'"
            try:
                if int(client.query(check, settings=_ONE).result_rows[0][0]) == 1:
                    continue
            except ClickHouseError as error:
                client.ping()  # see Lane
                if getattr(error, "name", None) not in _BROKEN:
                    raise  # not the part's fault: nothing is known of it
            _log.warning("part.broken", table=table, part=name, why="its disk was full")
            found.append((table, Path(path)))
        return found

    def _without(self, table: str, paths: list[Path], client: Client) -> None:
        """Have the table loaded again, with these parts set aside: if any point is missed without
        them, they stay there (see `Custody.miss`).
        """
        name = f"`{self._database}`.`{table}`"
        client.command(f"DETACH TABLE {name} SYNC")
        try:
            for path in paths:
                set_aside(path)
        finally:
            client.command(f"ATTACH TABLE {name}")
            client.command(f"SYSTEM STOP MERGES {name}")
