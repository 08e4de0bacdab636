"""Key-encryption keys in a file that only its owner may read: made once, added to, never changed.

Other processes learn what one of them has added when they need it: each looks at the file when it
meets a key that it does not know, and before it wraps.
"""

from __future__ import annotations

import fcntl
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import Final

from polyplane.errors import Misconfigured
from polyplane.model.wrapping import Wrapped
from polyplane.security.cipher import KEY_BYTES
from polyplane.security.keks import KeySet

NAME: Final = "keys.json"
"""The file in a home, when no other is set."""
_OTHERS: Final = 0o077


class KeyFile:
    """The keys of a file, as it is now. A `KeyWrapping`. Made with a first key by `make`."""

    def __init__(self, path: Path) -> None:
        """Raises Misconfigured when it is not there, others may read it, or it is damaged."""
        self.path = path
        self._seen = _state_of(path)
        self._keys = _read(path)

    @property
    def primary(self) -> str:
        """See `KeyWrapping.primary`."""
        return self._current().primary

    @property
    def ids(self) -> list[str]:
        """The ids of all, the primary one first."""
        return self._current().ids

    async def wrap(self, key: bytes, about: bytes) -> Wrapped:
        """See `KeyWrapping.wrap`."""
        return await self._current().wrap(key, about)

    async def unwrap(self, wrapped: Wrapped, about: bytes) -> bytes:
        """See `KeyWrapping.unwrap`."""
        known = self._keys if wrapped.kek in self._keys.ids else self._current()
        return await known.unwrap(wrapped, about)

    def add(self) -> str:
        """Add a new key, which is the primary one from now on; its id."""
        with _alone(self.path.parent):  # or of two who add one the first would be lost
            now = json.loads(self.path.read_text(encoding="utf-8"))
            name = _new_id()
            _write(self.path, {"primary": name, "keys": {**now["keys"], name: _new_key()}})
        return name

    def _current(self) -> KeySet:
        state = _state_of(self.path)
        if state != self._seen:
            self._keys, self._seen = _read(self.path), state
        return self._keys


def make(path: Path) -> None:
    """Write a file with one new key, unless there is one: who is first wins."""
    name = _new_id()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path, {"primary": name, "keys": {name: _new_key()}})
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    _sync(path.parent)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process, or thread, at a time; who dies lets the next one in."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _new_id() -> str:
    return f"k{datetime.now(UTC):%Y%m%d}-{token_hex(3)}"


def _new_key() -> str:
    return b64encode(token_bytes(KEY_BYTES)).decode()


def _read(path: Path) -> KeySet:
    try:
        if path.stat().st_mode & _OTHERS:
            raise Misconfigured(f"Others may read {path}.", fix=f"chmod 600 {path}")
        found = json.loads(path.read_text(encoding="utf-8"))
        keys = {str(name): b64decode(key, validate=True) for name, key in found["keys"].items()}
        return KeySet(keys, str(found["primary"]))
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Misconfigured(f"{path} holds no encryption keys.", fix="Put the file back.") from None


def _state_of(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}.") from error
    return found.st_ino, found.st_mtime_ns, found.st_size


def _write(path: Path, content: object) -> None:
    draft = _draft(path, content)
    draft.replace(path)
    _sync(path.parent)


def _draft(path: Path, content: object) -> Path:
    """A whole file beside it first, so that nobody ever reads half of one."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{token_hex(3)}")
    with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _sync(folder: Path) -> None:
    """The name too is on the disk before anything is encrypted with what is in it."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
