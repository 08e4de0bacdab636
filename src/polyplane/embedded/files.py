"""Files that must survive a power cut whole: the new text or the old, never a piece."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final

from polyplane.errors import Misconfigured

ROOM_BYTES_MIN: Final = 32 << 20


def write_file(path: Path, text: str) -> None:
    """Replace `path` by `text`: mode 0600, on disk before this returns."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600, never a link
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            give(fd, path.parent)
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def give(fd: int, folder: Path) -> None:
    """Give an open file that root may have made to the owner of its folder."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_json(path: Path) -> dict[str, Any]:
    """The object that `path` holds; empty if there is no such file.

    Raises Misconfigured if the file holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise Misconfigured(
            f"{path} is damaged: {error}.", fix="Restore it from a copy."
        ) from error
    if not isinstance(content, dict):
        raise Misconfigured(f"{path} does not hold an object.", fix="Restore it from a copy.")
    return content


def has_room(folder: Path) -> bool:
    """Whether its disk has room for a server to work with."""
    free = os.statvfs(folder)
    return free.f_bavail * free.f_frsize >= ROOM_BYTES_MIN
