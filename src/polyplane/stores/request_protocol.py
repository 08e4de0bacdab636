"""What the request cache needs of a store: entries behind a gate, and the record of changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, NamedTuple, Protocol

from polyplane.model.requests import Kept, Standing, Wanted

Depend = tuple[str, str | None]
"""(table, key of a row), or (table, None) for the table as a whole."""

Verdict = Literal["filled", "changed", "lost", "evicted", "unattended"]
"""What became of a fill. Refused: a dependency has `changed` since its position; its lease is
`lost`; the record of a dependency was `evicted`; nobody follows the changes it was begun in."""


class Found(NamedTuple):
    """An entry, whether it counts, and how long its time has been over (ms; negative: it is not).

    `kept` is None when it is not as it was put; `seen` tells it from another all the same.
    """

    kept: Kept | None
    seen: bytes
    standing: Standing
    over_ms: float


class Begun(NamedTuple):
    """What a load may begin with: the chain of changes, and the position that was applied.

    `state`: `begun`, and nobody else loads; `busy`: somebody does; `again`: there is another entry
    by now than the one that was seen; `unattended`: nobody follows the changes.
    """

    state: Literal["begun", "busy", "again", "unattended"]
    chain: bytes = b""
    position: int = 0


class Mark(NamedTuple):
    """How far the changes are applied to the records of one chain: all up to `done`."""

    chain: bytes
    done: int
    tables: frozenset[str]
    """Those that some entry of the chain has depended on."""


class KeptEntry(NamedTuple):
    """An entry as it is found by name; `kept` is None when it is not as it was put."""

    name: str
    size: int
    kept: Kept | None
    standing: Standing | None


class ServerFigures(NamedTuple):
    """What a cache's server counts, whoever asks it, since it started `uptime_s` seconds ago."""

    uptime_s: float
    evicted_keys: int
    used_bytes: int
    hits: int
    misses: int


class RequestStore(Protocol):
    """Entries of the request cache. Each call is bounded in time and raises `StoreDown`."""

    def place(self, wanted: Wanted) -> str:
        """The name of the entry."""
        ...

    async def read(self, wanted: Wanted) -> Found | None:
        """The entry, with its records, in one round trip."""
        ...

    async def begin(self, wanted: Wanted, token: bytes, *, seen: bytes, keep_ms: int) -> Begun:
        """Take the lease of a load, and the position before it. `seen`: the token of the entry
        that was read, b"" for none. Records of dependencies are there from now on, `keep_ms` long.
        """
        ...

    async def renew(self, wanted: Wanted, token: bytes) -> bool:
        """Keep the lease; False when it is lost."""
        ...

    async def fill(
        self, wanted: Wanted, begun: Begun, kept: Kept, *, ttl_ms: int, stale_ms: int
    ) -> Verdict:
        """Put the entry, unless anything it depends on may have changed since it was begun."""
        ...

    async def give_up(self, wanted: Wanted, token: bytes) -> None:
        """Let go of the lease, if it is ours."""
        ...

    async def forget(self, wanted: Wanted) -> None:
        """Delete the entry; a load that is under way does not fill it any more."""
        ...

    def now_ms(self) -> float:
        """The server's clock, as far as it is known."""
        ...

    # For who follows the changes

    async def mark(self) -> Mark | None:
        """How far the changes are applied; None when no chain is there."""
        ...

    async def begin_chain(self, chain: bytes, position: int, *, instead: bytes) -> bool:
        """Begin anew at `position`: nothing of before counts. False when the chain is not
        `instead` (b"": none) any more.
        """
        ...

    async def apply(
        self, chain: bytes, after: int, upto: int, changed: Sequence[Depend], *, vouch: bool
    ) -> bool:
        """Move the records of what changed, and then the mark, from `after` to `upto`.

        With `vouch` entries count for a few seconds from now on. False when the chain is another
        one by now, or stands before `after`: the server has lost what it was told.
        """
        ...

    async def disown(self) -> None:
        """No entry counts, until somebody vouches for them again."""
        ...

    # For the proof and for maintenance

    def entries(self) -> AsyncIterator[list[KeptEntry]]:
        """Every entry of this namespace, whoever's."""
        ...

    async def drop(self, entries: Sequence[KeptEntry]) -> int:
        """Delete these entries, each if it is still the one that was found; how many."""
        ...

    async def clear(self) -> int:
        """Delete every entry of this namespace, and nothing else; how many."""
        ...

    async def figures(self) -> ServerFigures:
        """What the server says of itself."""
        ...
