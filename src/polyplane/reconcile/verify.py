"""verify: does a store really hold derive(truth)?

Truth is read in one snapshot in key order, the store in key order too, and both are merged, a
batch of truth at a time. A batch whose keys and digests are the same on both sides is done with
one comparison; rows are looked at one by one only where a batch differs. What differs is then
judged (see `looking`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from time import perf_counter
from typing import Final, Protocol

from polyplane.model.collection import Collection
from polyplane.model.drift import Part
from polyplane.model.items import Stamp
from polyplane.reconcile.looking import Findings, Look, TruthOfKeys, judge, look, look_of
from polyplane.stores.protocol import ItemStore

Expected = tuple[str, str | None]
"""(key, digest) by truth; no digest: nothing follows from the row."""

_POSITION: Final = attrgetter("position")

Progress = Callable[[int], None]
"""Called with the number of rows of truth compared so far."""


class TruthSide(TruthOfKeys, Protocol):
    """All that truth says about one projection."""

    def all(self) -> AsyncIterator[list[Expected]]:
        """Every row's (key, digest), in key order, from one snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class StoreSide:
    """One collection in its store. A cache may lack items."""

    store: ItemStore
    collection: Collection

    @property
    def may_lack(self) -> bool:
        """See `StoreOfKeys`."""
        return self.collection.kind == "cache"

    async def stamps(self, keys: Sequence[str]) -> list[Stamp]:
        """See `StoreOfKeys`."""
        return await self.store.stamps(self.collection, keys)


@dataclass(slots=True)
class _Tally:
    rows: int = 0
    derived: int = 0
    items: int = 0
    tombstones: int = 0
    truth: blake2b = field(default_factory=lambda: blake2b(digest_size=16))
    store: blake2b = field(default_factory=lambda: blake2b(digest_size=16))

    def compared(self, batch: Sequence[Expected], held: Sequence[Stamp]) -> bool:
        """Count what truth and the store have of one stretch of keys; whether it is the same."""
        derived = [(key, digest) for key, digest in batch if digest is not None]
        items = [(key, digest) for key, _, digest in held if digest is not None]
        is_equal = derived == items
        line = _line_of(derived)
        self.truth.update(line)
        self.store.update(line if is_equal else _line_of(items))
        self.rows += len(batch)
        self.derived += len(derived)
        self.items += len(items)
        self.tombstones += len(held) - len(items)
        return is_equal

    def part(self, projection: str, store: StoreSide, found: Findings, started: float) -> Part:
        """The outcome."""
        return Part(
            projection,
            store.collection.target,
            rows=self.rows,
            derived=self.derived,
            items=self.items,
            tombstones=self.tombstones,
            truth_digest=self.truth.hexdigest(),
            store_digest=self.store.hexdigest(),
            **found._asdict(),
            duration_s=perf_counter() - started,
        )


async def verify(
    projection: str, truth: TruthSide, store: StoreSide, *, progress: Progress | None = None
) -> Part:
    """Compare one collection with all of truth."""
    started = perf_counter()
    await truth.caught_up()
    tally = _Tally()
    suspects = await _compare(truth, store, tally, progress)
    return tally.part(projection, store, await judge(suspects, truth, store), started)


async def verify_keys(
    projection: str, truth: TruthSide, store: StoreSide, keys: Sequence[str]
) -> Part:
    """Compare only what is under `keys`; counts and digests are theirs."""
    started = perf_counter()
    seen = await look(sorted(set(keys)), truth, store)
    tally = _Tally()
    for key, found in seen.items():
        tally.compared([(key, found.expected)], found.held)
    return tally.part(projection, store, await judge(seen, truth, store), started)


async def _compare(
    truth: TruthSide, store: StoreSide, tally: _Tally, progress: Progress | None
) -> dict[str, Look]:
    """Go through both sides in key order; what is not right at first sight."""
    found: dict[str, Look] = {}
    stamps = _Stamps(store.store.scan(store.collection))
    # What is applied from now on is ahead of this, and gets a second look.
    newest = await truth.newest()

    def compare(batch: Sequence[Expected], held: Sequence[Stamp]) -> None:
        if tally.compared(batch, held) and max(map(_POSITION, held), default=0) <= newest:
            return
        known: dict[str, str | None] = dict.fromkeys(stamp.key for stamp in held)
        looks = look_of(known | dict(batch), held)
        may_lack = store.may_lack
        found.update({k: s for k, s in looks.items() if not s.is_right(newest, may_lack=may_lack)})

    async for batch in truth.all():
        compare(batch, await stamps.through(batch[-1][0]))
        if progress is not None:
            progress(tally.rows)
    while rest := await stamps.rest():
        compare((), rest)
    return found


def _line_of(pairs: Sequence[tuple[str, str]]) -> bytes:
    """What is digested of keys and digests."""
    return "".join([f"{key}\0{digest}\0" for key, digest in pairs]).encode(errors="surrogatepass")


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
