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
from operator import attrgetter
from time import perf_counter
from typing import Final, Protocol, Self

from polyplane.garbage import uncollected
from polyplane.model.collection import Collection
from polyplane.model.digest import digest
from polyplane.model.drift import Part
from polyplane.model.items import Held, Stamp
from polyplane.model.position import Position
from polyplane.reconcile.ahead import ahead
from polyplane.reconcile.bookmark import Mark, State, looks_of, looks_state
from polyplane.reconcile.looking import Findings, Look, TruthOfKeys, judge, look, look_of
from polyplane.reconcile.tally import Expected, Tally
from polyplane.stores.protocol import ItemStore

_POSITION: Final = attrgetter("position")

Progress = Callable[[int], None]
"""Called with the number of rows of truth compared so far."""


class TruthSide(TruthOfKeys, Protocol):
    """All that truth says about one projection."""

    @property
    def definition(self) -> str:
        """What digests depend on besides the row: kind, version, embedder."""
        ...

    def all(self, after: str | None = None) -> AsyncGenerator[list[Expected], None]:
        """Every row's (key, digest), in key order, from one snapshot; or those behind a key."""
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

    async def scan(self, after: str | None = None) -> AsyncGenerator[list[Stamp], None]:
        """Every stamp, in key order; or those behind a key."""
        async for stamps in self.store.scan(self.collection, after=after):
            yield stamps

    async def contents(self, keys: Sequence[str]) -> list[Held]:
        """What is really held under `keys`, content included."""
        return await self.store.contents(self.collection, keys)

    async def stamps(self, keys: Sequence[str]) -> list[Stamp]:
        """See `StoreOfKeys`."""
        return await self.store.stamps(self.collection, keys)


@dataclass(slots=True)
class _Compared:
    """How far a comparison is: what comes behind the key `after` is still to be compared.

    `position` is the one that all of it includes.
    """

    position: int
    after: str | None = None
    tally: Tally = field(default_factory=Tally)
    suspects: dict[str, Look] = field(default_factory=dict)
    spent_s: float = 0.0

    def state(self) -> State:
        """As plain values, as JSON has them."""
        return {
            "position": self.position,
            "after": self.after,
            "tally": self.tally.state(),
            "suspects": looks_state(self.suspects),
            "spent_s": self.spent_s,
        }

    @classmethod
    def of_state(cls, state: State) -> Self:
        """What `state` was taken of."""
        tally, suspects = Tally.of_state(state["tally"]), looks_of(state["suspects"])
        return cls(**state | {"tally": tally, "suspects": suspects})


async def verify(
    projection: str,
    truth: TruthSide,
    store: StoreSide,
    *,
    progress: Progress | None = None,
    mark: Mark | None = None,
) -> Part:
    """Compare one collection with all of truth, from where `mark` is."""
    started = perf_counter()
    await truth.caught_up()
    # Truth is read later, so it holds all that is published up to here; what is applied from now
    # on is ahead of it, and gets a second look.
    newest = await truth.newest()
    noted = mark and mark.noted("compared")
    done = _Compared.of_state(noted) if noted else _Compared(newest)
    before_s = done.spent_s

    def tell() -> None:
        done.spent_s = before_s + perf_counter() - started
        if progress is not None:
            progress(done.tally.rows)
        if mark is not None:
            mark.note("compared", done.state)

    await _compare(truth, store, done, newest, tell)
    findings = await judge(done.suspects, truth, store)
    part = _part(projection, truth, store, done.tally, done.position, findings)
    return replace(part, duration_s=before_s + perf_counter() - started)


async def verify_keys(
    projection: str, truth: TruthSide, store: StoreSide, keys: Sequence[str]
) -> Part:
    """Compare only what is under `keys`; counts and digests are theirs."""
    started = perf_counter()
    position = await truth.newest()
    seen = await look(sorted(set(keys)), truth, store)
    tally = Tally()
    for key, found in seen.items():
        tally.compared([(key, found.expected)], found.held)
    part = _part(projection, truth, store, tally, position, await judge(seen, truth, store))
    return replace(part, duration_s=perf_counter() - started)


async def _compare(
    truth: TruthSide, store: StoreSide, done: _Compared, newest: int, tell: Callable[[], None]
) -> None:
    """Go on through both sides in key order, and note what is not right at first sight."""

    def compare(batch: Sequence[Expected], held: Sequence[Stamp], after: str) -> None:
        done.after = after
        if done.tally.compared(batch, held) and max(map(_POSITION, held), default=0) <= newest:
            return
        known: dict[str, str | None] = dict.fromkeys(stamp.key for stamp in held)
        done.suspects.update(
            (key, it)
            for key, it in look_of(known | dict(batch), held).items()
            if not it.is_right(newest, may_lack=store.may_lack)
        )

    async with ahead(truth.all(done.after)) as batches, ahead(store.scan(done.after)) as held:
        stamps = _Stamps(held)
        async for batch in batches:
            until = await stamps.through(batch[-1][0])
            with uncollected():
                compare(batch, until, batch[-1][0])
            tell()
        while rest := await stamps.rest():
            compare((), rest, rest[-1].key)
            tell()


def _part(
    projection: str,
    truth: TruthSide,
    store: StoreSide,
    tally: Tally,
    position: int,
    found: Findings,
) -> Part:
    """The outcome."""
    at = Position.unpacked(position)
    of_truth, of_store = tally.truth.digests(), tally.store.digests()
    return Part(
        projection,
        store.collection.target,
        definition=truth.definition,
        epoch=at.epoch,
        order=at.order,
        rows=tally.rows,
        derived=tally.derived,
        items=tally.items,
        tombstones=tally.tombstones,
        truth_digest=digest(of_truth),
        store_digest=digest(of_store),
        buckets=tuple(zip(of_truth, of_store, strict=True)),
        **found._asdict(),
    )


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
