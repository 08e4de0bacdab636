"""What every store can do, and what each kind adds.

The verbs are the same for every kind; a kind adds only its reading verbs. One module per engine
implements one of these protocols and is found by the scheme of its URL (`catalog`).

A reading verb takes the scope of whoever reads, cannot be called without one, and gives nothing
that the scope does not see. What it gives says whose it is, so that its caller can check it again.
`scan`, `stamps`, `contents` and the verbs of proofs are the plane's own and see everything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from polyplane.model.channel import Transport
from polyplane.model.collection import Collection
from polyplane.model.drift import Partition
from polyplane.model.items import Entry, Held, Hit, Item, Stamp, Where
from polyplane.model.scope import Scope
from polyplane.model.stream import Stream
from polyplane.stores.request_protocol import RequestStore
from polyplane.stores.states import StateStore
from polyplane.stores.visitors import RateLimiter, SessionStore, WordStore


class Store(Protocol):
    """A place for items. All calls are bounded in time and raise `StoreDown` when it is up."""

    multi_process: bool
    """Whether several processes may open the store at once."""

    async def ping(self) -> None:
        """Return when the store answers; `StoreDown` when it does not."""
        ...

    async def barrier(self) -> None:
        """Return when all that was applied before this call survives a power cut."""
        ...

    async def inspect(self) -> list[str]:
        """Look whether the files, where they are ours, are what was written; what is not, in words.

        Called once, before anybody reads, by the one process that moves data. What is derived and
        damaged is taken away, to be filled again; what is owned is not read any more.
        """
        ...

    async def close(self) -> None:
        """Let go of files and connections. Safe to call twice."""
        ...


class ItemStore(Store, Protocol):
    """A derived store: holds the items of collections, gated by position."""

    durable: bool
    """False when the engine can give no barrier or may drop items by design (a cache)."""

    async def prepare(self, collection: Collection) -> None:
        """Create the collection and its indexes when they are not there. Idempotent."""
        ...

    async def apply(
        self, collection: Collection, puts: Sequence[Item], drops: Sequence[str], position: int
    ) -> None:
        """Put and drop items, each only if the store holds nothing as new under its key.

        An item is refused, silently, when the position it has in the store is >= `position`.
        A drop leaves a tombstone (key, position, no content). Keys are distinct over `puts` and
        `drops`. Applying the same batch again changes nothing.
        """
        ...

    def scan(
        self, collection: Collection, *, after: str | None = None, batch_size: int = 10_000
    ) -> AsyncIterator[list[Stamp]]:
        """Every stamp the store really holds, tombstones included, in key order (code points).

        With `after` only those behind that key, which need not be there.

        What somebody has put there by hand, and no key belongs to, has a key of the adapter's
        making that truth cannot hold (see `can_be_told`); `stamps` and `bury` know it by that.
        """
        ...

    async def stamps(self, collection: Collection, keys: Sequence[str]) -> list[Stamp]:
        """What the store really holds under `keys`, tombstones too; more than one when it errs."""
        ...

    async def contents(self, collection: Collection, keys: Sequence[str]) -> list[Held]:
        """As `stamps`, with what is really held: a `Vector`, an `Entry`, a `Node` or an
        `Edge`; None in a tombstone.

        A vector may have been scaled to unit length; tags without a value are left out.
        """
        ...

    async def bury(self, collection: Collection, keys: Sequence[str], position: int) -> None:
        """Put one tombstone at `position` in the place of all that is held under each key.

        The only verb that no gate stops: it takes away what no newer change could, an item whose
        position is ahead of every change, or a second one under its key. Whoever calls it must
        have the keys applied again afterwards, by a change newer than `position`. Not atomic: a
        reader may see nothing for a moment, and after a crash what was buried may be gone.
        """
        ...

    async def maintain(self, collection: Collection, *, full: bool = False) -> None:
        """Compact and refresh indexes when it pays (`full`: whatever it costs)."""
        ...

    async def forget(self, collection: Collection) -> None:
        """Delete the collection with all it holds, tombstones included. Idempotent."""
        ...


class VectorStore(ItemStore, Protocol):
    """Items are `Vector`s; similarity is the cosine."""

    async def search(
        self,
        collection: Collection,
        scope: Scope,
        embedding: Sequence[float],
        *,
        limit: int = 10,
        where: Where | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """The nearest items that satisfy `where`, best first; tombstones are never shown.

        An index may miss some of them, except with `exact`. What is not in it yet is found, too.
        """
        ...

    async def match(
        self,
        collection: Collection,
        scope: Scope,
        question: str,
        *,
        limit: int = 10,
        where: Where | None = None,
    ) -> list[Hit]:
        """The items with any word of `question` that satisfy `where`, best first (BM25).

        Words are compared as the collection's language has it (`model.terms`); `question` is not
        a language of its own. What was applied before is found. Refused for a collection without
        full text.
        """
        ...

    async def get(self, collection: Collection, scope: Scope, keys: Sequence[str]) -> list[Hit]:
        """The items under `keys` that exist (score 1.0), in the order of `keys`."""
        ...


class CacheStore(ItemStore, Protocol):
    """Items are `Entry`s. Everything in it may vanish; nothing in it may be stale.

    The tenant of an entry is part of its key.
    """

    @property
    def sessions(self) -> SessionStore:
        """Sessions in this cache."""
        ...

    @property
    def limits(self) -> RateLimiter:
        """Rate limits in this cache."""
        ...

    @property
    def words(self) -> WordStore:
        """What was said a moment ago, in this cache."""
        ...

    @property
    def states(self) -> StateStore:
        """Short-lived states in this cache."""
        ...

    @property
    def channels(self) -> Transport:
        """Messages to who listens at that moment, through this cache."""
        ...

    @property
    def requests(self) -> RequestStore:
        """The entries of the request cache."""
        ...

    async def get(self, collection: Collection, scope: Scope, key: str) -> Entry | None:
        """The entry under `key`; None when there is none, or it is not as it was put."""
        ...

    async def offer(self, collection: Collection, puts: Sequence[Item], position: int) -> None:
        """As `apply`, by a reader that has read truth: it leaves no mark."""
        ...

    async def marks(self, collection: Collection) -> dict[int, int]:
        """Bucket of keys -> the newest position that was applied in it, as the store remembers.

        Older than what was applied: the cache has lost its tail, and may hold what is stale.
        """
        ...


class HeldBatch(NamedTuple):
    """What is held of a batch: `points` that count, of which so many are different by `event_id`,
    and the index of the last one within the batch.
    """

    number: int
    points: int
    different: int
    last: int


class Count(NamedTuple):
    """How many points were counted, and whose they are: at most two `tenants`, as they come."""

    points: int
    tenants: tuple[str | None, ...] = ()


class SeriesStore(Store, Protocol):
    """Owned time series."""

    async def prepare(self, stream: type[Stream]) -> None:
        """Create the stream's table when it is not there. Idempotent."""
        ...

    async def append(self, stream: type[Stream], points: pa.Table, *, token: str) -> None:
        """Insert `points` once: a second call with the same `token` inserts nothing.

        `points` has the stream's columns (`arrow_schema(stream)`) and `event_id` (16 bytes).
        """
        ...

    async def bulk(self, stream: type[Stream], points: pa.Table) -> int:
        """The direct path for large loads: insert `points` as they are; the number inserted."""
        ...

    async def query(self, scope: Scope, sql: str, parameters: dict[str, Any]) -> pa.Table:
        """Run one bounded read-only query with bound parameters.

        Forbidden for a scope with limits: nobody can say what a free query reads.
        """
        ...

    async def window(
        self,
        stream: type[Stream],
        scope: Scope,
        *,
        value: str,
        bucket_s: int,
        where: Where,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int = 10_000,
    ) -> pa.Table:
        """Per time bucket: `bucket` (UTC), `avg`, `min`, `max`, `count` of column `value`.

        Of a stream with a tenant also `tenant_min` and `tenant_max` of the bucket's points.
        """
        ...

    async def latest(
        self, stream: type[Stream], scope: Scope, *, by: str, where: Where, limit: int = 1_000
    ) -> pa.Table:
        """The newest point for each value of column `by`."""
        ...

    async def count(self, stream: type[Stream], scope: Scope, where: Where | None = None) -> Count:
        """How many points there are, and whose."""
        ...

    async def partitions(self, stream: type[Stream]) -> list[str]:
        """The names of the stretches of time that are held apart, in order."""
        ...

    async def partition(self, stream: type[Stream], name: str) -> Partition:
        """What one of them holds, counted and digested by the engine."""
        ...

    async def batches(
        self, stream: type[Stream], numbers: Sequence[int], first: int = 0, last: int = 0
    ) -> list[HeldBatch]:
        """What is held of these batches, at most 1,000, of those of which something is.

        A batch's number is that of the first eight bytes of its points' `event_id`, little-endian
        and signed. With `last`: only what lies between these times, in microseconds since 1970.
        """
        ...

    async def uneven(self, stream: type[Stream]) -> list[int]:
        """The numbers of batches, at most 1,000, whose points are not there each once from the
        first to some last one.
        """
        ...


@dataclass(slots=True)
class Spent:
    """What an embedder was asked for since it was opened. It only grows."""

    requests: int = 0
    """That were sent, also those that failed."""
    failed: int = 0
    """Of these, those that gave nothing."""
    texts: int = 0
    tokens: int = 0
    """As the endpoint counts them; else about as many."""


class Embedder(Protocol):
    """Text -> vectors. Deterministic for a given `identity`."""

    identity: str
    """Model, version and dimensions; part of every digest, so a new model is drift."""
    dimensions: int
    costs: bool
    """Whether a text costs money, or a request: its vector is kept, and what it took is noted."""
    spent: Spent

    async def embed(self, texts: Sequence[str]) -> Any:
        """Unit vectors, float32 array of shape (len(texts), dimensions)."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
