"""Inbound: what outside programs send, handed to the application in order, at least once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from polyplane.feed.protocol import Feed, Subjects
from polyplane.model.message import Inbound, Message

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
        self._incarnation = ""
        self._handed = 0  # the last sequence that the application was given
        self.handled_messages = 0
        self.last_error = ""

    async def run(self) -> None:
        """Hand messages over as they come. A batch that fails is handed over again, for ever."""
        failures = 0
        while True:
            try:
                bounds = await self._feed.bounds(self._stream)
                if bounds.created != self._incarnation:
                    self._incarnation, self._handed = bounds.created, 0
                reader = self._feed.reader(self._stream, [self._subject], bounds.first)
                try:
                    while True:
                        messages = await reader.batch(BATCH_MESSAGES, wait_s=_WAIT_S)
                        if messages:
                            await self._hand_over(messages)
                            failures, self.last_error = 0, ""
                finally:
                    await reader.close()
            except Exception as error:  # whatever the application raises: nothing may be lost
                self.last_error = str(error) or type(error).__name__
                _log.warning("inbound.waiting", inbound=self.name, error=self.last_error)
                await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
                failures += 1

    async def _hand_over(self, messages: Sequence[Message]) -> None:
        """Let go of messages once the application has handled them."""
        marked = [replace(it, redelivered=it.sequence <= self._handed) for it in messages]
        last = messages[-1].sequence
        self._handed = max(self._handed, last)
        async with asyncio.timeout(_HANDLE_S):
            await self._inbound.handle(self._plane, marked)
        await self._feed.let_go(self._stream, last)
        self.handled_messages += len(messages)
