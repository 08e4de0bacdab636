"""A worker in a process of its own: `python -m tests.flow.worker SETTINGS`, until it is killed.

While the file named by PAUSE_AT is there, the next batch that has been derived stops the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import polyplane.steps

PAUSE_AT = Path(os.environ["PAUSE_AT"])


def pause(name: str) -> None:
    """Stop as by SIGSTOP, between derive and apply, once."""
    if name == "projector.derived" and PAUSE_AT.exists():
        PAUSE_AT.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)


polyplane.steps.step = pause  # before anything that takes it from there is imported


async def main() -> None:
    """Open the worker's plane, and work."""
    import polyplane as pp
    from tests.flow.test_workers import ThingCache
    from tests.flow.things import Thing

    settings = pp.Settings.load(environ={}, **json.loads(sys.argv[1]))
    plane = pp.Plane(models=[Thing], projections=[ThingCache], settings=settings, worker=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with plane:
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
