"""How often something may be done: rates, and the generic cell rate algorithm over them.

GCRA (ITU-T I.371) keeps one number for each client, the time at which all it did is worked off. It
knows no window edge through which twice the limit passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic_ns
from typing import Final, NamedTuple

from polyplane.errors import Misconfigured
from polyplane.settings import RATE

CLIENTS_MAX: Final = 10_000
"""Whom one process remembers by itself; all others are taken for one client."""
_OTHERS: Final = ""
_SWEEP_EVERY_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`limit` requests in `period_s` seconds, at most `burst` of them at once (None: all)."""

    limit: int
    period_s: float = 60.0
    burst: int | None = None

    def __post_init__(self) -> None:
        """Raises Misconfigured for what is no rate."""
        in_bounds = self.limit >= 1 and self.at_once >= 1 and self.period_s > 0
        if not in_bounds or not 1e-6 <= self.period_s / self.limit <= 86_400:
            raise Misconfigured(
                f"{self.limit} requests in {self.period_s:g} s, {self.at_once} at once, is no rate."
            )

    @property
    def at_once(self) -> int:
        """How many may come at the same moment."""
        return self.limit if self.burst is None else self.burst

    @property
    def interval_us(self) -> int:
        """What one request takes to be worked off."""
        return round(self.period_s * 1e6 / self.limit)

    @property
    def window_us(self) -> int:
        """How far ahead of its time a client may be."""
        return self.interval_us * self.at_once

    def share(self, processes: int) -> Rate:
        """What each of so many processes allows, so that together they allow no more."""
        return Rate(self.limit, self.period_s * processes, max(1, self.at_once // processes))


@lru_cache(maxsize=64)
def rate_of(text: str) -> Rate | None:
    """The rate that a setting says; None for ''. Raises Misconfigured."""
    if not re.match(RATE, text):
        raise Misconfigured(f"{text!r} is no rate.", fix="Say requests/seconds, as in 600/60.")
    return Rate(*map(int, text.split("/"))) if text else None


class Verdict(NamedTuple):
    """Whether a request may pass, how many more may at once, and when to try again (seconds)."""

    allowed: bool
    remaining: int
    retry_after_s: float
    reset_s: float = 0.0
    """Until all that may come at once may come again."""


class Asked(NamedTuple):
    """One limit that a request is counted against: of whom, and which."""

    client_id: str
    rate: Rate


def judged(due_us: int, now_us: int, rate: Rate) -> tuple[int, int]:
    """When all that a client did is worked off, as of now, and how much too early it comes."""
    due_us = min(max(due_us, now_us), now_us + rate.window_us)
    return due_us, max(0, due_us + rate.interval_us - rate.window_us - now_us)


def verdict(due_us: int, early_us: int, now_us: int, rate: Rate) -> Verdict:
    """What is said of a client whose work ends at `due_us`, this request included if it passed."""
    remaining = 0 if early_us else (now_us + rate.window_us - due_us) // rate.interval_us
    return Verdict(not early_us, remaining, early_us / 1e6, (due_us - now_us) / 1e6)


class OwnLimits:
    """Limits that one process keeps by itself, of a bounded number of clients.

    When there are more, and none of those that are known has worked off all it did, the others
    share one place for each rate: nobody gets in by coming under many names.
    """

    def __init__(
        self,
        *,
        clients_max: int = CLIENTS_MAX,
        clock_us: Callable[[], int] = lambda: monotonic_ns() // 1_000,
    ) -> None:
        self._due_us: dict[str, int] = {}
        self._of_others: dict[Rate, int] = {}
        self._clients_max = clients_max
        self._clock_us = clock_us
        self._sweep_at_us = 0

    def __len__(self) -> int:
        return len(self._due_us)

    def check_all(self, asked: Sequence[Asked]) -> list[Verdict]:
        """Count one request against all of these if all let it pass, else against none."""
        now_us = self._clock_us()
        names = [self._name(it.client_id, now_us) for it in asked]
        found = [
            judged(self._known(name, it.rate, now_us), now_us, it.rate)
            for name, it in zip(names, asked, strict=True)
        ]
        if any(early_us for _, early_us in found):
            return [verdict(*each, now_us, it.rate) for each, it in zip(found, asked, strict=True)]
        verdicts = []
        for name, it, (due_us, _) in zip(names, asked, found, strict=True):
            due_us += it.rate.interval_us
            if name == _OTHERS:
                self._of_others[it.rate] = due_us
            else:
                self._due_us[name] = due_us
            verdicts.append(verdict(due_us, 0, now_us, it.rate))
        return verdicts

    def _known(self, name: str, rate: Rate, now_us: int) -> int:
        if name == _OTHERS:
            return self._of_others.get(rate, now_us)
        return self._due_us.get(name, now_us)

    def _name(self, client_id: str, now_us: int) -> str:
        """What a client is counted under: itself, or with all others when there is no place."""
        if client_id in self._due_us:
            return client_id
        if len(self._due_us) >= self._clients_max and now_us >= self._sweep_at_us:
            self._sweep_at_us = now_us + _SWEEP_EVERY_US
            self._due_us = {it: due for it, due in self._due_us.items() if due > now_us}
        return client_id if len(self._due_us) < self._clients_max else _OTHERS
