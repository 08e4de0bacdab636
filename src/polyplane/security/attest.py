"""Documents that a home vouches for: JSON under an HMAC-SHA256 of its canonical form."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from polyplane.model.digest import canonical

ALGORITHM: Final = "HMAC-SHA256"
_SIGNATURE: Final = "signature"


def attested(document: Mapping[str, Any], secret: str) -> dict[str, Any]:
    """`document` with its signature. Raises TypeError for what has no canonical form."""
    signature = {"algorithm": ALGORITHM, "key": _name_of(secret), "value": _seal(document, secret)}
    return {**document, _SIGNATURE: signature}


def is_attested(document: Mapping[str, Any], secret: str) -> bool:
    """Whether `document` is as it was when it was signed with `secret`."""
    bare = {name: value for name, value in document.items() if name != _SIGNATURE}
    try:
        given = document[_SIGNATURE]
        named = (given["algorithm"], given["key"])
        value = str(given["value"])
    except (KeyError, TypeError):
        return False
    wanted = _seal(bare, secret)
    return named == (ALGORITHM, _name_of(secret)) and hmac.compare_digest(
        value.encode(), wanted.encode()
    )


def _seal(document: Mapping[str, Any], secret: str) -> str:
    return hmac.new(secret.encode(), canonical(document), sha256).hexdigest()


def _name_of(secret: str) -> str:
    """What tells keys apart without telling the key."""
    return sha256(b"polyplane key " + secret.encode()).hexdigest()[:16]
