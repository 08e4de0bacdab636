"""How finely amounts of a currency are counted (ISO 4217). The database knows the same."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

DIGITS: Final[dict[int, tuple[str, ...]]] = {
    0: (
        *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF"),
        *("UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
    ),
    3: ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"),
    4: ("CLF", "UYW"),
}
"""Digits behind the point -> currencies; all others have two."""
_OTHER: Final = 2


def minor_digits(currency: str) -> int:
    """How many digits amounts of `currency` have behind the point."""
    return next((digits for digits, them in DIGITS.items() if currency in them), _OTHER)


def shown(amount: Decimal, currency: str) -> str:
    """`amount` as text, with all of its currency's digits: never a float."""
    return f"{amount:.{minor_digits(currency)}f}"
