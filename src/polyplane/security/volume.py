"""Whether the disk under a folder is encrypted, as far as the kernel of this machine tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

MOUNTS: Final = Path("/proc/self/mountinfo")
DEVICES: Final = Path("/sys/dev/block")
ENCRYPTED_TYPES: Final = frozenset(
    {"ecryptfs", "fuse.gocryptfs", "fuse.cryfs", "fuse.encfs", "fuse.securefs"}
)
"""File systems that write nothing in clear."""


class Device(NamedTuple):
    """A block device: how device-mapper calls it ('' for others), and what it lies on."""

    mapped: str
    below: Sequence[str]


def mount_of(folder: str, mountinfo: str) -> tuple[str, str]:
    """(device as major:minor, type of file system) under `folder`, by the kernel's mountinfo.

    The latest mount of the longest path counts. ('', '') when there is none.
    """
    place, best, found = PurePosixPath(folder), -1, ("", "")
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        words, kind = before.split(), after.split()
        if len(words) < 5 or not kind:
            continue
        point = words[4].encode().decode("unicode_escape")  # a space is \\040 there
        if place.is_relative_to(point) and len(PurePosixPath(point).parts) >= best:
            best, found = len(PurePosixPath(point).parts), (words[2], kind[0])
    return found


def is_encrypted(device: str, kind: str, look: Callable[[str], Device | None]) -> bool:
    """Whether all that lies on `device` (major:minor), of this type of file system, is encrypted.

    `look` gives what is known of a device. What is not known is not encrypted.
    """
    if kind in ENCRYPTED_TYPES:
        return True
    found = look(device)
    if found is None:
        return False
    if found.mapped.startswith("CRYPT-"):
        return True
    return bool(found.below) and all(is_encrypted(it, "", look) for it in found.below)


def disk_is_encrypted(folder: Path) -> bool:
    """Whether `folder`, or the nearest folder above it that exists, is on an encrypted disk."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    mountinfo = MOUNTS.read_text(encoding="utf-8") if MOUNTS.is_file() else ""
    return is_encrypted(*mount_of(str(place.resolve()), mountinfo), _look)


def _look(device: str) -> Device | None:
    at = DEVICES / device
    if not at.exists():
        return None
    name = at / "dm" / "uuid"
    mapped = name.read_text(encoding="ascii").strip() if name.is_file() else ""
    below = at / "slaves"
    under = [(it / "dev").read_text().strip() for it in below.iterdir()] if below.is_dir() else []
    if not under and (at / "partition").is_file():  # a partition lies on its disk
        under = [(at.resolve().parent / "dev").read_text(encoding="ascii").strip()]
    return Device(mapped, under)
