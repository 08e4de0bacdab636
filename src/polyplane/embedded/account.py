"""Which account the engines run as. PostgreSQL refuses root, so root's engines get their own."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from polyplane.errors import Misconfigured

NAME = "polyplane"
FALLBACK = "nobody"


@dataclass(frozen=True)
class Account:
    """A system account without privileges."""

    name: str
    uid: int
    gid: int


def engine_account(folder: Path) -> Account | None:
    """The account for the engines whose files are in `folder`; None means our own.

    Root's engines run as whoever owns the files already, else as the system user `polyplane`,
    which is made when it is missing; where none can be made, as `nobody`.
    """
    if os.geteuid() != 0:
        return None
    if folder.exists() and (uid := folder.stat().st_uid) != 0:
        return Account(_name_of(uid), uid, folder.stat().st_gid)
    entry = _lookup(NAME) or _create() or _lookup(FALLBACK)
    if entry is None:
        raise Misconfigured(
            "PostgreSQL does not run as root, and there is no other account to run it as.",
            fix=f"Make one (useradd --system {NAME}), or run as an ordinary user.",
        )
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def let_pass(path: Path, account: Account | None, tell: Callable[[str], None]) -> None:
    """Let `account` through the folders above `path`, each of which must be its own or ours.

    Grants passage (o+x), never reading, and tells of each grant. Raises Misconfigured where a
    folder of somebody else is in the way.
    """
    if account is None:
        return
    for folder in reversed(path.resolve().parents):
        status = folder.stat()
        if _may_pass(status, account):
            continue
        if status.st_uid != os.geteuid():
            raise Misconfigured(
                f"The engines run as {account.name}, who may not enter {folder}.",
                fix=f"Run: chmod o+x {folder}. Or choose another home with --home.",
            )
        folder.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
        tell(f"let {account.name} pass through {folder} (o+x)")


def _may_pass(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _lookup(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _create() -> pwd.struct_passwd | None:
    """Make the system user. None where that is impossible (no useradd, a read-only /etc)."""
    if (useradd := shutil.which("useradd")) is None:
        return None
    # Its exit status says nothing new: another process may have made the user meanwhile.
    subprocess.run(
        [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME],
        capture_output=True,
        check=False,
        timeout=10,
    )
    return _lookup(NAME)
