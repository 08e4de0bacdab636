"""Who follows over HTTP: let in by a credential, and seen to for as long as they follow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from polyplane.access.door import Door
from polyplane.errors import Forbidden, NotFound, PolyplaneError, Unauthenticated
from polyplane.live.follower import Follower
from polyplane.model.caller import Caller
from polyplane.model.live import Batch, Followed, Topic, Update
from polyplane.plane import Plane

LOOK_EVERY_S: Final = 0.6
"""How often it is looked whether a credential still holds."""
_LOOK_S: Final = 5.0
HEARTBEAT_S: Final = 10.0
"""A follower hears something at least so often."""
SLOW_S: Final = 30.0
"""A follower that takes nothing for so long is given up."""
TOPIC_CHARS_MAX: Final = 600

REVOKED: Final = "revoked"
UNAVAILABLE: Final = "unavailable"
ENDED: Final = "ended"
GONE: Final = "gone"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asked for, and the permissions that it needs."""

    followed: tuple[Followed, ...]
    permissions: frozenset[str]


def wanted(plane: Plane, caller: Caller, names: Sequence[str]) -> Wanted:
    """What `names` (`<application>.<topic>[/<key>]`) stand for.

    Raises NotFound for a topic that there is not, Forbidden for one that `caller` may not follow.
    """
    topics, found = plane.declared.topics, []
    for name in names:
        topic_name, _, key = name.partition("/")
        topic: Topic | None = topics.get(topic_name)
        if topic is None:
            raise NotFound("There is no such topic.", field="topic", fix="See: docs/live.md")
        caller.require(topic.permission)
        found.append((Followed(topic_name, topic.about(key)), topic.permission))
    return Wanted(tuple(it for it, _ in found), frozenset(it for _, it in found))


@dataclass(frozen=True, slots=True)
class Watchman:
    """Ends a follower when its credential does not hold any more, or lets less be seen."""

    door: Door
    credential: str
    tenant: str | None
    caller: Caller
    permissions: frozenset[str]

    async def watch(self, follower: Follower) -> None:
        """Look again and again, until there is a reason to end; and end it."""
        while not follower.ended:
            await asyncio.sleep(LOOK_EVERY_S)
            if reason := await self._why_not():
                follower.end(reason)

    async def _why_not(self) -> str:
        try:
            async with asyncio.timeout(_LOOK_S):
                now = (await self.door.admit(self.credential, tenant=self.tenant)).caller
        except (Unauthenticated, Forbidden):
            return REVOKED
        except (PolyplaneError, TimeoutError):  # nobody knows: they may come back and ask
            return UNAVAILABLE
        before = self.caller
        is_same = (now.tenant, now.user, now.sees_all) == (
            before.tenant,
            before.user,
            before.sees_all,
        )
        return "" if is_same and self.permissions <= now.permissions else REVOKED


def shown(update: Update) -> dict[str, Any]:
    """One update as JSON has it; what does not apply is left out."""
    found: dict[str, Any] = {"topic": update.topic}
    if update.key:
        found["key"] = update.key
    if update.gone:
        found["gone"] = True
    if update.event is not None:
        found["event"] = update.event
    if update.state is not None:
        found["state"] = update.state
    return found


def messages_of(batch: Batch) -> list[tuple[str, dict[str, Any]]]:
    """(kind, content) of what a batch says; whoever has the last one has them all."""
    found: list[tuple[str, dict[str, Any]]] = []
    if batch.reset:
        found.append(("reset", {"reason": batch.reset}))
    if batch.lagged:
        found.append(("lagged", {"topics": list(batch.lagged)}))
    if batch.updates:
        found.append(("updates", {"updates": [shown(it) for it in batch.updates]}))
    return found


def frames_of(batch: Batch) -> bytes:
    """A batch as Server-Sent Events; the last one moves the position."""
    said = messages_of(batch)
    return b"".join(
        frame(kind, content, str(batch.position) if number == len(said) else "")
        for number, (kind, content) in enumerate(said, start=1)
    )


def frame(kind: str, content: dict[str, Any], position: str = "") -> bytes:
    """One Server-Sent Event. JSON has no line ends."""
    head = f"id: {position}\n" if position else ""
    return f"{head}event: {kind}\ndata: ".encode() + orjson.dumps(content) + b"\n\n"
