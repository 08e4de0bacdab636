"""Failed attempts to sign in: who guesses has to wait, and nobody else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import random
from typing import Final

from polyplane.errors import TooOften
from polyplane.security.backoff import OF_ACCOUNT, OF_PLACE, Backoff, place_of
from polyplane.security.tokens import device_of, keyed
from polyplane.truth.database import Database
from polyplane.truth.statements import statement

_ALL_ACCOUNTS: Final = b""
_NO_ACCOUNT: Final = b"-"
_SWEEP_CHANCE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Origin:
    """Where somebody comes from: the address, the program, and the device if it is known."""

    address: str = ""
    agent: str = ""
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that was counted, and may be made."""

    account: bytes
    origin: str
    place: str | None
    """None for a known device: it does not suffer from what others do at its address."""


class Attempts:
    """Counts by (account, place), and by place for all accounts.

    A place is an address, or a device that signed in to the account before. So a stranger makes
    nobody wait but who comes from their own address with no device that is known.
    """

    def __init__(self, database: Database, secret: Callable[[], Awaitable[bytes]]) -> None:
        self._database = database
        self._secret = secret

    async def account(self, email_key: str) -> bytes:
        """What an account is counted under, whether there is one or not."""
        return keyed(await self._secret(), "account", email_key)

    async def begin(self, account: bytes, origin: Origin) -> Attempt:
        """Count an attempt as failed before it is made, so that many at once are counted, too.

        Raises TooOften while one has to wait.
        """
        if random() < _SWEEP_CHANCE:
            await self._database.rows(statement("identity", "sweep_attempts"))
        known = device_of(await self._secret(), account, origin.device or "")
        place = None if known else f"address:{place_of(origin.address)}"
        attempt = Attempt(account, f"device:{known}" if known else str(place), place)
        await self._count(account, attempt.origin, OF_ACCOUNT)
        if place is not None:
            await self._count(_ALL_ACCOUNTS, place, OF_PLACE)
        return attempt

    async def begin_at(self, origin: Origin) -> Attempt:
        """Count an attempt by its place alone: where there is no password to guess.

        Raises TooOften while one has to wait.
        """
        place = f"address:{place_of(origin.address)}"
        await self._count(_ALL_ACCOUNTS, place, OF_PLACE)
        return Attempt(_NO_ACCOUNT, place, place)

    async def forgive(self, attempt: Attempt) -> None:
        """It was no failure."""
        asked = {"account": attempt.account, "origin": attempt.origin}
        await self._database.rows(statement("identity", "forgive"), asked)
        if attempt.place is not None:
            asked = {"account": _ALL_ACCOUNTS, "origin": attempt.place}
            await self._database.rows(statement("identity", "uncount"), asked)

    async def _count(self, account: bytes, origin: str, backoff: Backoff) -> None:
        asked = {
            "account": account,
            "origin": origin,
            "waits": backoff.waits(),
            "forget_s": backoff.forget_s,
        }
        if await self._database.row(statement("identity", "attempt"), asked) is not None:
            return
        row = await self._database.row(statement("identity", "wait"), asked)
        raise TooOften("Too many attempts to sign in.", retry_after_s=row[0] if row else 0.0)
