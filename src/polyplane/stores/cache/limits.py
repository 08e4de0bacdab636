"""Rate limits under the seed's key `ratelimit:<client>`, by GCRA in one Lua script.

The generic cell rate algorithm (ITU-T I.371) keeps one number per client, the time at which all
it did is worked off. It knows no window edge through which twice the limit passes, and since the
script sets key and expiry at once, no crash leaves a client locked out.
"""

from __future__ import annotations

from typing import Final

from polyplane.errors import Misconfigured
from polyplane.stores.cache.server import Server
from polyplane.stores.visitors import Verdict

# Microseconds are whole numbers below 2^53, exact in Lua; the server's clock is everybody's.
# `tostring` would round them to 14 digits.
_GCRA: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = tonumber(redis.call('GET', KEYS[1])) or now
due = math.min(math.max(due, now), now + window)
local early = due + interval - window - now
if early > 0 then return {0, 0, early} end
due = due + interval
redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX', math.ceil((due - now) / 1000))
return {1, math.floor((now + window - due) / interval), 0}
"""


class Limits:
    """`limit` requests in `period_s` seconds for each client, at most `burst` of them at once."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def check(
        self, client_id: str, *, limit: int, period_s: float = 60.0, burst: int | None = None
    ) -> Verdict:
        """Count one request of `client_id` if it may pass.

        Raises StoreDown when the server does not answer: the caller decides what that means, and
        must never take it for a yes where secrets are checked.
        """
        burst = limit if burst is None else burst
        if limit < 1 or burst < 1 or not 1e-6 <= period_s / limit <= 86_400:
            raise Misconfigured(
                f"{limit} requests in {period_s:g} s, {burst} at once, is no limit."
            )
        interval_us = round(period_s * 1e6 / limit)
        async with self._server.calls() as client:
            allowed, remaining, early_us = await client.register_script(_GCRA)(
                keys=[f"{self._server.prefix}ratelimit:{client_id}"],
                args=[interval_us, interval_us * burst],
            )
        return Verdict(bool(allowed), int(remaining), int(early_us) / 1e6)
