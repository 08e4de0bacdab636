"""Files of a folder: found, looked at, and read as they were at one moment."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from mimetypes import guess_type
from pathlib import Path
from typing import Final, NamedTuple

import polyplane as pp
from polyplane.domains.assistant.arrivals import Arrival
from polyplane.domains.assistant.models import NAME_BYTES_MAX
from polyplane.domains.assistant.room import LIMITS

IGNORED: Final = (".*", "__pycache__", "node_modules", "*.pyc")
"""What is left out unless it is asked for: names, of folders too."""
TRIES: Final = 3
RACY_NS: Final = 2_000_000_000
"""A file that has changed so shortly before it was read may change once more within the same tick
of the disk's clock: its stamp is not trusted."""
_PIECE: Final = 1 << 20


class Found(NamedTuple):
    """A file as the folder tells of it; `stamp` is another one when it was written to meanwhile."""

    path: Path
    name: str
    size: int
    stamp: str


@dataclass(slots=True)
class Walk:
    """The files at `root` and below it: those whose name or path below it matches one of `globs`
    (none: all), and neither it nor a folder above it one of `ignore`.

    Links are followed to files below `root`, and to nothing else. Files are told of in the order
    of their paths; `problems` collects what cannot be looked into.
    """

    root: Path
    globs: Sequence[str] = ()
    ignore: Sequence[str] = IGNORED
    problems: list[tuple[str, str]] = field(default_factory=list)

    @property
    def below(self) -> str:
        """What the names of all documents of this walk begin with."""
        return named(self.root) if self.root.is_file() else f"{named(self.root).rstrip('/')}/"

    def files(self) -> Iterator[Found]:
        """All of them. Raises NotFound when there is nothing at `root`."""
        if not self.root.exists():
            raise pp.NotFound(f"There is nothing at {self.root}.", field="path")
        if self.root.is_file():
            found = self._looked_at(self.root)
            return iter(() if found is None else (found,))
        return self._in(self.root)

    def _in(self, folder: Path) -> Iterator[Found]:
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda it: it.name)
        except OSError as error:
            self._tell(folder, error)
            return
        for entry in ordered:
            path = Path(entry.path)
            if any(self._matches(path, it) for it in self.ignore):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._in(path)
            elif entry.is_symlink() and not self._leads_inside(path):
                continue
            elif not self.globs or any(self._matches(path, it) for it in self.globs):
                found = self._looked_at(path)
                if found is not None:
                    yield found

    def _matches(self, path: Path, pattern: str) -> bool:
        return fnmatchcase(path.name, pattern) or fnmatchcase(
            path.relative_to(self.root).as_posix(), pattern
        )

    def _leads_inside(self, link: Path) -> bool:
        try:
            to = link.resolve(strict=True)
            return to.is_file() and to.is_relative_to(self.root.resolve())
        except (OSError, RuntimeError):  # to nowhere, or in circles
            return False

    def _looked_at(self, path: Path) -> Found | None:
        """What there is, unless it is no plain file."""
        try:
            known = path.stat()
        except OSError as error:
            self._tell(path, error)
            return None
        if not stat.S_ISREG(known.st_mode):
            return None
        name = named(path)
        if len(name.encode()) > NAME_BYTES_MAX:
            self.problems.append((name[:200], "its path is too long"))
            return None
        return Found(path, name, known.st_size, stamp_of(known))

    def _tell(self, path: Path, error: OSError) -> None:
        self.problems.append((named(path), error.strerror or type(error).__name__))


def named(path: Path) -> str:
    """The name of the document that a file becomes: its absolute path, readable in any case."""
    return os.fsencode(os.path.abspath(path)).decode(errors="backslashreplace")


def stamp_of(known: os.stat_result) -> str:
    """A text that is another one once a file was written to, replaced or touched."""
    times = f"{known.st_mtime_ns:x}.{known.st_ctime_ns:x}"
    return f"{known.st_size:x}.{times}.{known.st_ino:x}.{known.st_dev:x}"


def read(found: Found) -> Arrival:
    """The file as it was at one moment, or why it could not be taken.

    One that is written to while it is read is read again, up to TRIES times.
    """
    kind = guess_type(found.path.name)[0] or "application/octet-stream"
    if found.size > LIMITS.file_bytes:
        return _not(found, "too_large", f"it has more than {LIMITS.file_bytes >> 20:,} MiB")
    try:
        for _ in range(TRIES):
            content, before, after = _read(found.path)
            if len(content) > LIMITS.file_bytes:
                return _not(found, "too_large", f"it has more than {LIMITS.file_bytes >> 20:,} MiB")
            if stamp_of(before) == stamp_of(after) and len(content) == after.st_size:
                is_old = time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) > RACY_NS
                stamp = stamp_of(after) if is_old else None
                return Arrival("folder", found.name, content, kind, stamp)
    except OSError as error:
        return _not(found, "unreachable", error.strerror or type(error).__name__)
    return _not(found, "changing", "it was written to all the time while it was read")


def _read(path: Path) -> tuple[bytes, os.stat_result, os.stat_result]:
    """What is in it, and what it was before and after that; never more than a byte too much."""
    # Whatever it was a moment ago: a pipe in its place must not hold us up.
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        before = os.fstat(opened)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(0, "it is no plain file any more")
        pieces, left = [], LIMITS.file_bytes + 1
        while left and (piece := os.read(opened, min(_PIECE, left))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces), before, os.fstat(opened)
    finally:
        os.close(opened)


def _not(found: Found, code: str, reason: str) -> Arrival:
    return Arrival("folder", found.name, None, code=code, reason=reason)
