"""Canonical digests: the same content gives the same bytes, in any process, at any time."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import numpy as np
import orjson

DIGEST_HEX: Final = 32
"""Length of a digest: 128 bits in hexadecimal."""

_DIGEST_BYTES: Final = DIGEST_HEX // 2
_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME


def _plain(value: Any) -> Any:
    """One canonical form for each type that JSON does not have."""
    match value:
        case datetime():
            if value.tzinfo is None:
                raise TypeError("A timestamp without a zone has no canonical form.")
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        case date() | time():
            return value.isoformat()
        case Decimal():
            if not value:
                return "0"
            # Not normalize(): it rounds to the precision of whatever context is current.
            digits = f"{value:f}"
            return digits.rstrip("0").rstrip(".") if "." in digits else digits
        case UUID():
            return str(value)
        case bytes():
            return value.hex()
        case np.ndarray():
            return np.ascontiguousarray(value, dtype="<f4").tobytes().hex()
    raise TypeError(f"A {type(value).__name__} has no canonical form; derive plain values.")


def canonical(value: Any) -> bytes:
    """Canonical JSON of `value`: sorted keys, UTC microseconds, shortest floats, plain decimals.

    Raises TypeError for a value without a canonical form.
    """
    try:
        return orjson.dumps(value, default=_plain, option=_OPTIONS)
    except orjson.JSONEncodeError as error:
        if "64-bit" not in str(error):
            raise
    # Integers of any size, which JSON and PostgreSQL have and the quick encoder has not.
    text = json.dumps(
        value, default=_plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return text.encode()


def digest(value: Any, key: bytes = b"") -> str:
    """128-bit BLAKE2b of the canonical form, as 32 hexadecimal digits.

    With a `key` of at most 64 bytes it is a MAC: nobody without it can try what the value may be.
    """
    return blake2b(canonical(value), digest_size=_DIGEST_BYTES, key=key).hexdigest()
