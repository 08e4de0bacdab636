"""Where a store stands (`Position`) and what a write can wait for (`Token`)."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

ORDER_BITS = 40
"""2^40 orders an epoch and 2^13 epochs fit in 53 bits: exact in a float64 too, which is what
Lua (Valkey) and Qdrant's range filters compute with."""


class Position(NamedTuple):
    """(epoch, order): `order` is the sequence the changes stream gave, in that epoch."""

    epoch: int
    order: int

    def packed(self) -> int:
        """One integer that sorts as the position does; what stores gate by."""
        return (self.epoch << ORDER_BITS) | self.order

    @classmethod
    def unpacked(cls, packed: int) -> Self:
        """The position `packed` stands for."""
        return cls(packed >> ORDER_BITS, packed & ((1 << ORDER_BITS) - 1))


class Token(NamedTuple):
    """What a write returns: (epoch, xid). `settled(token)` waits until stores show the write."""

    epoch: int
    xid: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.xid}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The token written as `epoch.xid`; ValueError when it is not one."""
        found = re.fullmatch(r"([1-9]\d{0,4})\.([1-9]\d{0,18})", text, re.ASCII)
        if found is None:
            raise ValueError("A token is written epoch.xid.")
        return cls(int(found[1]), int(found[2]))
