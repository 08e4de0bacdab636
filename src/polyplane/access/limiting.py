"""Rate limits that hold whatever becomes of the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

import structlog

from polyplane.errors import Misconfigured, StoreDown
from polyplane.security.rates import Asked, OwnLimits, Rate, Verdict
from polyplane.stores.visitors import RateLimiter

_log = structlog.get_logger("polyplane.limits")

CACHE_TIMEOUT_S: Final = 1.0
ALONE_S: Final = 1.0
"""For how long a cache that does not answer is not asked again."""


class Limiter:
    """RateLimiter: by the cache, and by this process alone while the cache does not answer.

    Alone it allows its share of each limit, of as many processes as the settings say there are, and
    begins to count anew: in an outage a client gets its burst once more, and never more than that.
    """

    def __init__(
        self,
        cache: RateLimiter | None,
        *,
        processes: int,
        own: OwnLimits | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._cache = cache
        self._processes = processes
        self._own = own or OwnLimits()
        self._clock = clock
        self._again_at = 0.0

    @property
    def is_alone(self) -> bool:
        """Whether the cache is not asked at the moment, or there is none."""
        return self._cache is None or self._clock() < self._again_at

    async def check(
        self, client_id: str, *, limit: int, period_s: float = 60.0, burst: int | None = None
    ) -> Verdict:
        """Count one request of `client_id` if it may pass. Raises Misconfigured for no rate."""
        rate = Rate(limit, period_s, burst)
        return (await self.check_all([Asked(client_id, rate)]))[0]

    async def check_all(self, asked: Sequence[Asked]) -> list[Verdict]:
        """Count one request against all of these if all let it pass, else against none."""
        if self._cache is not None and not self.is_alone:
            try:
                async with asyncio.timeout(CACHE_TIMEOUT_S):
                    return await self._cache.check_all(asked)
            except (StoreDown, Misconfigured, TimeoutError) as error:
                self._again_at = self._clock() + ALONE_S
                _log.warning("limits.alone", error=str(error) or "too slow", for_s=ALONE_S)
        return self._own.check_all(
            [Asked(it.client_id, it.rate.share(self._processes)) for it in asked]
        )
