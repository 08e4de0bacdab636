"""A worker of measurement (j): a process of its own that helps to project.

It reads the settings of its plane as JSON from standard input, and ends when that ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time

import structlog

import polyplane as pp
from bench.documents import Note

WAIT_S = 0.002


class SlowCache(pp.Cached[Note]):
    """A note whose `derive` waits, as one that asks a slow library does."""

    key_prefix = "slow:"

    def derive(self, note: Note, /) -> pp.Entry | None:
        """The body, after a while."""
        time.sleep(WAIT_S)
        return pp.Entry(note.body)


async def help_(settings: dict[str, object]) -> None:
    """Project until standard input ends."""
    plane = pp.Plane(
        models=[Note],
        projections=[SlowCache],
        settings=pp.Settings.load(environ={}, **settings),
        worker=True,
    )
    async with plane:
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(help_(json.loads(sys.stdin.readline())))
