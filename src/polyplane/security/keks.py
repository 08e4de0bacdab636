"""Key-encryption keys: several by their ids, one of them primary; the others only decrypt."""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import pairwise
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from polyplane.errors import Misconfigured
from polyplane.model.wrapping import Wrapped
from polyplane.security.cipher import KEY_BYTES, decrypt, encrypt

TEXT_MIN: Final = 32
"""Characters of a key that is neither base64 nor hexadecimal."""
_DISTINCT_BYTES, _DISTINCT_CHARACTERS = 12, 10
_WORDS: Final = re.compile(
    # None so short that it comes up in random text.
    "changeme|change[-_ ]me|your[-_ ](own|key|secret|encr|rand|32)|placeholder|example|password|"
    "secret|encryption|replace|default|insert[-_ ]|dummy[-_ ]|sample[-_ ]|xxxxxxxx|12345678|"
    "abcdefgh|qwerty",
    re.IGNORECASE,
)
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FIX: Final = (
    "Make one: python -c 'import secrets, base64;"
    " print(base64.b64encode(secrets.token_bytes(32)).decode())'"
)


class KeySet:
    """Key-encryption keys that this process holds. A `KeyWrapping`."""

    def __init__(self, keys: Mapping[str, bytes], primary: str) -> None:
        """Raises Misconfigured when the primary one is not among them, or one is no key."""
        if primary not in keys:
            raise Misconfigured(f"There is no encryption key {primary!r} to be the primary one.")
        for name, key in keys.items():
            if not _ID.fullmatch(name):
                raise Misconfigured("An encryption key's id has letters, digits, '_', '.' and '-'.")
            if len(key) != KEY_BYTES or is_placeholder(key):
                raise Misconfigured(f"The encryption key {name!r} is a placeholder.", fix=_FIX)
        self._keys = dict(keys)
        self._primary = primary

    @property
    def primary(self) -> str:
        """See `KeyWrapping.primary`."""
        return self._primary

    @property
    def ids(self) -> list[str]:
        """The ids of all, the primary one first."""
        return [self._primary, *sorted(self._keys.keys() - {self._primary})]

    async def wrap(self, key: bytes, about: bytes) -> Wrapped:
        """See `KeyWrapping.wrap`."""
        return Wrapped(self._primary, encrypt(key, self._keys[self._primary], about))

    async def unwrap(self, wrapped: Wrapped, about: bytes) -> bytes:
        """See `KeyWrapping.unwrap`; Misconfigured when this set lacks the key."""
        if wrapped.kek not in self._keys:
            raise Misconfigured(
                f"The encryption key {wrapped.kek!r} is missing.",
                fix="Give it back: as long as a data key is wrapped with it, it is needed.",
            )
        return decrypt(wrapped.body, self._keys[wrapped.kek], about)


def keys_in(text: str) -> KeySet:
    """The keys of a setting: `[id:]key`, comma-separated, the primary one first.

    A key is 32 bytes in base64 or hexadecimal, or a random text of at least TEXT_MIN characters.
    Raises Misconfigured, without repeating it, for what is none.
    """
    keys: dict[str, bytes] = {}
    for part in filter(None, (it.strip() for it in text.split(","))):
        name, colon, written = part.rpartition(":")
        key = _key_of(written if colon else part)
        name = name if colon else f"k{sha256(b'polyplane kek ' + key).hexdigest()[:8]}"
        if keys.setdefault(name, key) != key:
            raise Misconfigured(f"There are two encryption keys with the id {name!r}.")
    if not keys:
        raise Misconfigured("There is no encryption key.", fix=_FIX)
    return KeySet(keys, next(iter(keys)))


def is_placeholder(key: bytes) -> bool:
    """Whether 32 bytes are certainly not random: the same one again, a series, a repetition."""
    steps = {(b - a) % 256 for a, b in pairwise(key)}
    return len(set(key)) < _DISTINCT_BYTES or len(steps) == 1


def _key_of(written: str) -> bytes:
    if found := _WORDS.search(written):
        raise Misconfigured(f"An encryption key is a placeholder: it says {found[0]!r}.", fix=_FIX)
    for key in _decoded(written):
        if len(key) == KEY_BYTES:
            return key
    if len(written) < TEXT_MIN:
        raise Misconfigured(f"{len(written)} characters are no encryption key.", fix=_FIX)
    if len(set(written)) < _DISTINCT_CHARACTERS:
        raise Misconfigured("An encryption key is a placeholder: it repeats itself.", fix=_FIX)
    made = HKDF(SHA256(), length=KEY_BYTES, salt=None, info=b"polyplane encryption key")
    return made.derive(written.encode())


def _decoded(written: str) -> Iterable[bytes]:
    padded = written + "=" * (-len(written) % 4)
    if re.fullmatch(r"[0-9a-fA-F]{64}", written):
        yield bytes.fromhex(written)
    if re.fullmatch(r"[A-Za-z0-9+/]{43}=?", written):
        yield b64decode(padded)
    if re.fullmatch(r"[A-Za-z0-9_-]{43}=?", written):
        yield urlsafe_b64decode(padded)
