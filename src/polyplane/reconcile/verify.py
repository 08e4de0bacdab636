"""verify: does a store really hold derive(truth)?

Truth is read in one snapshot in key order, the store in key order too, and both are merged. What
differs may only be in flight, so it is looked at again, after everything committed has been
applied: drift is a difference in which neither truth nor the store's stamp has moved.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from time import perf_counter
from typing import Final, Protocol

from polyplane.model.collection import Collection
from polyplane.model.drift import Part
from polyplane.model.items import Stamp
from polyplane.stores.protocol import ItemStore

ROUNDS_MAX: Final = 6

Expected = tuple[str, str | None]
"""(key, digest) by truth; no digest: nothing follows from the row."""

Progress = Callable[[int], None]
"""Called with the number of rows of truth compared so far."""


class TruthSide(Protocol):
    """What truth says, and when the store must have heard of it."""

    def all(self) -> AsyncIterator[list[Expected]]:
        """Every row's (key, digest), in key order, from one snapshot."""
        ...

    async def of(self, keys: list[str]) -> Mapping[str, str | None]:
        """The digests of `keys` now; rows that are not there, or derive nothing, are None."""
        ...

    async def caught_up(self) -> None:
        """Return when all that was committed before this call is applied to the store."""
        ...


@dataclass(slots=True)
class _Tally:
    rows: int = 0
    derived: int = 0
    items: int = 0
    tombstones: int = 0
    truth: blake2b = field(default_factory=lambda: blake2b(digest_size=16))
    store: blake2b = field(default_factory=lambda: blake2b(digest_size=16))

    def expected(self, batch: list[Expected]) -> list[Expected]:
        """`batch`, counted."""
        derived = [f"{key}\0{found}\0" for key, found in batch if found is not None]
        self.truth.update("".join(derived).encode())
        self.rows += len(batch)
        self.derived += len(derived)
        return batch

    def held(self, stamps: list[Stamp]) -> list[Stamp]:
        """`stamps`, counted."""
        items = [f"{stamp.key}\0{stamp.digest}\0" for stamp in stamps if stamp.digest is not None]
        self.store.update("".join(items).encode())
        self.items += len(items)
        self.tombstones += len(stamps) - len(items)
        return stamps


_Difference = tuple[str | None, Stamp | None]
"""(digest by truth, what the store holds)."""


async def verify(
    projection: str,
    truth: TruthSide,
    store: ItemStore,
    collection: Collection,
    *,
    progress: Progress | None = None,
) -> Part:
    """Compare one collection with truth. A cache may lack items; that is not drift."""
    started = perf_counter()
    await truth.caught_up()
    tally = _Tally()
    suspects = await _compare(truth, store, collection, tally, progress)
    drift: dict[str, _Difference] = {}
    first = dict(suspects)
    for _ in range(ROUNDS_MAX):
        if not suspects:
            break
        await truth.caught_up()
        again = await _look_again(list(suspects), truth, store, collection)
        settled = {key for key, seen in again.items() if suspects[key] == seen}
        drift |= {key: again[key] for key in settled}
        suspects = {key: seen for key, seen in again.items() if key not in settled}
    # Rows that never rest: the store follows, and is right as of its stamp, or it does not.
    drift |= {key: seen for key, seen in suspects.items() if seen[1] == first[key][1]}
    return Part(
        projection=projection,
        collection=collection.target,
        rows=tally.rows,
        derived=tally.derived,
        items=tally.items,
        tombstones=tally.tombstones,
        truth_digest=tally.truth.hexdigest(),
        store_digest=tally.store.hexdigest(),
        missing=tuple(sorted(key for key, seen in drift.items() if _is_missing(seen))),
        stale=tuple(sorted(key for key, (a, b) in drift.items() if a and b and b.digest)),
        extra=tuple(sorted(key for key, (a, _) in drift.items() if a is None)),
        duration_s=perf_counter() - started,
    )


def _is_missing(seen: _Difference) -> bool:
    expected, stamp = seen
    return expected is not None and (stamp is None or stamp.digest is None)


def _differs(expected: str | None, stamp: Stamp | None, collection: Collection) -> bool:
    held = stamp.digest if stamp else None
    return expected != held and not (held is None and collection.kind == "cache")


async def _compare(
    truth: TruthSide,
    store: ItemStore,
    collection: Collection,
    tally: _Tally,
    progress: Progress | None,
) -> dict[str, _Difference]:
    """Go through both sides in key order, a batch of truth at a time; what differs."""
    found: dict[str, _Difference] = {}
    stamps = _Stamps(store.scan(collection))
    async for batch in truth.all():
        held, twice = _by_key(tally.held(await stamps.through(batch[-1][0])))
        for key, expected in tally.expected(batch):
            mine = held.pop(key, None)
            if _differs(expected, mine, collection):
                found[key] = (expected, mine)
        found |= _extra(held.values()) | twice
        if progress is not None:
            progress(tally.rows)
    while rest := await stamps.rest():
        found |= _extra(tally.held(rest))
    return found


def _by_key(stamps: Iterable[Stamp]) -> tuple[dict[str, Stamp], dict[str, _Difference]]:
    """`stamps` by key, and what a store should never hold: second items under a key."""
    held: dict[str, Stamp] = {}
    twice: dict[str, _Difference] = {}
    for stamp in stamps:
        if stamp.key in held:
            twice[stamp.key] = (None, stamp)
        held[stamp.key] = stamp
    return held, twice


def _extra(stamps: Iterable[Stamp]) -> dict[str, _Difference]:
    """What of `stamps`, of which truth knows nothing, is there; tombstones are not."""
    return {stamp.key: (None, stamp) for stamp in stamps if stamp.digest is not None}


class _Stamps:
    """The stamps of a store in key order, handed out as far as truth has come."""

    def __init__(self, batches: AsyncIterator[list[Stamp]]) -> None:
        self._batches = batches
        self._ahead: list[Stamp] = []

    async def through(self, key: str) -> list[Stamp]:
        """The next stamps up to and including `key`."""
        while not self._ahead or self._ahead[-1].key <= key:
            batch = await anext(self._batches, None)
            if batch is None:
                break
            self._ahead += batch
        end = bisect_right(self._ahead, key, key=attrgetter("key"))
        found, self._ahead = self._ahead[:end], self._ahead[end:]
        return found

    async def rest(self) -> list[Stamp]:
        """Some more stamps; none at the end."""
        found, self._ahead = self._ahead, []
        return found or await anext(self._batches, [])


async def _look_again(
    keys: list[str], truth: TruthSide, store: ItemStore, collection: Collection
) -> dict[str, _Difference]:
    """Those of `keys` that still differ."""
    expected = await truth.of(keys)
    wanted = set(keys)
    stamps = [s async for batch in store.scan(collection) for s in batch if s.key in wanted]
    held, twice = _by_key(stamps)
    again = {key: (expected.get(key), held.get(key)) for key in keys}
    return {key: seen for key, seen in again.items() if _differs(*seen, collection)} | twice
