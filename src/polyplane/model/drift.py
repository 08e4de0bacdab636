"""What `verify` finds: where stores differ from derive(truth); and what `repair` made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Far:
    """How far a proof is with one thing: `done` of about so many `unit` (None: nobody knows)."""

    name: str
    done: int
    about: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class Part:
    """One projection compared with truth.

    `rows` of truth were read, from which `derived` items follow by `definition`; the store holds
    `items` and `tombstones`. What was read includes all changes up to `order` of `epoch`.
    `buckets` are the digests (truth's, the store's) of all keys and digests in key order, for each
    bucket of keys; `truth_digest` and `store_digest` are those of all buckets.

    Each key that drifts is missing, stale (another content, or a stamp ahead of every change) or
    extra (truth derives nothing, or it is there twice). `stuck` names those of them that no
    ordinary change could mend: ahead of every change, or there twice. `parked` keys wait in the
    dead letters and `moving` ones were written at every look: neither is drift, nor proven.
    """

    projection: str
    collection: str
    definition: str
    epoch: int
    order: int
    rows: int
    derived: int
    items: int
    tombstones: int
    truth_digest: str
    store_digest: str
    buckets: tuple[tuple[str, str], ...]
    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    parked: tuple[str, ...] = ()
    moving: tuple[str, ...] = ()
    deep: int = 0
    """Items of which text, tags and vector, or value, were compared, and not only the digest."""
    duration_s: float = 0.0

    @property
    def drifting(self) -> list[str]:
        """Every key that drifts."""
        return [*self.missing, *self.stale, *self.extra]


@dataclass(frozen=True, slots=True)
class Partition:
    """What a stream's store holds of one stretch of time, as its engine counted and digested it.

    `points` count, of `rows` stored: a copy that was not merged yet is a row and no point. `digest`
    is that of all points, whatever their order and their copies: the same points, the same digest.
    """

    name: str
    rows: int
    points: int
    digest: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A batch of points of which some are lost, or there several times.

    `batch` are the first eight bytes of its points' `event_id`, in hexadecimal.
    """

    batch: str
    lost: int
    doubled: int


@dataclass(frozen=True, slots=True)
class StreamPart:
    """One stream: what its store holds, and whether that is what is known to have been stored.

    `definition` is a digest of the declaration. All up to sequence `through` of the feed was noted
    as stored. The journal still knows `known_batches` of `known_points` points that must be there;
    `expired` are batches that retention may have begun to take, of which nothing can be said.
    In all so many points are `lost`, or `doubled` (there once more than they should be); `broken`
    names the batches, 1,000 at most.
    """

    stream: str
    definition: str
    epoch: int
    through: int
    partitions: tuple[Partition, ...]
    known_batches: int
    known_points: int
    expired: int
    lost: int = 0
    doubled: int = 0
    broken: tuple[Broken, ...] = ()
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Orphan:
    """A version of an object that no row knows, or a mark that hides one."""

    key: str
    version: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class BlobPart:
    """Rows of blobs compared with the objects of one bucket.

    There are `rows` of committed blobs and `objects` that they refer to, of so many `bytes`;
    `truth_digest` and `store_digest` are those of all keys, versions, sizes and ETags in key order.
    `lost` are ids of blobs whose object is gone, `damaged` of those whose object has another size,
    ETag or, looked at deep, content. `orphaned` versions belong to no row; `orphans` names them,
    1,000 at most. `whole` blobs were marked as lost or damaged, and are not.

    Not drift: `waiting` versions are of blobs that are pending or deleted, or have another one's
    content, until they are collected; `expired` blobs are pending beyond their time; `uploads` in
    parts belong to no pending blob.
    """

    bucket: str
    rows: int
    objects: int
    bytes: int
    truth_digest: str
    store_digest: str
    lost: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    orphaned: int = 0
    orphans: tuple[Orphan, ...] = ()
    whole: tuple[str, ...] = ()
    waiting: int = 0
    expired: int = 0
    uploads: int = 0
    deep: int = 0
    """Objects whose content was read and digested."""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RequestPart:
    """The request cache: what follows from loads, of which truth knows nothing.

    Of all `entries` so many `count`, and would be given to readers; the others are invalidated, or
    nobody vouches for them, and some of those are `damaged`. All changes up to `order` of `epoch`
    had been told to the cache. `stale` names entries that count, but of which a row or table that
    they depend on changed after their position, as the feed has it: 1,000 at most. Of those that
    are `unproven` the feed does not go back far enough.
    """

    entries: int
    count: int
    damaged: int
    epoch: int
    order: int
    stale: tuple[str, ...] = ()
    unproven: int = 0
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Drift:
    """How many items are missing, stale or extra over all projections; `parts` names them.

    Points of `streams` that are lost count as missing, those that are there twice as extra. So do
    blobs that are lost; those that are damaged count as stale, and objects of nobody as extra.
    Entries of the request cache are stale or nothing.
    """

    missing: int
    stale: int
    extra: int
    parts: tuple[Part, ...] = field(default=(), repr=False)
    streams: tuple[StreamPart, ...] = field(default=(), repr=False)
    blobs: tuple[BlobPart, ...] = field(default=(), repr=False)
    requests: tuple[RequestPart, ...] = field(default=(), repr=False)

    @property
    def clean(self) -> bool:
        """Whether every store equals derive(truth)."""
        return not (self.missing or self.stale or self.extra)

    @classmethod
    def of(
        cls,
        parts: tuple[Part, ...],
        streams: tuple[StreamPart, ...] = (),
        blobs: tuple[BlobPart, ...] = (),
        requests: tuple[RequestPart, ...] = (),
    ) -> Drift:
        """The sum of them all."""
        return cls(
            sum(len(part.missing) for part in parts)
            + sum(it.lost for it in streams)
            + sum(len(it.lost) for it in blobs),
            sum(len(part.stale) for part in parts)
            + sum(len(it.damaged) for it in blobs)
            + sum(len(it.stale) for it in requests),
            sum(len(part.extra) for part in parts)
            + sum(it.doubled for it in streams)
            + sum(it.orphaned for it in blobs),
            parts,
            streams,
            blobs,
            requests,
        )


@dataclass(frozen=True, slots=True)
class Mended:
    """What was `found`, and what was `left` of it when its keys, and only they, were looked at
    again.
    """

    found: Drift
    left: Drift
