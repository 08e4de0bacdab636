"""All who follow in this process: let in within bounds, told by one reader, ended in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from polyplane.errors import Forbidden, Misconfigured, Refused, TooOften, Unavailable
from polyplane.feed.protocol import Feed, Subjects
from polyplane.live.feeding import Feeding
from polyplane.live.follower import Follower
from polyplane.live.state_watch import StateWatch
from polyplane.live.telling import Telling
from polyplane.model.caller import Caller
from polyplane.model.channel import Transport
from polyplane.model.live import FeedPosition, Followed
from polyplane.stores.states import StateStore
from polyplane.truth.database import Database
from polyplane.truth.visible import Visibility

FOLLOWERS_MAX: Final = 256
"""In one process."""
FOLLOWERS_OF_ONE_MAX: Final = 32
"""Of one actor; programs of the plane itself have no such bound."""
FOLLOWED_MAX: Final = 64
"""By one follower."""
_AGAIN_S: Final = 5.0


class Hub:
    """Lets followers in, and is told by whoever closes the plane when it is over."""

    def __init__(
        self,
        feed: Feed,
        subjects: Subjects,
        tables: Mapping[str, Visibility],
        databases: tuple[Database, Database],
        epoch: Callable[[], int],
        cache: tuple[StateStore, Transport] | None,
    ) -> None:
        """`databases`: what the plane itself reads with, and what callers do."""
        self._telling = Telling(tables, *databases)
        self._feeding = Feeding(feed, subjects, self._telling, epoch, lambda: self._followers)
        self._states = None if cache is None else StateWatch(*cache)
        self._followers: dict[Follower, None] = {}
        self._is_over = ""

    @property
    def followers(self) -> Collection[Follower]:
        """Who follows now."""
        return self._followers.keys()

    @asynccontextmanager
    async def follow(
        self, followed: Sequence[Followed], caller: Caller, after: FeedPosition | None = None
    ) -> AsyncIterator[Follower]:
        """Follow as `caller` while the block lasts, from now or from `after` on.

        Raises Refused for what cannot be followed, Forbidden for a caller of no tenant, TooOften
        and Unavailable when there are too many, FeedDown and StoreDown.
        """
        follower = Follower(followed, caller)
        self._check(follower)
        try:
            if follower.needs_feed:
                await self._feeding.join(follower, after, lambda: self._add(follower))
            else:
                self._add(follower)
            if any(follower.states()):
                if self._states is None:
                    raise Misconfigured("This plane has no cache.", fix="Set REDIS_URL or a home.")
                await self._states.join(follower)
            yield follower
        finally:
            self._followers.pop(follower, None)
            if self._states is not None:
                await asyncio.shield(self._states.leave(follower))
            if follower.needs_feed:
                await asyncio.shield(self._feeding.rest())

    def _add(self, follower: Follower) -> None:
        self._check(follower)  # again: others may have come meanwhile
        self._followers[follower] = None

    def end(self, reason: str = "stopping") -> None:
        """Let nobody in any more, and have those who follow be told `reason`. Safe to call twice.

        They are gone when `gone` returns.
        """
        self._is_over = self._is_over or reason
        for follower in list(self._followers):
            follower.end(self._is_over)

    async def gone(self, timeout_s: float) -> bool:
        """Whether nobody follows any more, after `timeout_s` at most."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while self._followers and loop.time() < until:
            await asyncio.sleep(0.01)
        return not self._followers

    async def close(self) -> None:
        """End all, and stop reading."""
        self.end("closed")
        await self._feeding.close()
        if self._states is not None:
            await self._states.close()

    def _check(self, follower: Follower) -> None:
        if self._is_over:
            raise Unavailable("This process is stopping.", fix="Follow again in a moment.")
        if not follower.scope.tenant:
            raise Forbidden("Who acts for no organization follows nothing.")
        if not 1 <= len(follower.followed) <= FOLLOWED_MAX:
            raise Refused(f"One to {FOLLOWED_MAX} things can be followed at once.", field="topic")
        for _, rows in follower.rows():
            if not self._telling.knows(rows.table):
                raise Refused(
                    f"Changes of {rows.table} are not captured.",
                    field="topic",
                    fix="Let a topic of an application be about it.",
                )
        if len(self._followers) >= FOLLOWERS_MAX:
            raise Unavailable(f"{FOLLOWERS_MAX} follow already.", fix="Try again in a while.")
        of_one = Counter(it.caller.actor for it in self._followers)
        actor = follower.caller.actor
        if actor and of_one[actor] >= FOLLOWERS_OF_ONE_MAX:
            raise TooOften(
                f"You follow {FOLLOWERS_OF_ONE_MAX} times already.", retry_after_s=_AGAIN_S
            )
