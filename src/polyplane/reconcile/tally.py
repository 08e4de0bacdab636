"""What was counted and digested of both sides so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from polyplane.model.items import Stamp
from polyplane.reconcile.sums import Sums, lines_of

Expected = tuple[str, str | None]
"""(key, digest) by truth; no digest: nothing follows from the row."""


@dataclass(slots=True)
class Tally:
    """Counts, and the digests of each bucket by truth and by the store."""

    rows: int = 0
    derived: int = 0
    items: int = 0
    tombstones: int = 0
    truth: Sums = field(default_factory=Sums)
    other: Sums | None = None
    """Of the store, since it first was another than truth: until then they are the same."""

    @property
    def store(self) -> Sums:
        """Of the store."""
        return self.truth if self.other is None else self.other

    def compared(self, batch: Sequence[Expected], held: Sequence[Stamp]) -> bool:
        """Count what truth and the store have of one stretch of keys; whether it is the same."""
        derived = [(key, digest) for key, digest in batch if digest is not None]
        items = [(key, digest) for key, _, digest in held if digest is not None]
        is_equal = derived == items
        lines = lines_of(derived)
        if not is_equal and self.other is None:
            self.other = self.truth.copy()
        self.truth.add(lines)
        if self.other is not None:
            self.other.add(lines if is_equal else lines_of(items))
        self.rows += len(batch)
        self.derived += len(derived)
        self.items += len(items)
        self.tombstones += len(held) - len(items)
        return is_equal

    def state(self) -> dict[str, Any]:
        """As plain values, as JSON has them."""
        return {
            "rows": self.rows,
            "derived": self.derived,
            "items": self.items,
            "tombstones": self.tombstones,
            "truth": self.truth.state(),
            "other": self.other and self.other.state(),
        }

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Self:
        """What `state` was taken of."""
        other = state["other"] and Sums.of_state(state["other"])
        return cls(**state | {"truth": Sums.of_state(state["truth"]), "other": other})
