"""What an application needs as long as a plane is open: made when it is first asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

from polyplane.errors import Unavailable

T = TypeVar("T")


class Kept:
    """Things by name, each entered once, and left with the plane, the latest first."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._made: dict[str, Any] = {}
        self._is_closed = False

    async def get(self, name: str, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """What `make` gives on entering, the first time. Unavailable once the plane is closing."""
        if name not in self._made:
            async with self._lock:
                if self._is_closed:
                    raise Unavailable("This plane is closing.", fix="Open it again.")
                if name not in self._made:
                    self._made[name] = await self._stack.enter_async_context(make())
        found: T = self._made[name]
        return found

    async def close(self) -> None:
        """Leave them all."""
        async with self._lock:
            self._is_closed = True
            self._made.clear()
            await self._stack.aclose()
