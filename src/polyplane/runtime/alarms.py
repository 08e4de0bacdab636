"""Alarms: a store gave what the caller's scope does not see. It should never happen."""

from __future__ import annotations

from collections import Counter

import structlog

from polyplane.errors import ScopeViolated

_log = structlog.get_logger(__name__)


class Alarms:
    """What was violated since this plane was opened, by the collection or stream that did."""

    def __init__(self) -> None:
        self.violations: Counter[str] = Counter()

    def violated(self, place: str, what: str) -> ScopeViolated:
        """Count and log one violation; the error to raise in the place of the answer.

        It names neither the item nor its tenant: the error goes to the caller.
        """
        self.violations[place] += 1
        _log.critical("scope.violated", place=place, what=what)
        return ScopeViolated(
            f"{place} gave what does not belong to you; nothing of it is shown.",
            fix="Tell the operator: it is in the log, and in the health of the plane.",
        )
