"""Where a relay goes on, from what the journal and the ends of both streams say. Pure."""

from __future__ import annotations

from typing import NamedTuple

from polyplane.feed.protocol import Bounds
from polyplane.flow.packing import Place
from polyplane.model.message import Message
from polyplane.truth.journal import Relayed


class End(NamedTuple):
    """The end of a stream: its bounds, and its last message, if that is still there."""

    bounds: Bounds
    message: Message | None

    def has_lost(self, noted: int, beyond: int = 0) -> bool:
        """Whether messages are gone that came after the sequence `noted`.

        `beyond`: so many that came after it are known from elsewhere.
        """
        is_gone = self.message is None and self.bounds.last > 0
        return is_gone and self.bounds.last not in (noted, noted + beyond)


def why_over(noted: Relayed, changes: End, events: End) -> str:
    """Why the streams cannot be gone on with, or nothing.

    What was published and is not noted can be known only from the streams. Were it published again
    when they have lost it, readers would see it twice in one epoch.
    """
    for name, end, known in (
        ("changes", changes, noted.changes_end),
        ("events", events, noted.events_end),
    ):
        if end.bounds.last < known:
            return f"the {name} stream ends at {end.bounds.last}, but {known} was published"
    if changes.has_lost(noted.changes_end):
        return "what was published last is gone from the changes stream"
    return ""


def follows(begun: Place, at: Place | None, noted: Relayed) -> bool:
    """Whether the page of `begun`, the last with events, comes after all that is in the changes.

    `at` is where the changes end; when their tail is gone, they ended as `noted`. Windows without
    rows leave no trace, so the next page need not begin just there.
    """
    if at and not at.last:
        return (begun.prev, begun.cur, begun.after) == (at.prev, at.cur, at.upto)
    if not at and noted.cur:
        return (begun.prev, begun.cur, begun.after) == (noted.snapshot, noted.cur, noted.upto)
    return _age(begun.cur) > _age(at.cur if at else noted.snapshot)


def _age(snapshot: str) -> tuple[int, int, int]:
    """What a later snapshot has more of: xmax, xmin, and fewer transactions in progress."""
    xmin, xmax, running = snapshot.split(":")
    return int(xmax), int(xmin), -len(running.split(",")) if running else 0
