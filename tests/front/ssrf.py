"""Every lure, fetched; who came to the canary, and what was got."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from polyplane.errors import PolyplaneError
from polyplane.security.fetching import Fetcher, Rules
from tests.front.lures import PUBLIC, Web, made, written

NAIVE_TIMEOUT_S: Final = 20.0
AT_ONCE: Final = 20
"""Which must not matter: each name has answers of its own."""


@dataclass(slots=True)
class Lured:
    """What became of so many URLs."""

    urls: int = 0
    fetched: list[str] = field(default_factory=list)
    canary_visits: int = 0
    naive_visits: int = 0
    """The control: how often somebody came who checks nothing."""
    refused: Counter[str] = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "urls": self.urls,
            "fetched": len(self.fetched),
            "canary_visits": self.canary_visits,
            "naive_visits": self.naive_visits,
            "defects": self.defects[:20],
            "fetched_urls": self.fetched[:20],
            "refused": dict(self.refused.most_common()),
        }


async def lure(found: Web, count: int, seed: int) -> Lured:
    """Fetch `count` URLs, on every port that one of our servers has: only addresses protect."""
    report = Lured()
    await _naive(found)
    report.naive_visits = len(found.visits)
    found.visits.clear()
    rules = Rules(ports=frozenset({80, 443, found.canary}), timeout_s=20)
    fetcher = Fetcher(rules, resolve=found.resolve, stand_ins=found.stand_ins)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(url: str) -> None:
        async with places:
            try:
                await fetcher.fetch(url)
                report.fetched.append(url)
            except PolyplaneError as error:
                report.refused[error.message] += 1
            except Exception as error:
                report.defects.append(f"{url!r}: {error!r}")

    urls = made(found, count, seed)
    report.urls = len(urls)
    await asyncio.gather(*map(one, urls))
    report.canary_visits = len(found.visits)
    return report


async def _naive(found: Web) -> None:
    """Connect to the forms that need no look-up, as any program would that checks nothing."""
    for form in written("127.0.0.1", Random(0)):
        try:
            socket.inet_aton(form)
        except (OSError, ValueError):
            continue
        async with asyncio.timeout(NAIVE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(form, found.canary)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await reader.read(), "the canary answers"
            writer.close()


__all__ = ["PUBLIC", "Lured", "lure"]
