"""Is the file of a graph what was written? The engine has checksums in its log alone.

So the files of one that was closed in order are noted, and read again before they are opened. After
any other end what the engine says counts, when it opens them and when all is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from polyplane.stores import disk
from polyplane.stores.seal import Seal

_SEAL: Final = "seal.json"
_SUFFIXES: Final = (".lbug", ".wal", ".shadow")
_SAYS: Final = (
    "corrupt",
    "not a valid",
    "outside the database file",
    "does not match the current database",
    "serialized with enablechecksums",
    "out-of-range",
    "out of bounds",
)
"""Of these words some are in what the engine says of a file that is damaged."""


def looked_at(path: Path) -> tuple[str, bool]:
    """In what the graph in the file `path` is not as it was left, in words; and whether nothing of
    it is in doubt. From now on it may be changed.
    """
    folder = path.parent
    seal = Seal.read(folder, folder / _SEAL, _SUFFIXES)
    if not seal.clean:
        return "", not path.exists()
    wrong = [f"{name} {what}" for name, what in seal.broken().items()]
    if not wrong:
        seal.path.unlink()
        disk.sync(folder)  # else what is changed from now on may be thought to be damaged
    return wrong[0] if wrong else "", not wrong


def leave(path: Path) -> None:
    """Note what there is: nobody has it open any more."""
    folder = path.parent
    disk.sync(folder)
    seal = Seal(folder, folder / _SEAL, _SUFFIXES)
    seal.extend()
    seal.write(clean=True)


def take_away(path: Path) -> None:
    """Delete the graph in the file `path`, its log and its note."""
    for file in (*path.parent.glob(f"{path.name}*"), path.parent / _SEAL):
        file.unlink(missing_ok=True)


def says_damaged(error: Exception) -> str:
    """What an error of the engine says of the file, if it is that the file is damaged."""
    said = " ".join(str(error).split()).removeprefix("Runtime exception: ")[:300].rstrip(".!")
    return said if any(word in said.lower() for word in _SAYS) else ""
