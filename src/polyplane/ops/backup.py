"""Backup of a home, in its first form: everything stops, is copied, and proves itself afterwards.

All engines of the home are stopped, so that what is copied is of one moment and needs no recovery.
A restored home begins a new epoch: its positions would otherwise be reused, and what a reader or a
store elsewhere has seen of the lost time would look newer than the truth.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import file_digest
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import orjson

from polyplane.embedded import Engines
from polyplane.embedded.files import read_json, sync_folder, write_file
from polyplane.embedded.home import EPOCH_FILE
from polyplane.errors import Conflict, NotFound, Refused
from polyplane.security import key_file, ledger

MANIFEST: Final = "backup.json"
FORMAT: Final = 1
_PASSING: Final = frozenset({"owner.json", ".gate", "run", "postmaster.pid", "postmaster.opts"})
"""What belongs to a running process and not to its data."""
_APART: Final = frozenset({key_file.NAME, ledger.NAME})
"""What is never in a backup: with both in hand, nobody's key would ever be destroyed."""
_CHUNK_BYTES: Final = 1 << 20

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup folder holds. `epochs` is the epoch of each namespace."""

    folder: str
    created_at: str
    polyplane: str
    files: int
    bytes: int
    epochs: dict[str, int]


@asynccontextmanager
async def at_rest(home: Path) -> AsyncIterator[None]:
    """Hold `home` with every engine stopped. Raises HomeBusy while another process runs it."""
    engines = Engines(home, wanted=())
    await engines.start()
    try:
        yield
    finally:
        await engines.stop()


def create(home: Path, folder: Path, progress: Progress) -> Backup:
    """Copy `home`, which must be at rest, to the new `folder`: whole, or not at all.

    Raises Conflict when `folder` exists, Refused when it lies in the home.
    """
    home, folder = home.resolve(), folder.resolve()
    if folder.exists():
        raise Conflict(f"{folder} exists already.", fix="Name a folder that does not.")
    if folder.is_relative_to(home):
        raise Refused(f"{folder} is part of the home.", fix="Name a folder outside of it.")
    if not (home / "engines").is_dir():
        raise NotFound(f"{home} holds no engines.", fix="Name the home with --home.")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True, mode=0o700)
    digests = _copy(home, unfinished / "home", progress)
    found = Backup(
        str(folder),
        datetime.now(UTC).isoformat(timespec="seconds"),
        version("polyplane"),
        len(digests),
        sum(size for _, size in digests.values()),
        read_json(home / EPOCH_FILE),
    )
    manifest = {"format": FORMAT, **asdict(found), "digests": digests}
    write_file(unfinished / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2).decode())
    unfinished.rename(folder)
    sync_folder(folder.parent)
    return found


def check(folder: Path, progress: Progress) -> Backup:
    """Read a backup back. Raises NotFound without one, Refused for one that is damaged."""
    manifest = read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise NotFound(f"{folder} holds no backup of ours.", fix="Name a folder made by create.")
    digests: dict[str, list[Any]] = manifest["digests"]
    found = {str(p.relative_to(folder / "home")) for p in _files(folder / "home")}
    if strange := sorted(found ^ digests.keys()):
        raise Refused(f"The backup is damaged: {strange[0]} is missing, or not of it.")
    done, total = 0, sum(size for _, size in digests.values())
    for name, (digest, size) in digests.items():
        with (folder / "home" / name).open("rb") as file:
            if file_digest(file, "sha256").hexdigest() != digest:
                raise Refused(f"The backup is damaged: {name} is not what was saved.")
        done += size
        progress(done, total)
    names = ("created_at", "polyplane", "files", "bytes", "epochs")
    return Backup(str(folder), **{name: manifest[name] for name in names})


def restore(folder: Path, home: Path, progress: Progress) -> Path | None:
    """Put the backup in `folder`, which has been checked, in the place of `home`, at rest.

    What was there is kept beside it, under the name that is returned; its encryption keys are taken
    over, since no backup holds any. The next start begins a new epoch and fills every derived store
    again.
    """
    home = home.resolve()
    unfinished = home.with_name(f"{home.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    _copy(folder / "home", unfinished, progress)
    epochs = read_json(unfinished / EPOCH_FILE)
    for name, epoch in read_json(home / EPOCH_FILE).items():
        epochs[name] = max(epoch, epochs.get(name, 0))
    later = {name: epoch + 1 for name, epoch in epochs.items()}
    write_file(unfinished / EPOCH_FILE, orjson.dumps(later).decode())
    for name in _APART:
        if (home / name).is_file():
            shutil.copy2(home / name, unfinished / name)
            _same_owner(home / name, unfinished / name)
    kept = None
    if any(_files(home)):
        kept = home.with_name(f"{home.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        home.rename(kept)
    elif home.exists():
        shutil.rmtree(home)
    unfinished.rename(home)
    sync_folder(home.parent)
    return kept


def _files(folder: Path) -> Iterator[Path]:
    """Every plain file below `folder` that is data."""
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _PASSING]
        for name in files:
            path = Path(at, name)
            if path.parent == folder and name in _APART:
                continue
            if name not in _PASSING and path.is_file() and not path.is_symlink():
                yield path


def _copy(source: Path, target: Path, progress: Progress) -> dict[str, tuple[str, int]]:
    """Copy the data below `source`, durably; (SHA-256, bytes) of each file by its name."""
    total = sum(path.stat().st_size for path in _files(source))
    done = 0
    digests: dict[str, tuple[str, int]] = {}
    for at, folders, _ in os.walk(source):
        folders[:] = [name for name in folders if name not in _PASSING]
        made = target / Path(at).relative_to(source)
        made.mkdir(parents=True, exist_ok=True)
        _same_owner(Path(at), made)
    for path in _files(source):
        name = path.relative_to(source)
        with path.open("rb") as old, (target / name).open("wb") as new:
            shutil.copyfileobj(old, new, _CHUNK_BYTES)
            new.flush()
            os.fsync(new.fileno())
            old.seek(0)
            digests[str(name)] = (file_digest(old, "sha256").hexdigest(), new.tell())
        _same_owner(path, target / name)
        done += digests[str(name)][1]
        progress(done, total)
    for at, _, _ in os.walk(target, topdown=False):
        sync_folder(Path(at))
    return digests


def _same_owner(old: Path, new: Path) -> None:
    status = old.stat()
    os.chmod(new, status.st_mode & 0o7777)
    if os.geteuid() == 0:
        os.chown(new, status.st_uid, status.st_gid)
