"""What LanceDB leaves to its user on a local disk: durability, exclusion, repair.

LanceDB never calls fsync. A power cut can therefore leave the newest manifests of a table empty
or torn, and a table whose newest manifest cannot be read does not open. Nothing that `barrier`
has confirmed can be in them, so they are dropped and the version before becomes the newest.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

LOCK_POLL_S: Final = 0.002

_MAGIC: Final = b"LANC"
_log = structlog.get_logger(__name__)


@asynccontextmanager
async def alone(lock: Path | None) -> AsyncIterator[None]:
    """Keep every other holder of `lock` out, in any process; a dead one holds nothing.

    The caller bounds the time. Without a lock (an object store) nobody is kept out.
    """
    if lock is None:
        yield
        return
    with lock.open("wb") as file:  # closing it lets go
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_POLL_S)
        yield


def heal(folder: Path) -> list[Path]:
    """Drop unreadable newest manifests of every table in `folder`; the manifests dropped.

    Safe while other processes use the tables: LanceDB makes a manifest visible only once it is
    written whole, so one that is torn is left from a power cut.
    """
    dropped = []
    for versions in sorted(folder.glob("*.lance/_versions")):
        for manifest in sorted(versions.glob("*.manifest"), key=_version, reverse=True):
            if _whole(manifest):
                break
            _log.warning("torn_manifest_dropped", table=versions.parent.stem, file=manifest.name)
            manifest.unlink(missing_ok=True)
            dropped.append(manifest)
    return dropped


def drop_head(table: Path) -> bool:
    """Let the version before the newest be the newest; whether there is one.

    For a table that does not open or cannot be read whole: the newest version may be that of an
    apply which a power cut has interrupted, whose manifest lasted and whose rows did not.
    """
    found = sorted((table / "_versions").glob("*.manifest"), key=_version)
    if len(found) < 2:
        return False
    _log.warning("unreadable_version_dropped", table=table.stem, file=found[-1].name)
    found[-1].unlink(missing_ok=True)
    return True


def _version(manifest: Path) -> int:
    """The version in a manifest's name, which counts down from 2^64 - 1 when it has 20 digits."""
    number = int(manifest.stem) if manifest.stem.isdigit() else 0
    return 2**64 - 1 - number if len(manifest.stem) == 20 else number


def _whole(manifest: Path) -> bool:
    """Whether the file ends as a manifest does."""
    try:
        return manifest.read_bytes()[-len(_MAGIC) :] == _MAGIC
    except FileNotFoundError:
        return True  # cleaned up meanwhile by another process, so not the newest
