"""A disk whose power can be cut: ext4 in a file, on a loop device.

The cut is ext4's own: a shutdown that does not write its journal. What was not synced is gone, as
if the machine had lost its power.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import psutil

_SHUTDOWN: Final = 0x8004587D
_WITHOUT_JOURNAL: Final = 2
SIZE_MB: Final = 2048
END_S: Final = 15.0


class Loop:
    """One image, `disk.img` in `folder`, mounted at `disk` beside it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "disk.img"
        self.at = folder / "disk"
        self.mounted = False
        self.spared: set[int] = set()
        """Processes elsewhere, which may look at it now and then."""

    def make(self) -> str:
        """Make and mount it; why that cannot be done here, or nothing."""
        self.at.mkdir()
        with self.file.open("wb") as file:
            file.truncate(SIZE_MB << 20)
        try:
            _run("mkfs.ext4", "-q", "-F", str(self.file))
            self.mount()
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", b"") or b""
            return f"{error} {said.decode(errors='replace').strip()}".strip()
        self.at.chmod(0o755)
        return ""

    def mount(self) -> None:
        """Put it in its place; the journal of ext4 recovers what it holds."""
        _run("mount", "-o", "loop", str(self.file), str(self.at))
        self.mounted = True

    def cut(self, programs: list[int]) -> None:
        """Cut the power of the disk and of all that works on it, `programs` too, at one moment.

        They stand still first, so that nobody acknowledges anything on a disk that is dead.
        """
        pids = {*programs, *self._users()}
        _send(pids, signal.SIGSTOP)
        late = self._users() - pids
        _send(late, signal.SIGSTOP)
        handle = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _SHUTDOWN, _WITHOUT_JOURNAL.to_bytes(4, "little"))
        finally:
            os.close(handle)
        _send(pids | late, signal.SIGKILL)
        self._deserted()
        self.unmount()

    def _deserted(self) -> None:
        until = monotonic() + END_S
        while users := self._users():
            if monotonic() > until:
                raise TimeoutError(f"still on the disk: {users}")
            _send(users, signal.SIGKILL)
            sleep(0.02)

    def _users(self) -> set[int]:
        return {process.pid for process in users_of(self.at)} - self.spared

    def unmount(self) -> None:
        """Take it away, as soon as nobody uses it any more."""
        until = monotonic() + END_S
        while self.mounted:
            try:
                _run("umount", str(self.at))
                self.mounted = False
            except subprocess.CalledProcessError:
                if monotonic() > until:
                    raise
                sleep(0.05)

    def discard(self) -> None:
        """End whoever is left on it, and leave nothing behind."""
        with suppress(TimeoutError):
            if self.mounted:
                self._deserted()
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.at)], check=False, timeout=20)
            self.mounted = False
        self.file.unlink(missing_ok=True)


def users_of(folder: Path) -> list[psutil.Process]:
    """Every process that works in `folder`, or has a file of it open."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            at = Path(f"/proc/{process.pid}")
            links = [at / "cwd", *(at / "fd").iterdir()]
            if any(os.readlink(link).startswith(f"{folder}/") for link in _there(links)):
                found.append(process)
    return found


def _there(links: list[Path]) -> list[Path]:
    return [link for link in links if link.is_symlink()]


def _send(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
