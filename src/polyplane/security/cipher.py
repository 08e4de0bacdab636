"""AES-256-GCM of single values, bound to the place where they belong.

A ciphertext is the text `v1|key id|nonce|ciphertext`, the last two in base64url without padding.
Nonces are random: one key is good for 2^32 values.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from os import urandom
from typing import Any, Final, NamedTuple

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from polyplane.errors import Refused, SecretDamaged, TooLarge

VERSION: Final = "v1"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SECRET_MAX_BYTES: Final = 1 << 20
"""The longest value, encoded."""

_TEXT, _BYTES, _JSON = b"s", b"b", b"j"


class Ciphertext(NamedTuple):
    """The parts of a ciphertext."""

    key_id: str
    nonce: bytes
    body: bytes


def encrypt(plain: bytes, key: bytes, bound_to: bytes) -> bytes:
    """Nonce and ciphertext of `plain`."""
    nonce = urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound_to)


def decrypt(nonce_and_body: bytes, key: bytes, bound_to: bytes) -> bytes:
    """What `encrypt` was given; SecretDamaged when any of the three is not what it was then."""
    nonce, body = nonce_and_body[:NONCE_BYTES], nonce_and_body[NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, body, bound_to)
    except (InvalidTag, ValueError):  # of another key, or place; or cut off
        raise SecretDamaged("A ciphertext is not what was written in this place.") from None


def seal(value: Any, key_id: str, key: bytes, bound_to: bytes) -> str:
    """The ciphertext of `value`: text, bytes or what JSON has.

    Raises Refused for anything else, TooLarge beyond SECRET_MAX_BYTES.
    """
    made = encrypt(_encoded(value), key, bound_to)
    return "|".join((VERSION, key_id, _text(made[:NONCE_BYTES]), _text(made[NONCE_BYTES:])))


def parse(text: str) -> Ciphertext:
    """The parts of a ciphertext; SecretDamaged for what is none, or is written otherwise."""
    version, *parts = text.split("|")
    if version != VERSION or len(parts) != 3:
        raise SecretDamaged("What is stored for a secret is no ciphertext.")
    try:
        nonce, body = _bytes(parts[1]), _bytes(parts[2])
    except ValueError:
        raise SecretDamaged("What is stored for a secret is no ciphertext.") from None
    # A text has one form only, so that every change of it is noticed.
    if len(nonce) != NONCE_BYTES or [_text(nonce), _text(body)] != parts[1:]:
        raise SecretDamaged("What is stored for a secret is no ciphertext.")
    return Ciphertext(parts[0], nonce, body)


def key_id_of(text: str) -> str:
    """The id of the data key of a ciphertext; of what is none, anything, or nothing."""
    return [*text.split("|", 2), "", ""][1]


def unseal(found: Ciphertext, key: bytes, bound_to: bytes) -> Any:
    """The value of a ciphertext; SecretDamaged when it does not belong there."""
    plain = decrypt(found.nonce + found.body, key, bound_to)
    kind, rest = plain[:1], plain[1:]
    if kind == _TEXT:
        return rest.decode()
    return rest if kind == _BYTES else orjson.loads(rest)


def _encoded(value: Any) -> bytes:
    try:
        if isinstance(value, str):
            plain = _TEXT + value.encode()
        elif isinstance(value, bytes | bytearray | memoryview):
            plain = _BYTES + bytes(value)
        else:
            plain = _JSON + orjson.dumps(value)
    except (TypeError, UnicodeEncodeError):
        # Without the cause, which repeats the value.
        raise Refused(f"A {type(value).__name__} like this is no text, bytes or JSON.") from None
    if len(plain) > SECRET_MAX_BYTES:
        raise TooLarge(f"A secret has at most {SECRET_MAX_BYTES:,} bytes.")
    return plain


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
