"""A second process that starts sagas and does them, beside the one that measures.

Standard input: the settings of the plane as one line of JSON; then lines with a number of sagas,
done half as many at once as there are at all. Standard output: "ready", and "done" for each line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

import structlog
import uvloop

from bench.sagas import AT_ONCE, Effect, Order, make
from polyplane import Plane, Settings


async def main() -> None:
    """Run until the input ends."""
    settings = Settings.load(environ={}, **json.loads(sys.stdin.readline()))
    async with Plane(settings=settings, models=[Effect], sagas=[Order], worker=True) as plane:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await make(plane, int(line), AT_ONCE // 2)
            print("done", flush=True)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    uvloop.run(main())
