"""What tasks and tokens may be, and from what they may become what. Pure.

The database holds the same: rules on each row (models) and on each change (the second migration).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

TaskStatus = Literal["todo", "doing", "blocked", "done", "cancelled"]
TokenState = Literal["active", "refreshing", "needs_consent"]
Channel = Literal["email", "chat", "notification"]
AccountKind = Literal["asset", "liability", "equity", "income", "expense"]
ValueKind = Literal["text", "integer", "decimal", "boolean", "object", "list"]

Moves = Mapping[str, tuple[str, ...]]

TASK_MOVES: Final[Moves] = {
    "todo": ("doing", "blocked", "done", "cancelled"),
    "doing": ("todo", "blocked", "done", "cancelled"),
    "blocked": ("todo", "doing", "cancelled"),
    "done": ("todo",),
    "cancelled": ("todo",),
}
TASK_ENDED: Final = ("done", "cancelled")
TOKEN_MOVES: Final[Moves] = {
    "active": ("refreshing", "needs_consent"),
    "refreshing": ("active", "needs_consent"),
    "needs_consent": ("active",),
}
CHANNELS: Final = ("email", "chat", "notification")
ACCOUNT_KINDS: Final = ("asset", "liability", "equity", "income", "expense")
VALUE_KINDS: Final = ("text", "integer", "decimal", "boolean", "object", "list")


def may_become(moves: Moves, state: str, wanted: str) -> bool:
    """Whether what is `state` may become `wanted`; to stay what it is it always may."""
    return wanted == state or wanted in moves[state]
