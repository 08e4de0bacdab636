"""What an engine's files were like when its server had ended in order.

Servers notice many kinds of damage by themselves, and some not at all: to PostgreSQL a table whose
file is empty is an empty table. While no server runs, nothing changes its files but a fault.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from polyplane.embedded.files import read_json, write_file
from polyplane.errors import Misconfigured

EXAMPLES_MAX: Final = 5
_OURS: Final = ("log", ".conf", ".json", ".toml", ".options", "postmaster.pid", "postmaster.opts")
"""How the names of files end that we write anew at every start, or that are for people."""

Files = dict[str, tuple[int, int]]
"""Name -> (bytes, time of the last change in nanoseconds)."""


def path_of(folder: Path) -> Path:
    """Where the seal of an engine's folder is: beside it, so that it outlives the folder."""
    return folder.with_name(f"{folder.name}.seal")


def note(folder: Path) -> None:
    """Seal the folder of a server that has ended in order."""
    write_file(path_of(folder), json.dumps(dict(_files(folder))))


def broken(folder: Path) -> list[str]:
    """What is not as it was sealed, in words; nothing without a seal.

    A file that is gone, has another size, or was changed since: unless all were, as in a copy.
    """
    try:
        noted = read_json(path_of(folder))
    except Misconfigured:
        noted = {}
    return compared({name: (size, at) for name, (size, at) in noted.items()}, dict(_files(folder)))


def take_off(folder: Path) -> None:
    """Before its server changes the files."""
    path_of(folder).unlink(missing_ok=True)


def compared(noted: Files, found: Files) -> list[str]:
    """In what `found` is not what was `noted`, in words. Pure."""
    wrong = []
    for name, (size, _) in noted.items():
        if name not in found:
            wrong.append(f"{name} is gone")
        elif found[name][0] != size:
            wrong.append(f"{name} has {found[name][0]:,} bytes, not {size:,}")
    same = [name for name in noted.keys() & found.keys() if found[name][0] == noted[name][0]]
    touched = [name for name in same if found[name][1] != noted[name][1]]
    if len(touched) < len(same):
        wrong += [f"{name} was changed" for name in sorted(touched)]
    return wrong


def told(wrong: list[str]) -> str:
    """The first of them, and how many more."""
    more = len(wrong) - EXAMPLES_MAX
    return "; ".join(wrong[:EXAMPLES_MAX]) + (f"; and {more} more" if more > 0 else "")


def _files(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    for at, _, names in os.walk(folder):
        for name in names:
            path = Path(at, name)
            if not name.endswith(_OURS) and not path.is_symlink() and path.is_file():
                status = path.stat()
                yield str(path.relative_to(folder)), (status.st_size, status.st_mtime_ns)
