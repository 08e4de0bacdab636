"""Secrets of a home: each in a file that only its owner may read."""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_urlsafe
from typing import Final

OPS_TOKEN: Final = "ops.token"
"""The file of the operator's token."""


def secret_in(path: Path) -> str:
    """The secret in `path`; made, with mode 0600, when there is none."""
    if not path.exists():
        _make(path)
        _sync(path.parent)
    return path.read_text(encoding="ascii").strip()


def keep_secret(path: Path, content: bytes) -> None:
    """Write `content` to `path`, with mode 0600, in the place of what was there."""
    draft = _draft(path, content)
    draft.replace(path)


def _make(path: Path) -> None:
    """Write a whole file beside it first, so that nobody ever reads half a secret."""
    draft = _draft(path, token_urlsafe(32).encode())
    try:
        os.link(draft, path)
    except FileExistsError:  # another process was first; its secret counts
        return
    finally:
        draft.unlink()


def _sync(folder: Path) -> None:
    """What is signed with a secret must not outlive it: its name is durable before it is used."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft
