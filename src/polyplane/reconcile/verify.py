"""verify: does a store really hold derive(truth)?

Truth is read in one snapshot in key order, the store in key order too, and both are merged. What
differs may only be in flight, so it is looked at again, after everything committed has been
applied: drift is a difference in which neither truth nor the store's stamp has moved.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
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
    for _ in range(ROUNDS_MAX):
        if not suspects:
            break
        await truth.caught_up()
        again = await _look_again(list(suspects), truth, store, collection)
        settled = {key for key, seen in again.items() if suspects[key] == seen}
        drift |= {key: again[key] for key in settled}
        suspects = {key: seen for key, seen in again.items() if key not in settled}
    drift |= suspects
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
    """Merge both sides in key order; what differs."""
    found: dict[str, _Difference] = {}
    stamps = _stamps(store, collection, tally)
    stamp = await anext(stamps, None)
    async for batch in truth.all():
        for key, expected in batch:
            while stamp is not None and stamp.key < key:
                if stamp.digest is not None:
                    found[stamp.key] = (None, stamp)
                stamp = await anext(stamps, None)
            mine = stamp if stamp is not None and stamp.key == key else None
            if expected is not None:
                tally.derived += 1
                tally.truth.update(f"{key}\0{expected}\0".encode())
            if _differs(expected, mine, collection):
                found[key] = (expected, mine)
            if mine is not None:
                stamp = await anext(stamps, None)
        tally.rows += len(batch)
        if progress is not None:
            progress(tally.rows)
    while stamp is not None:
        if stamp.digest is not None:
            found[stamp.key] = (None, stamp)
        stamp = await anext(stamps, None)
    return found


async def _stamps(store: ItemStore, collection: Collection, tally: _Tally) -> AsyncIterator[Stamp]:
    async for batch in store.scan(collection):
        for stamp in batch:
            if stamp.digest is None:
                tally.tombstones += 1
            else:
                tally.items += 1
                tally.store.update(f"{stamp.key}\0{stamp.digest}\0".encode())
            yield stamp


async def _look_again(
    keys: list[str], truth: TruthSide, store: ItemStore, collection: Collection
) -> dict[str, _Difference]:
    """Those of `keys` that still differ."""
    expected = await truth.of(keys)
    wanted = set(keys)
    stamps: dict[str, Stamp] = {}
    async for batch in store.scan(collection):
        stamps |= {stamp.key: stamp for stamp in batch if stamp.key in wanted}
    return {
        key: (expected.get(key), stamps.get(key))
        for key in keys
        if _differs(expected.get(key), stamps.get(key), collection)
    }
