"""How fast requests may leave: so many, and so many tokens, a minute; and not while told to wait.

Pure: the time is given. A place in the line is taken at once and in order, so that whoever asks
later waits longer.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

BURST_S: Final = 5.0
"""What was not used of the last seconds may leave at once."""
HOLD_S_MAX: Final = 60.0
"""An endpoint that wants to be left alone for longer is asked again after so long."""


class Budget:
    """At most `per_minute` of something in any minute; 0 is no bound."""

    def __init__(self, per_minute: int) -> None:
        # The burst is part of the minute: a full one after a rest must not be more than the bound.
        self._interval_s = (60.0 + BURST_S) / per_minute if per_minute else 0.0
        self._done_at_s = float("-inf")

    def take(self, amount: float, now_s: float) -> float:
        """Take a place for `amount`; in how many seconds it comes."""
        if not self._interval_s:
            return 0.0
        begins_s = max(self._done_at_s, now_s)
        takes_s = amount * self._interval_s
        self._done_at_s = begins_s + takes_s
        # What the burst has room for leaves early; what is larger leaves when the line is empty.
        return max(0.0, begins_s - max(0.0, BURST_S - takes_s) - now_s)

    def correct(self, amount: float) -> None:
        """It was so much more than was taken, or less."""
        self._done_at_s += amount * self._interval_s


class Pace:
    """The bounds of one endpoint, as this process keeps them."""

    def __init__(self, requests_per_minute: int = 0, tokens_per_minute: int = 0) -> None:
        self._requests = Budget(requests_per_minute)
        self._tokens = Budget(tokens_per_minute)
        self._held_until_s = float("-inf")

    def take(self, tokens: float, now_s: float) -> float:
        """Take a place for one request of about so many tokens; in how many seconds it comes."""
        waits_s = self._requests.take(1, now_s), self._tokens.take(tokens, now_s)
        return max(*waits_s, self.held(now_s))

    def correct(self, tokens: float) -> None:
        """A request was of so many more tokens than it was taken for, or fewer."""
        self._tokens.correct(tokens)

    def hold(self, wait_s: float, now_s: float) -> None:
        """The endpoint said to wait: nobody asks it before."""
        self._held_until_s = max(self._held_until_s, now_s + wait_s)

    def held(self, now_s: float) -> float:
        """For how many seconds it is to be left alone."""
        return max(0.0, self._held_until_s - now_s)


def retry_after_s(after: str, date: str, now_s: float) -> float:
    """The seconds of a Retry-After, which is a number or a date; 0 when it says none.

    A date is told by the clock of who sent it (`date`, its Date), else by ours (Unix time).
    """
    try:
        wait_s = float(after)
    except ValueError:
        until_s = _unix(after)
        if until_s is None:
            return 0.0
        there_s = _unix(date)
        wait_s = until_s - (now_s if there_s is None else there_s)
    return min(HOLD_S_MAX, max(0.0, wait_s)) if wait_s == wait_s else 0.0


def _unix(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
