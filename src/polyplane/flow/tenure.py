"""Who works on what: each (collection, bucket) has one worker, by a lease that it renews.

A worker that dies or is paused loses its leases, and others take them over. One that wakes up
again knows by its own clock that they may be over, and by their fences whether they are.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import structlog

from polyplane.errors import Fenced, Unavailable
from polyplane.model.key import BUCKETS
from polyplane.truth.leases import Held, Lease, Leases

_log = structlog.get_logger(__name__)

TTL_S: Final = 2.5
RENEW_S: Final = 0.8
_SWEEP_EVERY: Final = 75
"""Rounds: about a minute."""


class Claims(NamedTuple):
    """The buckets to take or keep, and those that are more than a fair share."""

    wanted: list[tuple[str, int]]
    surplus: list[tuple[str, int]]


def claims(standing: Iterable[Lease], me: UUID, collections: Collection[str]) -> Claims:
    """What `me` should hold of `collections`, as the leases stand: a fair share of each. Pure."""
    others: dict[str, set[UUID]] = defaultdict(set)
    mine: dict[str, list[int]] = defaultdict(list)
    taken: dict[str, set[int]] = defaultdict(set)
    for name, holder, alive in standing:
        kind, collection, rest = name.split(":")
        if alive and kind == "seat" and holder != me:
            others[collection].add(holder)
        elif alive and kind == "projection" and holder == me:
            mine[collection].append(int(rest))
        elif alive and kind == "projection":
            taken[collection].add(int(rest))
    found = Claims([], [])
    for collection in mine.keys() - set(collections):
        found.surplus.extend((collection, bucket) for bucket in mine[collection])
    for collection in collections:
        share = -(-BUCKETS // (1 + len(others[collection])))
        held = sorted(mine[collection])
        start = me.int % BUCKETS  # so that newcomers do not all reach for the same
        free = [(start + n) % BUCKETS for n in range(BUCKETS)]
        free = [b for b in free if b not in taken[collection] and b not in held]
        wanted = (held + free)[:share]
        found.wanted.extend((collection, bucket) for bucket in wanted)
        found.surplus.extend((collection, bucket) for bucket in held if bucket not in wanted)
    return found


class Tenure:
    """The leases of this process. `run` until cancelled, then `stop`."""

    def __init__(self, leases: Leases, *, epoch: int) -> None:
        self._leases = leases
        self._collections: set[str] = set()
        self._epoch = epoch
        self._me = uuid4()
        self._held: Mapping[str, Held] = {}
        self._until = 0.0
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()

    def join(self, collection: str) -> None:
        """Have a share of `collection` from now on."""
        self._collections.add(collection)
        self._hurry.set()

    def leave(self, collection: str) -> None:
        """Have none any more."""
        self._collections.discard(collection)

    async def run(self) -> None:
        """Keep a fair share of the buckets of each collection. Ends by cancellation."""
        rounds = 0
        while True:
            try:
                await self._renew()
                if rounds % _SWEEP_EVERY == 0:
                    await self._leases.sweep_seats()
                rounds += 1
            except (Unavailable, TimeoutError) as error:  # what is held lasts as long as it lasts
                _log.warning("tenure.waiting", error=str(error) or type(error).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), RENEW_S)

    async def stop(self) -> None:
        """Give everything up, so that others need not wait for its end."""
        self._until = 0.0
        self._held = {}
        await self._leases.give_up(self._me)

    async def held(self, collection: str) -> Held:
        """What this process holds of `collection`; waits until it is something."""
        while not self._is_valid() or collection not in self._held:
            self._changed.clear()
            await self._changed.wait()
        return self._held[collection]

    def check(self, collection: str, held: Held) -> None:
        """Raise Fenced unless `held` is what is held now, by the clock of this process, too."""
        if not self._is_valid() or self._held.get(collection) != held:
            raise Fenced(f"Other buckets of {collection} are held by now.")

    def _is_valid(self) -> bool:
        return asyncio.get_running_loop().time() < self._until

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        self._hurry.clear()
        found = claims(await self._leases.standing(), self._me, self._collections)
        if found.surplus:
            await self._leases.give_up(self._me, [_bucket(*it) for it in found.surplus])
        asked = loop.time()  # before: the lease may begin any time from now
        seats = [f"seat:{collection}:{self._me}" for collection in self._collections]
        names = {_bucket(*it): it for it in found.wanted}
        fences = await self._leases.claim(self._me, [*seats, *names], TTL_S, self._epoch)
        held: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for name in sorted(fences.keys() & names.keys()):
            collection, bucket = names[name]
            held[collection].append((bucket, fences[name]))
        before, self._held = (
            self._held,
            {name: Held(self._me, tuple(fenced)) for name, fenced in held.items()},
        )
        self._until = asked + TTL_S
        self._changed.set()
        if self._held != before:
            _log.info("tenure.changed", held={n: it.buckets for n, it in self._held.items()})


def _bucket(collection: str, bucket: int) -> str:
    return f"projection:{collection}:{bucket}"
