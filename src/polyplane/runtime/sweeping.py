"""What has expired in truth is forgotten: answers kept for requests that may come again, and the
vectors of texts that nobody has.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import structlog

from polyplane.errors import PolyplaneError
from polyplane.flow.crew import Crew
from polyplane.runtime.embeddings import Embeddings
from polyplane.runtime.opening import Open
from polyplane.truth.database import Database
from polyplane.truth.repeats import SWEPT_MAX, sweep

_log = structlog.get_logger(__name__)

EVERY_S: Final = 300.0


def start_sweeping(opened: Open, stack: AsyncExitStack) -> None:
    """Sweep in this process until the stack unwinds. A worker leaves it to `up`."""
    if opened.is_worker:
        return
    crew = Crew()
    crew.add("sweep", partial(_keep_sweeping, opened.database, opened.embeddings))
    stack.push_async_callback(crew.stop)


async def _keep_sweeping(database: Database, embeddings: Embeddings) -> None:
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            while await sweep(database) >= SWEPT_MAX:
                await asyncio.sleep(0)
            await embeddings.sweep()
        except PolyplaneError as error:
            _log.warning("sweep.waiting", error=error.message)
