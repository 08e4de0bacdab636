"""What a folder of files that never change holds, noted so that it can be recognised.

LanceDB has no checksums: a bit that flips in one of its files would be an answer. So each file is
noted once it is durable, and all that are noted are read again before the folder is used. What is
newer than the last note is only known to be readable.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

_CHUNK_BYTES: Final = 1 << 22
_FORMAT: Final = 1


@dataclass
class Seal:
    """The files below `folder` that are in `suffixes`, by their names; kept in the file `path`.

    `known` is name -> (bytes, CRC-32). `clean`: whoever used the folder last has let go of it in
    order, so that what is known is all there is.
    """

    folder: Path
    path: Path
    suffixes: tuple[str, ...]
    known: dict[str, tuple[int, int]] = field(default_factory=dict)
    clean: bool = False

    @classmethod
    def read(cls, folder: Path, path: Path, suffixes: tuple[str, ...]) -> Seal:
        """What was noted last; nothing, when that cannot be read."""
        found: Any = None
        with suppress(FileNotFoundError, ValueError):
            found = orjson.loads(path.read_bytes())
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            return cls(folder, path, suffixes)
        known = {name: (size, crc) for name, (size, crc) in found["known"].items()}
        return cls(folder, path, suffixes, known, bool(found["clean"]))

    def broken(self) -> dict[str, str]:
        """Known files that are not what they were: name -> what is wrong. Reads all of them.

        One that is gone may have been removed in order, unless the folder was left clean.
        """
        wrong: dict[str, str] = {}
        for name, (size, crc) in self.known.items():
            try:
                found = _sum(self.folder / name)
            except FileNotFoundError:
                if self.clean:
                    wrong[name] = "is gone"
                continue
            if found != (size, crc):
                what = "has another content" if found[0] == size else f"has {found[0]:,} bytes"
                wrong[name] = f"{what}, not the {size:,} bytes that were written"
        return wrong

    def extend(self, before_ns: int | None = None) -> None:
        """Know what there is now, but for files changed since `before_ns` (of the clock)."""
        present = dict(self._present())
        self.known = {name: it for name, it in self.known.items() if name in present}
        for name, entry in present.items():
            if name in self.known:
                continue
            with suppress(FileNotFoundError):
                status = entry.stat()
                if before_ns is not None and status.st_mtime_ns >= before_ns:
                    continue
                found = _sum(self.folder / name)
                again = os.stat(entry.path)
                if (again.st_size, again.st_mtime_ns) == (status.st_size, status.st_mtime_ns):
                    self.known[name] = found

    def forget(self, start: str) -> None:
        """Know no more of the files whose names begin with `start`."""
        self.known = {name: it for name, it in self.known.items() if not name.startswith(start)}

    def write(self, *, clean: bool) -> None:
        """Note it. Not synced: an older note knows less, and nothing wrong."""
        content: Mapping[str, Any] = {"format": _FORMAT, "clean": clean, "known": self.known}
        unfinished = self.path.with_suffix(".new")
        unfinished.write_bytes(orjson.dumps(content))
        unfinished.replace(self.path)
        self.clean = clean

    def _present(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        waiting = [(str(self.folder), "")]
        while waiting:
            at, start = waiting.pop()
            with suppress(FileNotFoundError), os.scandir(at) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, f"{start}{entry.name}/"))
                    elif entry.name.endswith(self.suffixes):
                        yield f"{start}{entry.name}", entry


def _sum(path: Path) -> tuple[int, int]:
    """(bytes, CRC-32) of a file."""
    size = crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            size += len(chunk)
            crc = zlib.crc32(chunk, crc)
    return size, crc
