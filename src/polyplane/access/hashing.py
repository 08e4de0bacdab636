"""Argon2id, in threads of its own and a bounded queue: whoever signs in cannot starve the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from polyplane.errors import Unavailable
from polyplane.security.passwords import LENGTH_MAX, spelled

AT_ONCE: Final = 2
QUEUE_MAX: Final = 32
"""About a second of work; who comes later is told to come again."""
MEMORY_KIB: Final = 46 * 1024
PASSES: Final = 1
LANES: Final = 1

NOBODY: Final = (
    "$argon2id$v=19$m=47104,t=1,p=1$tjD0S0Y0hlMo27pBuc4Slw$"
    "Rui9ZAF9cUdFEQGGPYDbPNqwYfpyzDzK/gySZV8g0Oc"
)
"""What the password of somebody who does not exist is compared with: it takes as long."""

T = TypeVar("T")


class Checked(NamedTuple):
    """Whether a password was right; and a new hash of it, when the old one is out of date."""

    is_right: bool
    rehashed: str | None = None


class Hasher:
    """Hashes and checks passwords, at most AT_ONCE at a time."""

    def __init__(self) -> None:
        self._argon2 = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="polyplane-argon2")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The hash to keep of `password`. Raises Unavailable when too many wait."""
        return await self._in_turn(lambda: self._argon2.hash(spelled(password)))

    async def check(self, known: str | None, password: str) -> Checked:
        """Whether `password` is what was hashed as `known`; None is nobody, and takes as long.

        Raises Unavailable when too many wait.
        """
        return await self._in_turn(lambda: self._check(known, spelled(password[: LENGTH_MAX + 1])))

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check(self, known: str | None, password: str) -> Checked:
        try:
            self._argon2.verify(known or NOBODY, password)
        except (VerificationError, InvalidHashError):
            return Checked(False)
        if known is None:
            return Checked(False)
        is_old = self._argon2.check_needs_rehash(known)
        return Checked(True, self._argon2.hash(password) if is_old else None)

    async def _in_turn(self, work: Callable[[], T]) -> T:
        if self._waiting >= QUEUE_MAX:
            raise Unavailable("Too many sign in at once.", fix="Try again in a second.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
