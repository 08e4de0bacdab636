"""Rate limits under the seed's key `ratelimit:<client>`, by GCRA in one Lua script.

The generic cell rate algorithm (ITU-T I.371) keeps one number per client, the theoretical arrival
time; it knows no window edge through which twice the limit passes, and since the script sets key
and expiry at once, no crash leaves a client locked out.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from redis.asyncio import Redis

_GCRA: Final = """
local now = redis.call('TIME')
local t = tonumber(now[1]) + tonumber(now[2]) / 1e6
local interval = tonumber(ARGV[1])
local slack = interval * (tonumber(ARGV[2]) - 1)
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or t), t)
if due - t > slack then return {0, 0, tostring(due - t - slack)} end
due = due + interval
redis.call('SET', KEYS[1], string.format('%.6f', due), 'PX', math.ceil((due - t) * 1000) + 1000)
return {1, math.floor((slack - (due - t)) / interval) + 1, '0'}
"""


class Verdict(NamedTuple):
    """Whether a request may pass, how many more may at once, and when to try again (seconds)."""

    allowed: bool
    remaining: int
    retry_after_s: float


class Limits:
    """`limit` requests in `period_s` seconds for each client, at most `burst` of them at once."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self._prefix = prefix
        self._gcra = client.register_script(_GCRA)

    async def check(
        self, client_id: str, *, limit: int, period_s: float = 60.0, burst: int | None = None
    ) -> Verdict:
        """Count one request of `client_id` if it may pass."""
        allowed, remaining, wait = await self._gcra(
            keys=[f"{self._prefix}ratelimit:{client_id}"],
            args=[period_s / limit, burst or limit],
        )
        return Verdict(bool(allowed), int(remaining), float(wait))
