"""What `verify` finds: where stores differ from derive(truth); and what `repair` made of it."""

from __future__ import annotations

from dataclasses import dataclass, field


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
class Drift:
    """How many items are missing, stale or extra over all projections; `parts` names them."""

    missing: int
    stale: int
    extra: int
    parts: tuple[Part, ...] = field(default=(), repr=False)

    @property
    def clean(self) -> bool:
        """Whether every store equals derive(truth)."""
        return not (self.missing or self.stale or self.extra)

    @classmethod
    def of(cls, parts: tuple[Part, ...]) -> Drift:
        """The sum of `parts`."""
        return cls(
            sum(len(part.missing) for part in parts),
            sum(len(part.stale) for part in parts),
            sum(len(part.extra) for part in parts),
            parts,
        )


@dataclass(frozen=True, slots=True)
class Mended:
    """What was `found`, and what was `left` of it when its keys, and only they, were looked at
    again.
    """

    found: Drift
    left: Drift
