"""What operations and their steps may be, and from what they may become what. Pure.

The database holds the same: rules on each row (models) and on each change (the first migration).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

OperationStatus = Literal["queued", "running", "cancelling", "completed", "failed", "cancelled"]
StepStatus = Literal["pending", "running", "retrying", "completed", "failed", "undone", "skipped"]
DiscussionStatus = Literal["active", "paused", "closed", "archived"]

Moves = Mapping[str, tuple[str, ...]]

OPERATION_MOVES: Final[Moves] = {
    "queued": ("running", "cancelled"),
    "running": ("completed", "failed", "cancelling"),
    "cancelling": ("cancelled",),
    "completed": (),
    "failed": (),
    "cancelled": (),
}
STEP_MOVES: Final[Moves] = {
    "pending": ("running", "skipped"),
    "running": ("retrying", "completed", "failed"),
    "retrying": ("running", "completed", "failed"),
    "completed": ("undone",),
    "failed": (),
    "undone": (),
    "skipped": (),
}
DISCUSSION_MOVES: Final[Moves] = {
    "active": ("paused", "closed", "archived"),
    "paused": ("active", "closed", "archived"),
    "closed": ("active", "archived"),
    "archived": (),
}


def may_become(moves: Moves, status: str, wanted: str) -> bool:
    """Whether what is `status` may become `wanted`; to stay what it is it always may."""
    return wanted == status or wanted in moves[status]


def progress_of(steps_done: int, steps_total: int) -> float:
    """The share of the steps that are done, from 0 to 1."""
    return round(steps_done / steps_total, 4)
