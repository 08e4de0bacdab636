"""What the reports about one activity add up to: a join-semilattice, so that order is no matter.

Controllers report `started`, `progress`, `completed` and `failed` events of numbered attempts.
They may come late, twice and out of order. `History` keeps, per attempt, the join of what was
reported; the join is commutative, associative and idempotent, hence any order of any events with
any repetitions ends in the same history. Everything shown of an activity is a function of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, TypeVar

T = TypeVar("T")

RETRIES_MAX: Final = 3
"""How often a failed activity is ordered again before it counts as failed."""

ATTEMPTS_MAX: Final = RETRIES_MAX + 1

Kind = Literal["started", "progress", "completed", "failed"]
Status = Literal["scheduled", "running", "retrying", "completed", "failed"]

STATUSES: Final = ("scheduled", "running", "retrying", "completed", "failed")
TERMINAL: Final = ("completed", "failed")


@dataclass(frozen=True, slots=True)
class Event:
    """One report of a controller. `at` has a zone; `attempt` is in 1..ATTEMPTS_MAX.

    `sequence` orders the progress reports of one attempt and `progress` is a fraction, 0 to 1.
    """

    kind: Kind
    attempt: int
    at: datetime
    sequence: int = 0
    progress: float = 0.0
    result: Mapping[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: when, and its result (completed) or its error (failed)."""

    at: datetime
    content: Any = None

    def _rank(self) -> tuple[datetime, str]:
        return self.at, json.dumps(self.content, sort_keys=True)

    def join(self, other: Outcome) -> Outcome:
        """The earlier one; what is equally early is ordered by its content."""
        return min(self, other, key=Outcome._rank)


@dataclass(frozen=True, slots=True)
class Attempt:
    """All that was reported about one attempt."""

    started_at: datetime | None = None
    progress: tuple[int, float] = (0, 0.0)
    completed: Outcome | None = None
    failed: Outcome | None = None

    def join(self, other: Attempt) -> Attempt:
        """The earliest start, the newest progress, and of each outcome the earliest."""
        return Attempt(
            _join(self.started_at, other.started_at, min),
            max(self.progress, other.progress),
            _join(self.completed, other.completed, Outcome.join),
            _join(self.failed, other.failed, Outcome.join),
        )


History: TypeAlias = Mapping[int, Attempt]
"""Attempt number -> what is known of it. An attempt nobody reported about is absent."""


@dataclass(frozen=True, slots=True)
class View:
    """What is shown of an activity; `attempt` is the newest one ordered or reported."""

    status: Status = "scheduled"
    attempt: int = 1
    retry_count: int = 0
    progress: float = 0.0
    result: Any = None
    error: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


def advance(history: History, event: Event) -> History:
    """`history` joined with what `event` says."""
    said = _said(event)
    known = history.get(event.attempt)
    return {**history, event.attempt: said if known is None else known.join(said)}


def newest_attempt(history: History) -> int:
    """The newest attempt that was ordered or reported: a failure orders the next, to the limit."""
    ordered = (n + 1 for n, a in history.items() if a.failed is not None and n < ATTEMPTS_MAX)
    return max(1, *history, *ordered) if history else 1


def retry(before: History, after: History) -> int | None:
    """The attempt to order now that `before` became `after`, or None.

    `newest_attempt` never falls, so each attempt is ordered at most once.
    """
    attempt = newest_attempt(after)
    wanted = attempt > newest_attempt(before) and attempt not in after
    return attempt if wanted and _completed(after) is None else None


def view(history: History) -> View:
    """What to show. A completed attempt wins for good, whatever failed before or after it."""
    newest = newest_attempt(history)
    failures = [a.failed for _, a in sorted(history.items()) if a.failed is not None]
    done = _completed(history)
    shown = done or history.get(newest, Attempt())
    # Of the newest attempt only the very last one can have failed: a failure orders the next.
    ended = shown.completed if done else shown.failed
    return View(
        status=_status(done is not None, ended is not None, newest in history, bool(failures)),
        attempt=newest,
        retry_count=min(len(failures), RETRIES_MAX),
        progress=1.0 if done else shown.progress[1],
        result=done.completed.content if done and done.completed else None,
        error=str(failures[-1].content) if failures and not done else None,
        started_at=shown.started_at,
        # A clock that went back does not make an attempt end before it started.
        completed_at=max(ended.at, shown.started_at or ended.at) if ended else None,
    )


def to_json(history: History) -> dict[str, Any]:
    """`history` as JSON values; `from_json` gives it back."""
    return {
        str(number): {
            "started_at": attempt.started_at and attempt.started_at.isoformat(),
            "progress": list(attempt.progress),
            "completed": _outcome_to_json(attempt.completed),
            "failed": _outcome_to_json(attempt.failed),
        }
        for number, attempt in sorted(history.items())
    }


def from_json(value: Mapping[str, Any]) -> History:
    """The history that `to_json` wrote."""
    return {
        int(number): Attempt(
            started_at=_time(attempt["started_at"]),
            progress=(int(attempt["progress"][0]), float(attempt["progress"][1])),
            completed=_outcome_from_json(attempt["completed"]),
            failed=_outcome_from_json(attempt["failed"]),
        )
        for number, attempt in value.items()
    }


def _status(completed: bool, ended: bool, reported: bool, failed_before: bool) -> Status:
    if completed:
        return "completed"
    if ended:
        return "failed"
    if reported:
        return "running"
    return "retrying" if failed_before else "scheduled"


def _completed(history: History) -> Attempt | None:
    """The last attempt that completed."""
    done = [a for _, a in sorted(history.items()) if a.completed is not None]
    return done[-1] if done else None


def _join(mine: T | None, theirs: T | None, join: Callable[[T, T], T]) -> T | None:
    if mine is None or theirs is None:
        return mine if theirs is None else theirs
    return join(mine, theirs)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _outcome_to_json(outcome: Outcome | None) -> Any:
    return outcome and {"at": outcome.at.isoformat(), "content": outcome.content}


def _outcome_from_json(value: Mapping[str, Any] | None) -> Outcome | None:
    return Outcome(datetime.fromisoformat(value["at"]), value["content"]) if value else None


def _said(event: Event) -> Attempt:
    match event.kind:
        case "started":
            return Attempt(started_at=event.at)
        case "progress":
            return Attempt(progress=(event.sequence, event.progress))
        case "completed":
            return Attempt(completed=Outcome(event.at, event.result))
        case "failed":
            return Attempt(failed=Outcome(event.at, event.error or "no reason given"))
