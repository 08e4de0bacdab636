"""verify: does a store really hold derive(truth)?

Truth is read in one snapshot in key order, the store in key order too, and both are merged, a
batch of truth at a time. A batch whose keys and digests are the same on both sides is done with
one comparison; rows are looked at one by one only where a batch differs. What differs is then
judged (see `looking`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from operator import attrgetter
from time import perf_counter
from typing import Final, Protocol

from polyplane.garbage import uncollected
from polyplane.model.collection import Collection
from polyplane.model.digest import digest
from polyplane.model.drift import Part
from polyplane.model.items import Held, Stamp
from polyplane.model.key import BUCKETS, bucket_of
from polyplane.model.position import Position
from polyplane.reconcile.ahead import ahead
from polyplane.reconcile.looking import Findings, Look, TruthOfKeys, judge, look, look_of
from polyplane.stores.protocol import ItemStore

Expected = tuple[str, str | None]
"""(key, digest) by truth; no digest: nothing follows from the row."""

_POSITION: Final = attrgetter("position")

Progress = Callable[[int], None]
"""Called with the number of rows of truth compared so far."""


class TruthSide(TruthOfKeys, Protocol):
    """All that truth says about one projection."""

    @property
    def definition(self) -> str:
        """What digests depend on besides the row: kind, version, embedder."""
        ...

    def all(self) -> AsyncGenerator[list[Expected], None]:
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

    async def scan(self) -> AsyncGenerator[list[Stamp], None]:
        """Every stamp, in key order."""
        async for stamps in self.store.scan(self.collection):
            yield stamps

    async def contents(self, keys: Sequence[str]) -> list[Held]:
        """What is really held under `keys`, content included."""
        return await self.store.contents(self.collection, keys)

    async def stamps(self, keys: Sequence[str]) -> list[Stamp]:
        """See `StoreOfKeys`."""
        return await self.store.stamps(self.collection, keys)


class _Sums:
    """Digests of keys and digests in key order, one for each bucket of keys."""

    def __init__(self) -> None:
        self._sums = [blake2b(digest_size=16) for _ in range(BUCKETS)]

    def add(self, lines: Sequence[bytes]) -> None:
        """Go on with what each bucket has more."""
        for found, line in zip(self._sums, lines, strict=True):
            found.update(line)

    def digests(self) -> tuple[str, ...]:
        """Of each bucket, in hexadecimal."""
        return tuple(found.hexdigest() for found in self._sums)


@dataclass(slots=True)
class _Tally:
    rows: int = 0
    derived: int = 0
    items: int = 0
    tombstones: int = 0
    truth: _Sums = field(default_factory=_Sums)
    store: _Sums = field(default_factory=_Sums)

    def compared(self, batch: Sequence[Expected], held: Sequence[Stamp]) -> bool:
        """Count what truth and the store have of one stretch of keys; whether it is the same."""
        derived = [(key, digest) for key, digest in batch if digest is not None]
        items = [(key, digest) for key, _, digest in held if digest is not None]
        is_equal = derived == items
        lines = _lines_of(derived)
        self.truth.add(lines)
        self.store.add(lines if is_equal else _lines_of(items))
        self.rows += len(batch)
        self.derived += len(derived)
        self.items += len(items)
        self.tombstones += len(held) - len(items)
        return is_equal

    def part(
        self, projection: str, truth: TruthSide, store: StoreSide, position: int, found: Findings
    ) -> Part:
        """The outcome."""
        at = Position.unpacked(position)
        of_truth, of_store = self.truth.digests(), self.store.digests()
        return Part(
            projection,
            store.collection.target,
            definition=truth.definition,
            epoch=at.epoch,
            order=at.order,
            rows=self.rows,
            derived=self.derived,
            items=self.items,
            tombstones=self.tombstones,
            truth_digest=digest(of_truth),
            store_digest=digest(of_store),
            buckets=tuple(zip(of_truth, of_store, strict=True)),
            **found._asdict(),
        )


async def verify(
    projection: str, truth: TruthSide, store: StoreSide, *, progress: Progress | None = None
) -> Part:
    """Compare one collection with all of truth."""
    started = perf_counter()
    await truth.caught_up()
    # Truth is read later, so it holds all that is published up to here; what is applied from now
    # on is ahead of it, and gets a second look.
    position = await truth.newest()
    tally = _Tally()
    suspects = await _compare(truth, store, tally, position, progress)
    findings = await judge(suspects, truth, store)
    part = tally.part(projection, truth, store, position, findings)
    return replace(part, duration_s=perf_counter() - started)


async def verify_keys(
    projection: str, truth: TruthSide, store: StoreSide, keys: Sequence[str]
) -> Part:
    """Compare only what is under `keys`; counts and digests are theirs."""
    started = perf_counter()
    position = await truth.newest()
    seen = await look(sorted(set(keys)), truth, store)
    tally = _Tally()
    for key, found in seen.items():
        tally.compared([(key, found.expected)], found.held)
    part = tally.part(projection, truth, store, position, await judge(seen, truth, store))
    return replace(part, duration_s=perf_counter() - started)


async def _compare(
    truth: TruthSide, store: StoreSide, tally: _Tally, newest: int, progress: Progress | None
) -> dict[str, Look]:
    """Go through both sides in key order; what is not right at first sight."""
    suspects: dict[str, Look] = {}

    def compare(batch: Sequence[Expected], held: Sequence[Stamp]) -> None:
        if tally.compared(batch, held) and max(map(_POSITION, held), default=0) <= newest:
            return
        known: dict[str, str | None] = dict.fromkeys(stamp.key for stamp in held)
        suspects.update(
            (key, it)
            for key, it in look_of(known | dict(batch), held).items()
            if not it.is_right(newest, may_lack=store.may_lack)
        )

    async with ahead(truth.all()) as batches, ahead(store.scan()) as held:
        stamps = _Stamps(held)
        async for batch in batches:
            until = await stamps.through(batch[-1][0])
            with uncollected():
                compare(batch, until)
            if progress is not None:
                progress(tally.rows)
        while rest := await stamps.rest():
            compare((), rest)
    return suspects


def _lines_of(pairs: Sequence[tuple[str, str]]) -> list[bytes]:
    """What is digested of keys and digests, for each bucket."""
    lines: list[list[str]] = [[] for _ in range(BUCKETS)]
    for key, found in pairs:
        lines[bucket_of(key)].append(f"{key}\0{found}\0")
    return ["".join(some).encode() for some in lines]


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
