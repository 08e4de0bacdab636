"""Keys: the canonical texts under which rows of truth and items of stores are known."""

from __future__ import annotations

from typing import Final
from zlib import crc32

BUCKETS: Final = 8


def bucket_of(key: str) -> int:
    """The bucket of a key, fixed for ever (CRC-32 of its UTF-8, modulo 8)."""
    return crc32(key.encode()) % BUCKETS


def can_be_told(key: str) -> bool:
    """Whether PostgreSQL can hold it as a text. Under another one truth has nothing, ever."""
    return "\0" not in key
