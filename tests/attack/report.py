"""What an attack did, and what it found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

LEAKS_SHOWN: Final = 20


@dataclass(slots=True)
class Report:
    """Probes by what they were aimed at, and every leak in words."""

    probes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)

    def probed(self, at: str, leak: str = "", status: object = "") -> None:
        """Count one probe, and what it got hold of, if anything."""
        self.probes[at] += 1
        if status:
            self.statuses[str(status)] += 1
        if leak:
            self.leaks.append(f"{at}: {leak}")

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "probes": sum(self.probes.values()),
            "leaks": len(self.leaks),
            "leaked": self.leaks[:LEAKS_SHOWN],
            "by_target": dict(sorted(self.probes.items())),
            "by_status": dict(sorted(self.statuses.items())),
        }
