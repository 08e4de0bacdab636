"""A stream proven: what its store holds, and that what was noted as stored is there, once.

A stream is its own truth, so there is nothing to derive it from. But each point has the number of
its batch and its index in it, and ingest notes how many points each batch has before it stores
them. So points that are lost, or there twice, show; values that somebody has altered in place show
only as another digest than that of an earlier report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Final, Protocol, TypeVar

from polyplane.model.digest import digest
from polyplane.model.drift import Broken, Partition, StreamPart
from polyplane.model.stream import Stream
from polyplane.reconcile.looking import ROUNDS_MAX
from polyplane.stores.protocol import HeldBatch, SeriesStore
from polyplane.truth.journal import Batch

T = TypeVar("T")

BATCHES: Final = 1_000
"""Batches per look, and named in a report."""
AGAIN_S: Final = 0.5
"""Between two looks at what is not right: points of one batch do not all come at once."""

Told = Callable[[int, int], None]
"""Called with the number of partitions that were looked at, and how many there are."""


class TruthOfStream(Protocol):
    """What is known of the points that a stream was given."""

    @property
    def epoch(self) -> int:
        """The present one."""
        ...

    async def through(self) -> int:
        """The last sequence of the feed up to which all is noted as stored."""
        ...

    async def known(self) -> list[tuple[Batch, bool]]:
        """The batches that the journal still knows, and whether each is noted as stored."""
        ...


async def prove_stream(
    stream: type[Stream], truth: TruthOfStream, store: SeriesStore, *, told: Told | None = None
) -> StreamPart:
    """Count and digest what is held, and look for what is lost or there twice."""
    started = perf_counter()
    # Noted first, read then: what is noted as stored must be there.
    through, known = await truth.through(), await truth.known()
    due, expired = split(known, _kept_since(stream))
    partitions: list[Partition] = []
    names = await store.partitions(stream)
    for name in names:
        partitions.append(await store.partition(stream, name))
        if told is not None:
            told(len(partitions), len(names))
    suspects = set(await store.uneven(stream))
    for some in _pieces(due):
        span = min(it.oldest for it in some), max(it.newest for it in some)
        held = await _held(stream, store, [it.number for it in some], *span)
        suspects |= {it.number for it in some if broken_of(it, held.get(it.number)) is not None}
    broken = await _certain(stream, truth, store, suspects, {it.number: it for it in due})
    return StreamPart(
        stream.name,
        definition_of(stream),
        epoch=truth.epoch,
        through=through,
        partitions=tuple(partitions),
        known_batches=len(due),
        known_points=sum(it.points for it in due),
        expired=expired,
        lost=sum(it.lost for it in broken),
        doubled=sum(it.doubled for it in broken),
        broken=tuple(broken[:BATCHES]),
        duration_s=perf_counter() - started,
    )


def definition_of(stream: type[Stream]) -> str:
    """A digest of what digests of partitions depend on besides the points."""
    columns = [[it.name, it.type.__name__, it.optional] for it in stream.columns()]
    return digest([stream.name, list(stream.order_by), columns])


def split(known: Iterable[tuple[Batch, bool]], since: int | None) -> tuple[list[Batch], int]:
    """The batches that must be there; and how many retention may have begun to take away, which
    have points before `since` (microseconds since 1970).
    """
    stored = [batch for batch, is_stored in known if is_stored]
    due = [batch for batch in stored if since is None or batch.oldest >= since]
    return due, len(stored) - len(due)


def broken_of(
    due: Batch | None, held: HeldBatch | None, *, may_lack: bool = False
) -> Broken | None:
    """What is wrong with a batch: one that must be there (`due`), or that nobody knows.

    Of one that nobody knows the points are there up to some last one; or any of them, if it
    `may_lack` some.
    """
    points, different, last = held[1:] if held is not None else (0, 0, -1)
    whole = max(due.points, last + 1) if due is not None else different if may_lack else last + 1
    number = due.number if due is not None else held.number if held is not None else 0
    found = Broken(_hex(number), lost=max(0, whole - different), doubled=points - different)
    return found if found.lost or found.doubled else None


async def _certain(
    stream: type[Stream],
    truth: TruthOfStream,
    store: SeriesStore,
    suspects: set[int],
    due: Mapping[int, Batch],
) -> list[Broken]:
    """Which of `suspects` look the same twice, while nobody stores them."""
    certain: dict[int, Broken] = {}
    before: dict[int, Broken] = {}
    may_lack = stream.retention_days is not None
    for turn in range(ROUNDS_MAX):
        if not suspects:
            break
        if turn:
            await asyncio.sleep(AGAIN_S)
        coming = {batch.number for batch, is_stored in await truth.known() if not is_stored}
        wanted = sorted(suspects - coming)
        held: dict[int, HeldBatch] = {}
        for some in _pieces(wanted):
            held |= await _held(stream, store, some)
        seen = {
            number: found
            for number in wanted
            if (found := broken_of(due.get(number), held.get(number), may_lack=may_lack))
        }
        certain |= {number: found for number, found in seen.items() if before.get(number) == found}
        suspects = (seen.keys() | (suspects & coming)) - certain.keys()
        before = seen
    return [certain[number] for number in sorted(certain)]


async def _held(
    stream: type[Stream],
    store: SeriesStore,
    numbers: Collection[int],
    first: int = 0,
    last: int = 0,
) -> dict[int, HeldBatch]:
    found = await store.batches(stream, list(numbers), first, last)
    return {it.number: it for it in found}


def _pieces(them: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(them), BATCHES):
        yield them[start : start + BATCHES]


def _kept_since(stream: type[Stream]) -> int | None:
    """Points before it may be gone, in microseconds since 1970; None: all are kept."""
    if stream.retention_days is None:
        return None
    since = datetime.now(UTC) - timedelta(days=stream.retention_days)
    return int(since.timestamp()) * 1_000_000


def _hex(number: int) -> str:
    return (number % 2**64).to_bytes(8, "little").hex()
