"""The plane for scripts and notebooks: one event loop in a thread, plain calls outside."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polyplane.plane import Plane


class Portal:
    """Calls what it wraps on the event loop of the plane, and waits for the answer."""

    def __init__(self, wrapped: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._wrapped = wrapped
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return self._plain(getattr(self._wrapped, name))

    def __getitem__(self, declared: Any) -> Any:
        return Portal(self._wrapped[declared], self._loop)

    def _run(self, awaitable: Any) -> Any:
        async def wait() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def _plain(self, value: Any) -> Any:
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            if inspect.isawaitable(result):
                return self._run(result)
            if hasattr(result, "__aenter__"):
                return self._block(result)
            return result

        return call

    @contextmanager
    def _block(self, manager: Any) -> Iterator[Any]:
        entered = self._run(manager.__aenter__())
        try:
            yield Portal(entered, self._loop)
        except BaseException as error:
            if not self._run(manager.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self._run(manager.__aexit__(None, None, None))


@contextmanager
def blocking(plane: Plane) -> Iterator[Any]:
    """`with pp.blocking(plane) as p:` opens `plane`; each of its calls blocks until it is done."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="polyplane", daemon=True)
    thread.start()
    try:
        with Portal(plane, loop)._block(plane) as portal:
            yield portal
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
