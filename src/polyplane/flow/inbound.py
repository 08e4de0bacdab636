"""Inbound: what outside programs send, handed to the application in order, at least once."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

from polyplane.feed.protocol import Feed, Subjects
from polyplane.model.message import Inbound

_log = structlog.get_logger(__name__)

BATCH_MESSAGES: Final = 200
_WAIT_S: Final = 30.0
_HANDLE_S: Final = 60.0
_PAUSES_S: Final = (0.1, 0.5, 1.0, 2.0)


class Follower:
    """Feeds one inbound stream to its application. `run` until cancelled."""

    def __init__(
        self, application: str, inbound: Inbound, plane: Any, feed: Feed, subjects: Subjects
    ) -> None:
        self.name = f"{application}.{inbound.name}"
        self._inbound = inbound
        self._plane = plane
        self._feed = feed
        self._stream, self._subject = subjects.inbound(application, inbound.name)
        self.handled_messages = 0
        self.last_error = ""

    async def run(self) -> None:
        """Hand messages over as they come. A batch that fails is handed over again, for ever."""
        failures = 0
        while True:
            try:
                first = (await self._feed.bounds(self._stream)).first
                reader = self._feed.reader(self._stream, [self._subject], first)
                try:
                    while True:
                        messages = await reader.batch(BATCH_MESSAGES, wait_s=_WAIT_S)
                        if not messages:
                            continue
                        async with asyncio.timeout(_HANDLE_S):
                            await self._inbound.handle(self._plane, messages)
                        await self._feed.let_go(self._stream, messages[-1].sequence)
                        self.handled_messages += len(messages)
                        failures, self.last_error = 0, ""
                finally:
                    await reader.close()
            except Exception as error:  # whatever the application raises: nothing may be lost
                self.last_error = str(error) or type(error).__name__
                _log.warning("inbound.waiting", inbound=self.name, error=self.last_error)
                await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
                failures += 1
