"""Rate limits under the seed's key `ratelimit:<client>`, by GCRA in one Lua script.

Since the script sets key and expiry at once, no crash leaves a client locked out. Requests that
come while a call is under way share the next one: a round trip costs far more than what it does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from hashlib import sha1
from typing import Final, NamedTuple

from redis.exceptions import NoScriptError

from polyplane.errors import PolyplaneError, StoreDown
from polyplane.security.rates import Asked, Rate, Verdict
from polyplane.stores.cache.server import Server

# KEYS the clients of one request after the other; ARGV how many each request has, then of each
# client interval and window. Of each: whether it lets the request pass, how many more, and in how
# many microseconds the next one, and all.
# Microseconds are whole numbers below 2^53, exact in Lua; the server's clock is everybody's.
# `tostring` would round them to 14 digits.
_GCRA: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local said, first, last = {}, 1, 0
for size in string.gmatch(ARGV[1], '%d+') do
  last = last + size
  local dues, passes = {}, true
  for i = first, last do
    local interval, window = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
    local due = tonumber(redis.call('GET', KEYS[i])) or now
    dues[i] = math.min(math.max(due, now), now + window)
    if dues[i] + interval > now + window then passes = false end
  end
  for i = first, last do
    local interval, window, due = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1]), dues[i]
    local early = math.max(0, due + interval - window - now)
    if passes then
      due = due + interval
      redis.call('SET', KEYS[i], string.format('%.0f', due), 'PX', math.ceil((due - now) / 1000))
    end
    local remaining = early > 0 and 0 or math.floor((now + window - due) / interval)
    said[i] = string.format('%d %.0f %.0f %.0f', early > 0 and 0 or 1, remaining, early, due - now)
  end
  first = last + 1
end
return table.concat(said, ' ')
"""
_SHA: Final = sha1(_GCRA.encode(), usedforsecurity=False).hexdigest()
_CALL_KEYS: Final = 128
"""Of one call: the server does nothing else meanwhile."""


class _Waiting(NamedTuple):
    asked: Sequence[Asked]
    said: asyncio.Future[list[Verdict]]


class Limits:
    """RateLimiter, by the clock of the server and for all processes together."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._waiting: deque[_Waiting] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def check(
        self, client_id: str, *, limit: int, period_s: float = 60.0, burst: int | None = None
    ) -> Verdict:
        """Count one request of `client_id` if it may pass.

        Raises StoreDown when the server does not answer: the caller decides what that means, and
        must never take it for a yes where secrets are checked.
        """
        rate = Rate(limit, period_s, burst)
        return (await self.check_all([Asked(client_id, rate)]))[0]

    async def check_all(self, asked: Sequence[Asked]) -> list[Verdict]:
        """Count one request against all of these if all let it pass, else against none.

        The clients of one request have different names. Raises StoreDown as `check`.
        """
        if not asked:
            return []
        waiting = _Waiting(asked, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await waiting.said

    async def _send(self) -> None:
        """Call until nobody waits any more. Whoever has gone away meanwhile is not counted."""
        batch: list[_Waiting] = []
        try:
            while batch := self._next():
                try:
                    said = await self._call([it.asked for it in batch])
                except PolyplaneError as error:
                    for it in batch:
                        if not it.said.done():  # one exception is not raised in several tasks
                            it.said.set_exception(type(error)(error.message, fix=error.fix))
                else:
                    for it, verdicts in zip(batch, said, strict=True):
                        if not it.said.done():
                            it.said.set_result(verdicts)
        finally:
            self._sending = None
            for it in (*batch, *self._waiting):  # none, unless this was cancelled, or is wrong
                if not it.said.done():
                    it.said.set_exception(StoreDown("The cache was left meanwhile."))
            self._waiting.clear()

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        keys = 0
        while self._waiting and keys < _CALL_KEYS:
            it = self._waiting.popleft()
            if not it.said.done():
                batch.append(it)
                keys += len(it.asked)
        return batch

    async def _call(self, requests: Sequence[Sequence[Asked]]) -> list[list[Verdict]]:
        every = [it for asked in requests for it in asked]
        keys = [f"{self._server.prefix}ratelimit:{it.client_id}" for it in every]
        sizes = " ".join(str(len(asked)) for asked in requests)
        args = [n for it in every for n in (it.rate.interval_us, it.rate.window_us)]
        async with self._server.calls() as client:
            try:
                said = await client.evalsha(_SHA, len(keys), *keys, sizes, *args)
            except NoScriptError:
                said = await client.eval(_GCRA, len(keys), *keys, sizes, *args)
        numbers = iter([int(number) for number in said.split()])
        verdicts = (
            Verdict(bool(allowed), remaining, early_us / 1e6, reset_us / 1e6)
            for allowed, remaining, early_us, reset_us in zip(*[numbers] * 4, strict=True)
        )
        return [[next(verdicts) for _ in asked] for asked in requests]
