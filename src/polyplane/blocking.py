"""The plane for scripts and notebooks: one event loop in a thread, plain calls outside."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import uvloop

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

    def _run(self, awaitable: Awaitable[Any]) -> Any:
        """Wait for it. What interrupts the wait, as Ctrl-C does, cancels it and sees its end."""
        answer: Future[Any] = Future()
        tasks: list[asyncio.Task[Any]] = []

        async def wait() -> Any:
            return await awaitable

        def begin() -> None:
            tasks.append(self._loop.create_task(wait()))
            tasks[0].add_done_callback(lambda task: _deliver(task, answer))

        self._loop.call_soon_threadsafe(begin)
        try:
            return answer.result()
        except BaseException:
            if not answer.done():
                self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())
                answer.exception()
            raise

    def _plain(self, value: Any) -> Any:
        if not callable(value):
            return Portal(value, self._loop) if _is_asynchronous(value) else value

        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            if hasattr(result, "__aenter__"):
                return self._block(result)
            if hasattr(result, "__anext__"):
                return self._pieces(result)
            return self._run(result) if inspect.isawaitable(result) else result

        return call

    def _pieces(self, stream: Any) -> Iterator[Any]:
        """What comes of an asynchronous generator, one after the other."""
        over = object()
        try:
            while (piece := self._run(anext(stream, over))) is not over:
                yield piece
        finally:
            self._run(stream.aclose())

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


def _deliver(task: asyncio.Task[Any], answer: Future[Any]) -> None:
    """Hand the outcome of `task` to the thread that waits for `answer`."""
    if task.cancelled():
        answer.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())


def _is_asynchronous(value: Any) -> bool:
    """Whether it has methods that only an event loop can run, as a session or a store has."""
    kind = type(value)
    return any(inspect.iscoroutinefunction(getattr(kind, name, None)) for name in dir(kind))


@contextmanager
def blocking(plane: Plane) -> Iterator[Any]:
    """`with pp.blocking(plane) as p:` opens `plane`; each of its calls blocks until it is done."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def until_stopped() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    thread = threading.Thread(
        target=lambda: uvloop.run(until_stopped()), name="polyplane", daemon=True
    )
    thread.start()
    loop, stop = started.result()
    try:
        with Portal(plane, loop)._block(plane) as portal:
            yield portal
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
