"""The request cache: what an entry carries, when it counts, when it is loaded again. Pure.

An entry is what a load gave, with the position that was taken before it, and the rows and tables it
depends on. Each of those has a record in the cache: the position of its last change. An entry
counts while none of its records is newer than it, none is gone, and somebody follows the changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from struct import Struct
from typing import Any, Final, Literal, NamedTuple, Self
from zlib import crc32

import orjson

from polyplane.errors import Refused

KEY_CHARS_MAX: Final = 512
DEPENDS_MAX: Final = 16
VALUE_BYTES_MAX: Final = 1 << 20
TTL_S_MAX: Final = 24 * 3600.0
JITTER: Final = 0.1
"""The share of its time to live by which an entry may end earlier, so that those that were filled
together do not end together."""

_MAGIC: Final = b"pq1"
_HEAD: Final = Struct(">3sI12s8sQQII")
TOKEN_AT: Final = (7, 18)
"""Where in an entry the token of its load stands: the first and the last byte."""

Origin = Literal["cache", "load", "direct", "stale"]
Standing = Literal["good", "changed", "unattended"]


class Answer(NamedTuple):
    """A value, and where it comes from.

    `cache`; `load`: it was loaded, by this call or by one that it waited for; `direct`: it was
    loaded past a cache that is down, or that nobody keeps in step; `stale`: its time is over, its
    dependencies have not changed, and loading it anew failed.
    """

    value: Any
    origin: Origin

    @property
    def degraded(self) -> bool:
        """Whether it was not to be had as it should be."""
        return self.origin in ("direct", "stale")


class Wanted(NamedTuple):
    """What is asked for: whose (None: nobody's), under which key, and what it depends on.

    With an `owner` it is what they alone see of their tenant. `depends` are (table, key of a row),
    or (table, None) for a table as a whole.
    """

    tenant: str | None
    owner: str | None
    key: str
    depends: tuple[tuple[str, str | None], ...]

    def check(self) -> None:
        """Raise Refused for what cannot be kept."""
        if len(self.depends) > DEPENDS_MAX:
            raise Refused(
                f"An entry depends on at most {DEPENDS_MAX} rows and tables.",
                field="depends",
                fix="Name the table as a whole.",
            )
        _check_text(self.key)
        for _, key in self.depends:
            if key is not None:
                _check_text(key)


def _check_text(text: str) -> None:
    is_text = text.isascii() or not any("\ud800" <= it <= "\udfff" for it in text)
    if not 1 <= len(text) <= KEY_CHARS_MAX or not is_text:
        raise Refused(
            f"A cache key, and that of a row, has 1 to {KEY_CHARS_MAX} characters.", field="key"
        )


class Kept(NamedTuple):
    """What an entry carries: the token of its load, the chain of changes it was filled in, the
    position taken before the load, when its time is over (by the server's clock), the load's cost.
    """

    token: bytes
    chain: bytes
    position: int
    expires_ms: int
    cost_ms: int
    depends: bytes
    body: bytes

    def sealed(self, name: str) -> bytes:
        """The bytes to keep under `name`."""
        behind = self._head(0)[7:] + self.depends + self.body
        return _MAGIC + _sum(name, behind).to_bytes(4, "big") + behind

    def _head(self, checksum: int) -> bytes:
        numbers = (self.position, self.expires_ms, self.cost_ms, len(self.depends))
        return _HEAD.pack(_MAGIC, checksum, self.token, self.chain, *numbers)

    @classmethod
    def opened(cls, name: str, raw: bytes) -> Self | None:
        """What was kept under `name`; None for what is not as it was put there."""
        if len(raw) < _HEAD.size:
            return None
        magic, checksum, token, chain, position, expires_ms, cost_ms, size = _HEAD.unpack_from(raw)
        if magic != _MAGIC or checksum != _sum(name, memoryview(raw)[7:]):
            return None
        start, end = _HEAD.size, _HEAD.size + size
        return cls(token, chain, position, expires_ms, cost_ms, raw[start:end], raw[end:])

    @property
    def dependencies(self) -> list[tuple[str, str | None]]:
        """What it depends on."""
        return [(table, key) for table, key in orjson.loads(self.depends)]


def is_entry(raw: bytes) -> bool:
    """Whether it looks like an entry of ours at all."""
    return raw.startswith(_MAGIC)


def _sum(name: str, content: bytes | memoryview) -> int:
    """A checksum, the name included: a flipped bit, or another's entry, is no answer."""
    return crc32(content, crc32(name.encode()))


def standing(
    kept: Kept, followed: bytes | None, server: bytes, records: Sequence[bytes | None]
) -> Standing:
    """Whether an entry counts.

    `followed` is what the cache says of who follows the changes (`followed_of`), `server` the
    incarnation of the server that gave it: after a restart what it holds is not believed before
    somebody who follows has seen what became of it. `records` are those of its dependencies.
    """
    if followed != followed_of(server, kept.chain):
        return "unattended"
    for record in records:
        if record is None or not record.isdigit() or int(record) > kept.position:
            return "changed"
    return "good"


def followed_of(server: bytes, chain: bytes) -> bytes:
    """How it is written that the changes are followed: on which server, in which chain."""
    return server + b":" + chain.hex().encode()


def is_early(now_ms: float, kept: Kept, beta: float, draw: float) -> bool:
    """Whether this reader is to load it anew before its time is over (`draw`: in (0, 1]).

    XFetch: A. Vattani, F. Chierichetti, K. Lowenstein, "Optimal Probabilistic Cache Stampede
    Prevention", PVLDB 8(8), 2015. The longer a load takes, the earlier; of many readers about one.
    """
    return now_ms - kept.cost_ms * beta * log(draw) >= kept.expires_ms


def lifetime_ms(ttl_s: float, draw: float) -> int:
    """How long an entry is good: `ttl_s` less up to JITTER of it (`draw`: in [0, 1))."""
    return max(1, int(ttl_s * 1_000 * (1 - JITTER * draw)))
