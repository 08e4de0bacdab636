"""What `verify` finds: where stores differ from derive(truth)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Part:
    """One projection compared with truth.

    `rows` of truth were read, from which `derived` items follow; the store holds `items` and
    `tombstones`. `truth_digest` and `store_digest` cover all keys and digests in key order.
    """

    projection: str
    collection: str
    rows: int
    derived: int
    items: int
    tombstones: int
    truth_digest: str
    store_digest: str
    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    duration_s: float = 0.0


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
