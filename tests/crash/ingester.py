"""What dies while it takes in documents: a fork that ingests a folder and ends."""

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

import sqlalchemy as sa

import polyplane as pp
from polyplane.domains.assistant import course
from polyplane.domains.assistant.contents import assistant
from polyplane.domains.assistant.models import Document
from polyplane.stores.catalog import adapter
from tests.crash.nursery import nurse

WAIT_S = 60.0
CALLER = pp.Caller("crash")


async def main() -> None:
    """One order, one line of JSON; then the end."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    if not (line := (await reader.readline()).strip()):
        return
    order = json.loads(line)
    course.BATCH = order["batch"]  # type: ignore[misc]
    FUSE.set(order.get("step", ""), order.get("nth", 1), "SIGKILL")
    settings = pp.Settings.load(environ={}, **order["settings"])
    async with pp.Plane(settings=settings, applications=[assistant()]) as plane:
        report = await course.ingest(plane, CALLER, [order["folder"]])
        async with asyncio.timeout(WAIT_S):  # until what others left is read: it may be our end
            while await _unread(plane):
                await asyncio.sleep(0.05)
        tell(done=report.ready)


async def _unread(plane: pp.Plane) -> bool:
    query = sa.select(Document.id).where(Document.state.in_(("received", "parsing")))
    async with plane.acting(CALLER).read() as session:
        return (await session.scalars(query.limit(1))).first() is not None


if __name__ == "__main__":
    adapter("objects", "http://")
    adapter("vector", "lancedb://")
    nurse(Path(sys.argv[1]), main)
