"""Are the files of LanceDB what was written? It has no checksums: we note them, and read again."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

import lancedb
import structlog

from polyplane.stores import disk
from polyplane.stores.seal import Seal
from polyplane.stores.vector.lance_disk import drop_head

SEAL_AFTER_S: Final = 2.0
"""How old a file is at least when it is noted, and how long a batch waits for others."""
HEADS_MAX: Final = 50
"""So many newest versions are tried before a table is given up: those of some seconds."""

_SUFFIXES: Final = (".lance", ".manifest", ".arrow", ".bin", ".txn", ".idx")
_log = structlog.get_logger(__name__)


class Watch:
    """Notes the files of a folder, a little after they are durable."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._synced_ns = 0
        self._noting: asyncio.Task[None] | None = None

    def synced(self, before_ns: int) -> None:
        """All that was written before this time (of the clock) is durable."""
        self._synced_ns = max(self._synced_ns, before_ns)
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._note())

    async def _note(self) -> None:
        await asyncio.sleep(SEAL_AFTER_S)
        await asyncio.to_thread(self._extend)

    def _extend(self) -> None:
        try:
            self._seal.extend(self._synced_ns)
            self._seal.write(clean=False)
        except OSError as error:  # a full disk: what is not noted is only not recognised
            _log.warning("seal.not_written", folder=str(self._seal.folder), error=str(error))

    async def close(self) -> None:
        """Note all there is: nobody writes any more."""
        if self._noting is not None:
            self._noting.cancel()
            await asyncio.wait([self._noting])
        await asyncio.to_thread(self._leave)

    def _leave(self) -> None:
        try:
            disk.sync(self._seal.folder)
            self._seal.extend()
            self._seal.write(clean=True)
        except OSError as error:
            _log.warning("seal.not_written", folder=str(self._seal.folder), error=str(error))


async def inspect(database: lancedb.AsyncConnection, folder: Path) -> tuple[Watch, list[str]]:
    """Take away what is damaged in `folder`; what was, in words, and who notes from now on."""
    seal = await asyncio.to_thread(Seal.read, folder, folder / "seal.json", _SUFFIXES)
    found: list[str] = []
    damaged: set[str] = set()
    for name, what in (await asyncio.to_thread(seal.broken)).items():
        table, _, file = name.partition(".lance/")
        if table in damaged:
            continue
        damaged.add(table)
        found.append(f"{table}: {file} {what}; it is filled again.")
        await _forget(folder, seal, table)
    if not seal.clean:
        paths = sorted(folder.glob("*.lance"))
        whys = [(path, await _unreadable(database, path.stem)) for path in paths]
        found += [await _mended(database, folder, seal, *it) for it in whys if it[1]]
    for said in found:
        _log.warning("store.damaged", engine="lancedb", what=said)
    await asyncio.to_thread(seal.write, clean=False)
    return Watch(seal), found


async def _mended(
    database: lancedb.AsyncConnection, folder: Path, seal: Seal, path: Path, why: str
) -> str:
    """Go back to a version that can be read, or delete the table; which, in words."""
    for dropped in range(1, HEADS_MAX + 1):
        if not await asyncio.to_thread(drop_head, path):
            break
        if not await _unreadable(database, path.stem):
            return f"{path.stem}: {dropped} versions that a power cut had torn were dropped."
    await _forget(folder, seal, path.stem)
    return f"{path.stem}: cannot be read ({why}); it is filled again."


async def _forget(folder: Path, seal: Seal, table: str) -> None:
    await asyncio.to_thread(shutil.rmtree, folder / f"{table}.lance", ignore_errors=True)
    seal.forget(f"{table}.lance/")


async def _unreadable(database: lancedb.AsyncConnection, name: str) -> str:
    """Why a table cannot be read whole, its indexes too; or nothing."""
    try:
        table = await database.open_table(name)
        try:
            async for _ in await table.query().to_batches():
                continue
            for index in await table.list_indices():
                await table.prewarm_index(index.name)
        finally:
            table.close()  # type: ignore[no-untyped-call]
    except Exception as error:
        said = str(error).partition("\n")[0].partition(", /")[0]  # then, where in its sources
        return f"{type(error).__name__}: {said}"[:200]
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of the engine, which no Exception is
            raise
        return f"the engine fails: {error}"[:200]
    return ""
