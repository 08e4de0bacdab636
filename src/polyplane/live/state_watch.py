"""States as they change: heard of through the cache, read there, and told in rounds.

Only ids are heard; what is told is read when it is told. So the latest wins, whatever came before
it, and the last one is told, also when words were lost with a connection: then all is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

import structlog

from polyplane.errors import PolyplaneError, Refused
from polyplane.live.follower import Follower
from polyplane.live.pending import UPDATES_MAX
from polyplane.model.channel import Channel, Listener, Transport
from polyplane.model.live import StateKind, Update
from polyplane.stores.states import StateStore

_log = structlog.get_logger("polyplane.live")

ROUND_S: Final = 0.2
"""Between two rounds: five a second."""
_AGAIN_S: Final = 0.5


class _Watched(NamedTuple):
    """A kind of state of one tenant, the ids that changed since they were told, and who hears."""

    tenant: str
    kind: StateKind
    listener: Listener
    changed: dict[str, None]
    followers: list[Follower]

    @property
    def channel(self) -> Channel:
        return Channel("states", self.tenant, self.kind.name)


class StateWatch:
    """Tells followers of states. One channel for each tenant and kind that is followed."""

    def __init__(self, states: StateStore, channels: Transport) -> None:
        self._states = states
        self._channels = channels
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def join(self, follower: Follower) -> None:
        """Let `follower` be told from now on; and of states it named, what they are now.

        Raises StoreDown.
        """
        kinds = {of.kind.name: of.kind for _, of in follower.states()}
        async with self._lock:
            for kind in kinds.values():
                await self._watch(follower, kind)
        for kind in kinds.values():
            ids = sorted({of.id for _, of in follower.states() if of.kind is kind and of.id})
            held = await self._states.get(follower.scope.tenant or "", kind, ids)
            follower.put((it, 0) for it in _updates(follower, kind, held))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="live states")

    async def leave(self, follower: Follower) -> None:
        """Forget `follower`."""
        async with self._lock:
            for at, watched in list(self._watched.items()):
                if follower in watched.followers:
                    watched.followers.remove(follower)
                if not watched.followers:
                    del self._watched[at]
                    await self._channels.leave(watched.channel, watched.listener)

    async def close(self) -> None:
        """Stop telling. Safe to call twice."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1.0)

    async def _watch(self, follower: Follower, kind: StateKind) -> None:
        tenant = follower.scope.tenant or ""
        at = (tenant, kind.name)
        watched = self._watched.get(at)
        if watched is None:
            listener = Listener(partial(self._heard, at), partial(self._interrupted, at))
            watched = _Watched(tenant, kind, listener, {}, [follower])
            self._watched[at] = watched
            try:
                await self._channels.listen(watched.channel, listener)
            except BaseException:
                del self._watched[at]
                raise
        else:
            watched.followers.append(follower)

    def _heard(self, at: tuple[str, str], body: bytes) -> None:
        watched, id = self._watched.get(at), body.decode(errors="replace")
        if watched is None or len(watched.changed) > UPDATES_MAX:
            return
        with suppress(Refused):  # somebody else's word, that is no id
            watched.kind.key_of(id)
            watched.changed[id] = None
            self._news.set()

    def _interrupted(self, at: tuple[str, str]) -> None:
        """Words may be lost: read again what was named, and say so of what was not."""
        watched = self._watched.get(at)
        if watched is None:
            return
        for follower in watched.followers:
            for followed, of in follower.states():
                if of.kind is watched.kind and of.id:
                    watched.changed[of.id] = None
                elif of.kind is watched.kind:
                    follower.lag(followed.name)
        self._news.set()

    async def _run(self) -> None:
        """Tell, for ever, in rounds."""
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            self._news.clear()
            began = loop.time()
            for watched in list(self._watched.values()):
                try:
                    await self._tell(watched)
                except (PolyplaneError, TimeoutError) as error:
                    _log.warning("live.states_waiting", error=str(error) or type(error).__name__)
                    self._news.set()
                    await asyncio.sleep(_AGAIN_S)
            await asyncio.sleep(max(0.0, began + ROUND_S - loop.time()))

    async def _tell(self, watched: _Watched) -> None:
        """Tell of all that has changed; what cannot be read is left for the next round."""
        changed = dict(watched.changed)
        watched.changed.clear()  # before it is read: what changes meanwhile is told again
        everybody = [it for it in watched.followers if _follows_all(it, watched.kind)]
        named = _named(watched.followers, watched.kind)
        ids = [it for it in changed if everybody or it in named]
        if len(changed) > UPDATES_MAX:  # some were not even noted
            ids = list(named)
            for follower in everybody:
                for topic in _follows_all(follower, watched.kind):
                    follower.lag(topic)
        try:
            held = await self._states.get(watched.tenant, watched.kind, ids) if ids else {}
        except BaseException:
            watched.changed.update(changed)
            raise
        told: dict[str, dict[str, Any] | None] = {id: held.get(id) for id in ids}
        for follower in list(watched.followers):
            follower.put((it, 0) for it in _updates(follower, watched.kind, told))


def _follows_all(follower: Follower, kind: StateKind) -> list[str]:
    """The topics by which it follows every state of `kind`."""
    return [it.name for it, of in follower.states() if of.kind is kind and not of.id]


def _named(followers: Collection[Follower], kind: StateKind) -> set[str]:
    return {of.id for it in followers for _, of in it.states() if of.kind is kind and of.id}


def _updates(follower: Follower, kind: StateKind, held: Any) -> Iterable[Update]:
    """What `follower` is told, given id -> state, or None for one that there is not any more."""
    for followed, of in follower.states():
        if of.kind is kind:
            for id in [of.id] if of.id else held:
                if id in held:
                    state = held[id]
                    yield Update(followed.name, id, gone=state is None, state=state)
