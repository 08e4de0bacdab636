"""Files on a disk, read without being held up or led astray."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from polyplane.domains.assistant.parsing.parsed import Unreadable


def content_at(path: Path, bytes_max: int) -> bytes | Unreadable:
    """The bytes of a plain file that is not too large, or why there are none."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return _no_file(path)
        # Neither does a pipe hold us up, nor does a link lead elsewhere, if it is one by now.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            seen = os.fstat(handle)
            if not stat.S_ISREG(seen.st_mode):
                return _no_file(path)
            content = b"" if seen.st_size > bytes_max else file.read(bytes_max + 1)
            size = max(seen.st_size, len(content))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            return Unreadable("unsupported", "a symbolic link")
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        return Unreadable("unreachable", why.lower())
    return content if size <= bytes_max else too_large(bytes_max)


def too_large(bytes_max: int) -> Unreadable:
    """What comes of a file that is larger than `bytes_max`."""
    return Unreadable("too_large", f"it is larger than {bytes_max / (1 << 20):,.0f} MiB")


def _no_file(path: Path) -> Unreadable:
    mode = os.lstat(path).st_mode
    kinds = (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
    )
    what = next((words for is_one, words in kinds if is_one(mode)), "no plain file")
    return Unreadable("unsupported", what)
