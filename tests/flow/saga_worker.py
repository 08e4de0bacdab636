"""Does sagas in a process: `python -m tests.flow.saga_worker SETTINGS`, until SIGTERM."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

import sqlalchemy as sa

import polyplane as pp
from polyplane import saga
from tests.flow.trips import Line, writes


async def wait(context: saga.Context[Any]) -> None:
    """Until somebody has written a line."""
    told = sa.select(Line.id).where(Line.saga == str(context.saga_id), Line.what == "told")
    while True:
        async with context.plane.read() as session:
            if (await session.scalars(told)).first() is not None:
                return
        await asyncio.sleep(0.05)


class Slow(pp.Saga[dict[str, Any]]):
    """A local step, and a remote one that takes as long as the test wishes."""

    steps = (writes("begin"), saga.remote(wait, timeout_s=60))


async def main() -> None:
    """Open the worker's plane, and work."""
    settings = pp.Settings.load(environ={}, **json.loads(sys.argv[1]))
    plane = pp.Plane(models=[Line], sagas=[Slow], settings=settings, worker=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with plane:
        print("at work", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
