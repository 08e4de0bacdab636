"""What people and programs show: session tokens, API keys, and what of them is kept.

Each has 256 random bits, so one SHA-256 is enough: nobody guesses what was hashed.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from hashlib import sha256
from secrets import choice, token_urlsafe
from string import ascii_lowercase, digits
from typing import Final

SESSION_PREFIX: Final = "ps_"
_KEY_ID_LENGTH: Final = 12
_SECRET: Final = r"[A-Za-z0-9_-]{43}"
_SESSION_FORM: Final = re.compile(SESSION_PREFIX + _SECRET)
_KEY_FORM: Final = re.compile(rf"pp_([a-z0-9]{{{_KEY_ID_LENGTH}}})_{_SECRET}")
_SIGNATURE_LENGTH: Final = 32


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new API key: its id, which may be shown, and all of it, which is shown once."""

    id: str
    text: str


def new_session_token() -> str:
    """A token that opens a session: `ps_<256 random bits>`."""
    return SESSION_PREFIX + token_urlsafe(32)


def new_key() -> NewKey:
    """An API key: `pp_<id>_<256 random bits>`."""
    key_id = "".join(choice(ascii_lowercase + digits) for _ in range(_KEY_ID_LENGTH))
    return NewKey(key_id, f"pp_{key_id}_{token_urlsafe(32)}")


def is_session_token(text: str) -> bool:
    """Whether it has the form of one."""
    return _SESSION_FORM.fullmatch(text) is not None


def key_id_of(text: str) -> str | None:
    """The id in an API key; None when it has not the form of one."""
    found = _KEY_FORM.fullmatch(text)
    return found[1] if found else None


def hash_of(credential: str) -> bytes:
    """What is kept of a token or key, and found by."""
    return sha256(credential.encode()).digest()


def keyed(secret: bytes, what: str, text: str) -> bytes:
    """A hash of `text` that only who knows `secret` can make; `what` tells uses apart."""
    return hmac.digest(secret, f"{what}\0{text}".encode(), "sha256")


def device_of(secret: bytes, account: bytes, shown: str) -> str | None:
    """The device that `shown` proves to have signed in to `account` before, or None."""
    nonce, _, signature = shown.partition(".")
    wanted = _signature(secret, account, nonce)
    return nonce if nonce and hmac.compare_digest(wanted.encode(), signature.encode()) else None


def new_device(secret: bytes, account: bytes) -> str:
    """What a device keeps, to be known when it signs in to `account` again."""
    nonce = token_urlsafe(12)
    return f"{nonce}.{_signature(secret, account, nonce)}"


def _signature(secret: bytes, account: bytes, nonce: str) -> str:
    return keyed(secret, "device", f"{account.hex()}.{nonce}").hex()[:_SIGNATURE_LENGTH]
