"""Somebody who follows: what they asked for, as whom, and what waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from polyplane.live.changes import Changed
from polyplane.live.pending import UPDATES_MAX, Pending
from polyplane.model.caller import Caller
from polyplane.model.live import Batch, Events, FeedPosition, Followed, Rows, States, Update
from polyplane.model.scope import Scope

NOWHERE: Final = FeedPosition(0, 0, 0)


class Ended(Exception):
    """The follower is told nothing more; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Follower:
    """One who follows. Told by the one loop that reads for all; nothing here waits for it."""

    def __init__(self, followed: Sequence[Followed], caller: Caller) -> None:
        self.followed = tuple(dict.fromkeys(followed))
        self.caller = caller
        self.scope = Scope.of(caller)
        self.pending = Pending(NOWHERE)
        self.floor = NOWHERE
        """What was told elsewhere: nothing up to there is told again."""
        self.began = NOWHERE
        """Where it stood before it was told anything: what waits already comes after that."""
        self.ended = ""
        self._news = asyncio.Event()

    async def next(self, *, wait_s: float) -> Batch | None:
        """What there is to be told; None when nothing came within `wait_s`. Raises Ended."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while not self.ended and not self.pending.has_any:
            self._news.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                return None
        if self.ended:
            raise Ended(self.ended)
        return self.pending.take()

    def end(self, reason: str) -> None:
        """Have it told, after nothing else, that it is over and why. The first reason counts."""
        self.ended = self.ended or reason
        self._news.set()

    # What it asked for

    def rows(self) -> Iterable[tuple[Followed, Rows]]:
        """The tables and rows among it."""
        return ((it, it.of) for it in self.followed if isinstance(it.of, Rows))

    def events(self) -> Iterable[tuple[Followed, Events]]:
        """The types of events among it."""
        return ((it, it.of) for it in self.followed if isinstance(it.of, Events))

    def states(self) -> Iterable[tuple[Followed, States]]:
        """The states among it."""
        return ((it, it.of) for it in self.followed if isinstance(it.of, States))

    @property
    def needs_feed(self) -> bool:
        """Whether anything of it comes through the feed."""
        return any(not isinstance(it.of, States) for it in self.followed)

    # What it is told

    def move(self, *, changes: int = 0, events: int = 0, epoch: int = 0) -> None:
        """It was told all that concerns it up to there."""
        at = self.pending.position
        self.pending.position = FeedPosition(
            max(at.epoch, epoch), max(at.changes, changes), max(at.events, events)
        )

    def reset(self, why: str, position: FeedPosition) -> None:
        """It cannot go on from where it was."""
        self.pending.reset(why, position)
        self.floor = position
        self._news.set()

    def lag(self, topic: str) -> None:
        """Something of `topic` is left out."""
        self.pending.lag(topic)
        self._news.set()

    def put(self, updates: Iterable[tuple[Update, int]]) -> None:
        """Note what is to be told; `(update, bytes of its event)`."""
        for update, size in updates:
            self.pending.put(update, size)
        if self.pending.has_any:
            self._news.set()


def row_updates(
    follower: Follower, table: str, changed: Changed, seen: dict[str, bool]
) -> list[tuple[Update, int]]:
    """What `follower` is told of the changes of a table; `seen`: key -> whether it is gone."""
    found = []
    for followed, rows in follower.rows():
        if rows.table != table:
            continue
        if not rows.key and len(seen) > UPDATES_MAX:
            follower.lag(followed.name)
            continue
        for key in [rows.key] if rows.key else seen:
            if key in seen and changed.keys[key] > follower.floor.changes:
                update = Update(followed.name, key, gone=seen[key], order=changed.keys[key])
                found.append((update, 0))
    return found


def event_updates(
    follower: Follower, event: dict[str, Any], size: int, order: int
) -> list[tuple[Update, int]]:
    """What `follower` is told of an event: of its own tenant's."""
    if event["tenant"] != follower.scope.tenant or order <= follower.floor.events:
        return []
    kind, subject = event["type"], event.get("subject", "")
    return [
        (Update(followed.name, subject, event=event, order=order), size)
        for followed, of in follower.events()
        if (kind == of.type or kind.startswith(of.type + "."))
        and (not of.subject or of.subject == subject)
    ]


def event_of(body: bytes) -> dict[str, Any] | None:
    """The event in a message; None when it is no relay's."""
    try:
        event = orjson.loads(body)
        return event if isinstance(event["tenant"] + event["type"] + event["id"], str) else None
    except (ValueError, KeyError, TypeError):
        return None
