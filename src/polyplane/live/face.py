"""What applications declare live updates with, and what followers are told."""

from polyplane.model.live import (
    AGENT,
    OPERATION,
    Batch,
    Events,
    FeedPosition,
    Rows,
    StateKind,
    States,
    Topic,
    Update,
)

__all__ = [
    "AGENT",
    "OPERATION",
    "Batch",
    "Events",
    "FeedPosition",
    "Rows",
    "StateKind",
    "States",
    "Topic",
    "Update",
]
