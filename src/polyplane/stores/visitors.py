"""What a cache keeps of who comes: sessions, limits, and what was said of them a moment ago."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from polyplane.security.rates import Asked, Verdict


class SessionStore(Protocol):
    """Sessions that whoever holds their token has; they end by themselves."""

    async def create(self, session: dict[str, Any]) -> str:
        """Keep `session`; the token that opens it."""
        ...

    async def get(self, token: str) -> dict[str, Any] | None:
        """The session, renewed, or None."""
        ...

    async def replace(self, token: str, session: dict[str, Any]) -> bool:
        """Change a session that has not ended; whether there was one."""
        ...

    async def delete(self, token: str) -> None:
        """End the session; nothing when it has ended."""
        ...


class RateLimiter(Protocol):
    """So many requests in so many seconds for each client, without window edges."""

    async def check(
        self, client_id: str, *, limit: int, period_s: float = 60.0, burst: int | None = None
    ) -> Verdict:
        """Count one request of `client_id` if it may pass."""
        ...

    async def check_all(self, asked: Sequence[Asked]) -> list[Verdict]:
        """Count one request against all of these if all let it pass, else against none.

        What each of them says, in their order.
        """
        ...


class Heard(NamedTuple):
    """What a cache answers: its own time (microseconds), and what was said before, if anything."""

    at_us: int
    word: bytes | None


class WordStore(Protocol):
    """Words that hold for a moment, by the clock of the server, which is everybody's.

    Who finds none reads the truth and says what it found, as of the time it was told before it
    read: a word that comes late is late by that clock, and does not count. A word that was taken
    back is not said again by anybody who read the truth before.
    """

    async def hear(self, name: str) -> Heard:
        """What was said under `name`, and what time it is."""
        ...

    async def say(self, name: str, word: bytes, *, until_us: int) -> None:
        """Keep `word` until that time, unless there is one or it was just taken back."""
        ...

    async def take_back(self, names: list[str], *, for_ms: int) -> None:
        """Forget the words under `names`, and keep none for `for_ms`."""
        ...
