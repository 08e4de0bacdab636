"""What the feed says of changes, for the proof of the request cache."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from typing import Final

from polyplane.errors import FeedDown, NotSettled
from polyplane.flow.packing import keys_of
from polyplane.model.position import Position
from polyplane.runtime.loads import is_told
from polyplane.runtime.opening import Open
from polyplane.stores.request_protocol import Depend, RequestStore

_MESSAGES: Final = 256
_POLL_S: Final = 0.02
_SILENCE_S: Final = 10.0


class ChangesOfFeed:
    """`reconcile.requests.Changed` on an open plane."""

    def __init__(self, opened: Open, store: RequestStore, timeout_s: float) -> None:
        self._opened = opened
        self._store = store
        self._timeout_s = timeout_s

    async def through(self) -> Position:
        """All that is committed by now is published, and the cache is told. Raises NotSettled."""
        opened = self._opened
        cut, epoch = await opened.journal.cut(), opened.epoch
        waiting_for = "the relay"
        try:
            async with asyncio.timeout(self._timeout_s):
                while not await opened.journal.is_cut_relayed(epoch, cut):
                    await asyncio.sleep(_POLL_S)
                waiting_for = "the request cache"
                bounds = await opened.feed.bounds(opened.feed.subjects.changes)
                needed = Position(epoch, bounds.last)
                while not await is_told(self._store, needed.packed()):
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise NotSettled(
                f"What is committed is stored, but {waiting_for} has not been told within"
                f" {self._timeout_s:g} s."
            ) from None
        return needed

    async def last(
        self, after: int, through: int, wanted: Set[Depend]
    ) -> tuple[int, Mapping[Depend, int]]:
        """Read the changes again. Raises FeedDown when they do not come."""
        feed = self._opened.feed
        bounds = await feed.bounds(feed.subjects.changes)
        order = max(after, bounds.first - 1)
        reaches = order if order > after else 0
        found: dict[Depend, int] = {}
        reader = feed.reader(feed.subjects.changes, [feed.subjects.all_changes], order + 1)
        try:
            while order < through:
                messages = await reader.batch(_MESSAGES, wait_s=_SILENCE_S)
                if not messages:
                    raise FeedDown("The changes stream gives nothing.")
                for message in messages:
                    order = message.sequence
                    if order > through:
                        break
                    table, keys = keys_of(message)
                    depends: list[Depend] = [(table, None), *((table, key) for key in keys)]
                    found |= {it: order for it in depends if it in wanted}
        finally:
            await reader.close()
        return reaches, found
