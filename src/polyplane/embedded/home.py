"""The home directory: who holds it, what it remembers, and its secrets."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polyplane.embedded.account import Account
from polyplane.embedded.files import give, read_json, sync_folder, write_file
from polyplane.embedded.process import Identity
from polyplane.errors import HomeBusy, Misconfigured, Unavailable

EPOCH_FILE = "epoch.json"
"""Which epoch each namespace is in, kept outside PostgreSQL, which may be put back."""
SECRETS_FILE = "secrets.json"
GATE_TIMEOUT_S = 2.0
SECRET_BYTES = 24
SOCKET_PATH_BYTES_MAX = 107
SOCKET_NAME_BYTES_MAX = 16  # of the longest socket: .s.PGSQL.65535


@dataclass(frozen=True)
class Owner:
    """The process that holds a home. `api_url` is None until it serves."""

    pid: int
    started_at: datetime
    api_url: str | None = None


@dataclass(frozen=True)
class Record:
    """A server we started: which process, and a digest of all it was started with."""

    identity: Identity
    fingerprint: str


@dataclass
class Ledger:
    """What is remembered from one run to the next, written down at every change.

    A server's record is removed only by its clean stop: one found at the start means that the
    server is still running, or that it was killed.
    """

    path: Path
    ports: dict[str, dict[str, int]] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    sockets: str = ""

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """The ledger in `path`, or an empty one."""
        content = read_json(path)
        records = {
            name: Record(Identity(**record["identity"]), record["fingerprint"])
            for name, record in content.get("records", {}).items()
        }
        return cls(path, content.get("ports", {}), records, content.get("sockets", ""))

    def write(self) -> None:
        """Make the present state durable."""
        records = {name: asdict(record) for name, record in self.records.items()}
        content = {"ports": self.ports, "records": records, "sockets": self.sockets}
        write_file(self.path, json.dumps(content, indent=1))


class Home:
    """One home directory. At most one process holds it, by a lock the kernel drops at its death.

    The locked file is the owner file itself. It is taken and rewritten behind a second lock, the
    gate, so whoever finds it locked also finds the holder's own words in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # as the kernel names it
        self.engines = self.path / "engines"
        self._held: int | None = None

    def take(self) -> None:
        """Hold this home, making it if need be.

        Raises HomeBusy if another process holds it, Misconfigured if it is somebody else's.
        """
        with self._explained():
            if not self.path.exists():
                self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
                sync_folder(self.path.parent)
            with self._gate():
                fd = self._open("owner.json")
                try:
                    if not _lock(fd, fcntl.LOCK_EX):
                        owner = _read_owner(fd)
                        since = owner.started_at.isoformat(timespec="seconds")
                        raise HomeBusy(str(self.path), owner.pid, since)
                    _write_owner(fd, Owner(os.getpid(), datetime.now(UTC)))
                except BaseException:
                    os.close(fd)
                    raise
                self._held = fd

    def release(self) -> None:
        """Let go of this home."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def publish(self, api_url: str) -> None:
        """Tell where the holder, this process, serves."""
        if self._held is None:
            raise Misconfigured(f"{self.path} is not held by this process.")
        with self._gate():
            owner = _read_owner(self._held)
            _write_owner(self._held, Owner(owner.pid, owner.started_at, api_url))

    def owner(self) -> Owner | None:
        """Who holds this home now. Raises Misconfigured if it is somebody else's."""
        with self._explained():
            if not (self.path / "owner.json").exists():
                return None
            with self._gate():
                fd = self._open("owner.json")
                try:
                    return None if _lock(fd, fcntl.LOCK_SH) else _read_owner(fd)
                finally:
                    os.close(fd)

    def ledger(self) -> Ledger:
        """What the last run left behind."""
        return Ledger.read(self.path / "engines.json")

    def secrets(self, wanted: Mapping[str, Iterable[str]]) -> dict[str, dict[str, str]]:
        """The secrets of each engine, by name; those that are missing are made up and kept, and
        those that nobody wants any more are forgotten.
        """
        path = self.path / SECRETS_FILE
        known: dict[str, dict[str, str]] = read_json(path)
        before = json.dumps(known)
        for engine, names in wanted.items():
            held = known.get(engine, {})
            known[engine] = {
                name: held.get(name) or secrets.token_hex(SECRET_BYTES) for name in names
            }
        if json.dumps(known) != before:
            write_file(path, json.dumps(known, indent=1))
        return known

    def forget_secrets(self, engines: Iterable[str]) -> None:
        """Have new secrets made at the next start of these engines."""
        path = self.path / SECRETS_FILE
        known = read_json(path)
        kept = {engine: held for engine, held in known.items() if engine not in set(engines)}
        if kept != known:
            write_file(path, json.dumps(kept, indent=1))

    def prepare(self, account: Account | None, ledger: Ledger) -> Path:
        """Make the engines' folder and the one for their sockets; the latter is returned."""
        _private_folder(self.engines, account)
        sockets = self.engines / "run"
        if len(os.fsencode(sockets)) + 1 + SOCKET_NAME_BYTES_MAX > SOCKET_PATH_BYTES_MAX:
            sockets = Path(ledger.sockets)
            if not ledger.sockets or not _is_own_folder(sockets, account):
                sockets = Path(tempfile.mkdtemp(prefix="polyplane-"))
            ledger.sockets = str(sockets)
            ledger.write()
        _private_folder(sockets, account)
        return sockets

    def folder(self, engine: str, account: Account | None) -> Path:
        """The folder of one engine."""
        folder = self.engines / engine
        _private_folder(folder, account)
        return folder

    @contextmanager
    def _gate(self) -> Iterator[None]:
        """Nobody else takes, names or asks for the owner meanwhile. Held for microseconds."""
        fd = self._open(".gate")
        try:
            deadline = time.monotonic() + GATE_TIMEOUT_S
            while not _lock(fd, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise Unavailable(f"{self.path} is being opened by another process.")
                time.sleep(0.005)
            yield
        finally:
            os.close(fd)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise Misconfigured(
                f"{self.path} belongs to somebody else: {error}.",
                fix="Run as its owner, or choose another home with --home.",
            ) from error

    def _open(self, name: str) -> int:
        fd = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give(fd, self.path)
        return fd


def running(home: Path) -> Owner | None:
    """The process that holds `home`; None if none does.

    Decided by the kernel's lock, so it is right at the moment it is asked. Raises Misconfigured
    if `home` belongs to somebody else.
    """
    return Home(home).owner()


def _lock(fd: int, mode: int) -> bool:
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_owner(fd: int) -> Owner:
    content: dict[str, Any] = json.loads(os.pread(fd, 4096, 0))
    started_at = datetime.fromisoformat(content["started_at"])
    return Owner(content["pid"], started_at, content["api_url"])


def _write_owner(fd: int, owner: Owner) -> None:
    content = {**asdict(owner), "started_at": owner.started_at.isoformat()}
    os.ftruncate(fd, os.pwrite(fd, json.dumps(content).encode(), 0))


def _is_own_folder(folder: Path, account: Account | None) -> bool:
    """Whether nobody else made `folder`, nor a link of its name, since we did."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    uid = os.geteuid() if account is None else account.uid
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid


def _private_folder(folder: Path, account: Account | None) -> None:
    if not folder.exists():
        folder.mkdir(exist_ok=True, mode=0o700)
        sync_folder(folder.parent)
    if account is not None:
        os.chown(folder, account.uid, account.gid)
