"""Which data keys were destroyed, noted beside the key-encryption keys and never in a backup: what
an older copy of truth brings back is destroyed again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

NAME: Final = "keys.destroyed"
"""The file in a home."""


def noted(path: Path) -> list[str]:
    """The ids that were noted. A line that a crash has cut off is none."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    return whole.split()


def note(path: Path, ids: Sequence[str]) -> None:
    """Note `ids`, durably, unless they are."""
    new = [it for it in ids if it not in set(noted(path))]
    if not new:
        return
    is_new = not path.exists()
    number = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        # A line of its own, whatever a crash has left at the end.
        os.write(number, "".join(f"\n{it}\n" for it in new).encode("ascii"))
        os.fsync(number)
    finally:
        os.close(number)
    if is_new:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
