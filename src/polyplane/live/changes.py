"""What change messages say of the tables that somebody follows. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from polyplane.feed.protocol import told
from polyplane.flow.packing import gone_of, keys_of
from polyplane.model.message import Message

Whose = tuple[str | None, str | None]
"""(tenant, owner) of a row that was deleted."""


@dataclass(slots=True)
class Changed:
    """The changed keys of one table, each with its last order; and whose the deleted rows were."""

    keys: dict[str, int] = field(default_factory=dict)
    gone: dict[str, set[Whose]] = field(default_factory=dict)


def note_changes(
    found: dict[str, Changed], messages: Sequence[Message], tables: Container[str]
) -> None:
    """Add to `found` what `messages` say of `tables`; others are not even looked into."""
    for message in messages:
        if table_of(message) not in tables:
            continue
        table, keys = keys_of(message)
        if table not in tables:  # somebody else's message, on a subject that is not theirs
            continue
        changed = found.setdefault(table, Changed())
        for key in keys:
            changed.keys.pop(key, None)  # the latest is the last
            changed.keys[key] = message.sequence
        for key, tenant, owner in gone_of(message):
            changed.gone.setdefault(key, set()).add((tenant, owner))


def table_of(message: Message) -> str:
    """The table whose changes a message holds, as its subject says."""
    parts = message.subject.rsplit(".", 3)
    return f"{told(parts[1])}.{told(parts[2])}" if len(parts) == 4 else ""
