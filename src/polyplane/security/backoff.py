"""How long who fails to sign in has to wait, and who counts as the same one."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final


@dataclass(frozen=True, slots=True)
class Backoff:
    """`free` attempts at once; then each waits twice as long as the one before, up to `max_s`.

    All is forgotten `forget_s` seconds after the last one.
    """

    free: int
    first_s: float
    max_s: float
    forget_s: float

    def waits(self) -> list[float]:
        """The wait after the 1st, 2nd ... attempt, in seconds; the last holds for all others."""
        found = [0.0] * self.free
        wait_s = float(self.first_s)
        while wait_s < self.max_s:
            found.append(wait_s)
            wait_s *= 2
        return [*found, float(self.max_s)]


OF_ACCOUNT: Final = Backoff(free=5, first_s=1, max_s=900, forget_s=86_400)
"""Of one account from one place: what guesses one password."""
OF_PLACE: Final = Backoff(free=100, first_s=1, max_s=60, forget_s=900)
"""Of all accounts from one place: what tries many accounts."""


def place_of(address: str) -> str:
    """What of an address counts as one place: of IPv6, the network that one subscriber has."""
    try:
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(known, IPv6Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(ip_network(f"{known}/64", strict=False))
