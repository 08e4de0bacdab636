"""Two sides at once: what comes next is on its way while one works on what is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def ahead(batches: AsyncGenerator[T, None]) -> AsyncIterator[AsyncIterator[T]]:
    """`batches`, asked for one ahead, the first at once. Closed with the block."""
    tasks = [asyncio.ensure_future(anext(batches, None))]

    async def each() -> AsyncIterator[T]:
        while (batch := await tasks[0]) is not None:
            tasks[0] = asyncio.ensure_future(anext(batches, None))
            await asyncio.sleep(0)  # so that the question is out before one works
            yield batch

    try:
        yield each()
    finally:
        tasks[0].cancel()
        with suppress(asyncio.CancelledError, Exception):  # whoever awaited it has heard of it
            await tasks[0]
        await batches.aclose()
