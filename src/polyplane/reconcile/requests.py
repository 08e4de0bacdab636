"""The proof of the request cache: no entry that counts is older than what it depends on.

What a load gives is not derivable: it may come from anywhere. So the entry is not compared with
truth, but with the changes of truth: it says what it depends on, and at which position that was
read. The feed is read again for it, past the records that the cache has of changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from time import perf_counter
from typing import Final, Protocol

from polyplane.model.drift import RequestPart
from polyplane.model.position import Position
from polyplane.stores.request_protocol import Depend, KeptEntry, RequestStore

STALE_MAX: Final = 1_000


class Changed(Protocol):
    """The feed, as far as the proof needs it."""

    async def through(self) -> Position:
        """The last change that is published, once the cache has been told of it."""
        ...

    async def last(
        self, after: int, through: int, wanted: Set[Depend]
    ) -> tuple[int, Mapping[Depend, int]]:
        """Of `wanted` that has changed: the last order in (after, through]. And the order behind
        which the feed still has all changes.
        """
        ...


async def prove_requests(
    store: RequestStore, changed: Changed, told: Callable[[int], None]
) -> RequestPart:
    """Look at every entry; `told` hears how many. Raises what store and feed raise."""
    started, through = perf_counter(), await changed.through()
    entries = damaged = 0
    good: list[KeptEntry] = []
    async for some in store.entries():
        entries += len(some)
        damaged += sum(it.kept is None for it in some)
        good += [_light(it) for it in some if it.standing == "good"]
        told(entries)
    stale, unproven = await _stale(good, changed, through)
    return RequestPart(
        entries,
        len(good),
        damaged,
        through.epoch,
        through.order,
        tuple(it.name for it in stale[:STALE_MAX]),
        unproven,
        perf_counter() - started,
    )


async def mend_requests(store: RequestStore, changed: Changed, part: RequestPart) -> RequestPart:
    """Drop the entries that are stale, and no others; what is stale then."""
    names = set(part.stale)
    async for some in store.entries():
        await store.drop([it for it in some if it.name in names])
    return await prove_requests(store, changed, lambda _: None)


async def _stale(
    good: list[KeptEntry], changed: Changed, through: Position
) -> tuple[list[KeptEntry], int]:
    """Those of which a dependency has changed since, and how many nobody can say that of."""
    wanted = {depend for it in good if it.kept for depend in it.kept.dependencies}
    if not wanted:
        return [], 0
    after = min(_order(it, through.epoch) for it in good)
    reaches, last = await changed.last(after, through.order, wanted)
    stale, unproven = [], 0
    for it in good:
        assert it.kept is not None
        order = _order(it, through.epoch)
        if any(last.get(depend, 0) > order for depend in it.kept.dependencies):
            stale.append(it)
        elif order < reaches and it.kept.dependencies:
            unproven += 1
    return stale, unproven


def _order(entry: KeptEntry, epoch: int) -> int:
    """The order of its position; what is of an epoch before is older than all."""
    assert entry.kept is not None
    at = Position.unpacked(entry.kept.position)
    return at.order if at.epoch == epoch else 0


def _light(entry: KeptEntry) -> KeptEntry:
    """The entry without its value."""
    assert entry.kept is not None
    return entry._replace(kept=entry.kept._replace(body=b""))
