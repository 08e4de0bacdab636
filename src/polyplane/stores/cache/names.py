"""How the keys of the request cache are named, behind the namespace."""

from __future__ import annotations

from typing import Final

NOBODY: Final = "%-"
"""The place of what is no tenant's: no tenant's name is written so."""
CHAIN: Final = f"{NOBODY}:cache-chain"
MARK: Final = f"{NOBODY}:cache-mark"


def record(root: str, table: str, key: str | None) -> str:
    """Where it stands when the row, or any of the table, has changed last."""
    row = "" if key is None else f":{key}"
    return f"{root}{NOBODY}:cache-changed:{table}{row}"


def is_entry_name(root: str, name: str) -> bool:
    """Whether an entry of the namespace could be called so."""
    if not name.startswith(root):
        return False
    _, is_placed, rest = name.removeprefix(root).partition(":")
    if rest.startswith("of:"):
        _, is_placed, rest = rest.removeprefix("of:").partition(":")
    return bool(is_placed) and rest.startswith("cache:")


def glob(text: str) -> str:
    """`text` with what SCAN's patterns mean specially escaped."""
    return "".join(f"\\{c}" if c in "*?[]^-\\" else c for c in text)
