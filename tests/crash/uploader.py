"""What dies while it puts, collects or marks files: a fork that does one thing and ends."""

from __future__ import annotations

import polyplane.steps
from tests.crash.points import Fuse, tell

FUSE = Fuse()
polyplane.steps.step = FUSE.step  # before the rest takes the one that does nothing

# ruff: noqa: E402
import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import polyplane as pp
from polyplane.errors import PolyplaneError
from polyplane.stores.catalog import adapter
from tests.crash.nursery import nurse
from tests.flow.albums import content, pieces, read


async def work(plane: pp.Plane, order: dict[str, Any]) -> str:
    """Do what is asked; what came of it."""
    if order["do"] == "collect":
        return str((await plane.blobs.collect(grace_s=0)).objects)
    if order["do"] == "repair":
        return str((await plane.repair(pp.Blob)).found.missing)
    if order["do"] == "many":
        return await _many(plane)
    whole = content(order["size"], order["seed"])
    if order["do"] == "resume":
        return str((await plane.blobs.resume(UUID(order["id"]), pieces(whole))).id)
    asked = {name: order[name] for name in ("key", "sha256") if name in order}
    return str((await plane.blobs.put(pieces(whole), **asked)).sha256)


async def _many(plane: pp.Plane) -> str:
    """Twelve files of ten contents, by one transaction."""
    acting = plane.acting(pp.Caller("uploader"))
    files = [(f"{n}", "text/plain", content(500, n % 10)) for n in range(12)]
    async with acting.blobs.staged(files) as staged, acting.write() as tx:
        ids = await staged.commit(tx)
    for id, (_, _, whole) in zip(ids, files, strict=True):
        assert await read(plane, id) == whole
    return str(len(set(ids)))


async def main() -> None:
    """One order, one line of JSON; then the end."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    if not (line := (await reader.readline()).strip()):
        return
    order = json.loads(line)
    FUSE.set(order.get("step", ""), order.get("nth", 1), "SIGKILL")
    settings = pp.Settings.load(environ={}, **order["settings"])
    async with pp.Plane(settings=settings, blobs=True) as plane:
        try:
            tell(done=await work(plane, order))
        except PolyplaneError as error:
            tell(done=f"{type(error).__name__}: {error}")
        if order.get("stay"):  # until a saga of its own has been undone, in which it is to die
            await asyncio.sleep(order["stay"])


if __name__ == "__main__":
    adapter("objects", "http://")
    nurse(Path(sys.argv[1]), main)
