"""Loads of the request cache: one at a time for each key, wherever it is asked for.

What is given was loaded after it was asked for, or found in the cache afterwards, where a change
of what it depends on would have ended it. So a wait for a write (`settled`) holds: whoever finds
a load under way waits for it, and then looks into the cache, together with all that waited.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import random
from secrets import token_bytes
from time import perf_counter
from typing import Any, Final, NamedTuple

import orjson
import structlog

from polyplane.errors import PolyplaneError, StoreDown, Unavailable
from polyplane.model.digest import canonical
from polyplane.model.requests import VALUE_BYTES_MAX, Kept, Origin, Wanted, lifetime_ms
from polyplane.stores.request_protocol import Begun, Found, RequestStore

_log = structlog.get_logger(__name__)

WITHOUT_CACHE_S: Final = 1.0
"""For how long a cache that does not answer is not asked again."""
FLIGHTS_MAX: Final = 1_000
"""Loads at once in one process; whoever comes beyond loads alone."""
FIRST_POLL_S: Final = 0.004
LAST_POLL_S: Final = 0.05
_RENEW_S: Final = 1.0
_RECORD_SPARE_MS: Final = 10_000
_TOKEN_BYTES: Final = 12


class Landed(NamedTuple):
    """What a flight came to."""

    body: bytes
    origin: Origin


@dataclass(frozen=True, slots=True)
class Asking:
    """One call's wishes."""

    wanted: Wanted
    load: Callable[[], Awaitable[Any]]
    ttl_s: float
    stale_s: float
    load_timeout_s: float


@dataclass(slots=True)
class _Flight:
    """One load under way, and the number it has in this process."""

    number: int
    task: asyncio.Task[Landed]


class Loads:
    """What is under way in this process, and what was counted."""

    def __init__(self, store: RequestStore) -> None:
        self.store = store
        self.counts: Counter[str] = Counter()
        """Reads: `hit`, `miss`, `stale`, `direct`; loads: `load`, `failed`, `early`; and fills that
        were refused, by why."""
        self._flights: dict[str, _Flight] = {}
        self._refreshing: dict[str, asyncio.Task[None]] = {}
        self._number = 0
        self._down_until = 0.0

    async def close(self) -> None:
        """End what is under way."""
        tasks = [*(flight.task for flight in self._flights.values()), *self._refreshing.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def read(self, wanted: Wanted) -> Found | None:
        """What is kept; None when there is nothing, or the cache is down."""
        if self._is_down():
            return None
        try:
            return await self.store.read(wanted)
        except StoreDown as error:
            self._down(error)
            return None

    def _is_down(self) -> bool:
        return asyncio.get_running_loop().time() < self._down_until

    def _down(self, error: StoreDown) -> None:
        self._down_until = asyncio.get_running_loop().time() + WITHOUT_CACHE_S
        _log.warning("requests.down", error=error.message)

    async def joined(self, asking: Asking) -> Landed:
        """What a flight comes to that departs from now on, with all who arrived before it."""
        name, arrived = self.store.place(asking.wanted), self._number
        while True:
            flight = self._flights.get(name)
            if flight is None or flight.task.done():
                if len(self._flights) >= FLIGHTS_MAX:
                    return Landed(await self._loaded(asking), "direct")
                flight = self._depart(name, asking)
            landed = await asyncio.shield(flight.task)
            if flight.number > arrived:
                return landed

    def _depart(self, name: str, asking: Asking) -> _Flight:
        self._number += 1
        task = asyncio.create_task(self._fly(asking), name=f"load {name}")
        flight = self._flights[name] = _Flight(self._number, task)
        task.add_done_callback(lambda done: self._landed(name, done))
        return flight

    def refresh(self, asking: Asking, found: Found) -> None:
        """Load it anew in the background, unless somebody does."""
        name = self.store.place(asking.wanted)
        is_under_way = name in self._flights or name in self._refreshing
        if is_under_way or len(self._refreshing) >= FLIGHTS_MAX:
            return
        task = asyncio.create_task(self._refreshed(asking, found), name=f"refresh {name}")
        self._refreshing[name] = task
        task.add_done_callback(lambda _: self._refreshing.pop(name))

    async def _refreshed(self, asking: Asking, found: Found) -> None:
        try:
            token = token_bytes(_TOKEN_BYTES)
            begun = await self._begun(asking, token, found.seen)
            if begun.state == "begun":
                self.counts["early"] += 1
                await self._load_and_fill(asking, token, begun)
        except (PolyplaneError, TimeoutError, OSError) as error:
            _log.info("requests.not_refreshed", key=asking.wanted.key, error=str(error))
        except Exception:  # the load's own fault: whoever asks next will hear of it
            _log.exception("requests.not_refreshed", key=asking.wanted.key)

    async def _fly(self, asking: Asking) -> Landed:
        """Find it filled by others, or load it: first in line, or past a cache that is no help."""
        deadline = asyncio.get_running_loop().time() + asking.load_timeout_s
        pause_s, token = FIRST_POLL_S, token_bytes(_TOKEN_BYTES)
        found: Found | None = None
        while not self._is_down() and asyncio.get_running_loop().time() < deadline:
            found = await self.read(asking.wanted)
            if found is not None and found.kept is not None and is_fresh(found):
                return Landed(found.kept.body, "cache")
            try:
                begun = await self._begun(asking, token, found.seen if found else b"")
            except StoreDown as error:
                self._down(error)
                break
            if begun.state == "begun":
                return await self._load_or_stale(asking, token, begun, found)
            if begun.state == "unattended":
                break
            if begun.state == "busy":
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, LAST_POLL_S)
        return Landed(await self._loaded(asking), "direct")

    async def _begun(self, asking: Asking, token: bytes, seen: bytes) -> Begun:
        keep_ms = int(asking.load_timeout_s * 2_000) + _RECORD_SPARE_MS
        return await self.store.begin(asking.wanted, token, seen=seen, keep_ms=keep_ms)

    async def _load_or_stale(
        self, asking: Asking, token: bytes, begun: Begun, found: Found | None
    ) -> Landed:
        try:
            return await self._load_and_fill(asking, token, begun)
        except (Unavailable, TimeoutError, OSError):
            if found is None or found.kept is None or found.standing != "good":
                raise
            if found.over_ms >= asking.stale_s * 1_000:
                raise
            return Landed(found.kept.body, "stale")

    async def _load_and_fill(self, asking: Asking, token: bytes, begun: Begun) -> Landed:
        """Load, keeping the lease meanwhile, and fill the entry if nothing has changed."""
        started = perf_counter()
        loading = asyncio.ensure_future(self._loaded(asking))
        try:
            while not (await asyncio.wait({loading}, timeout=_RENEW_S))[0]:
                with suppress(StoreDown):  # then it is lost, and the fill is refused
                    await self.store.renew(asking.wanted, token)
            body = loading.result()
        except BaseException:
            loading.cancel()
            await self._let_go(asking, token)
            raise
        if len(body) > VALUE_BYTES_MAX:
            self.counts["too_large"] += 1
            await self._let_go(asking, token)
            return Landed(body, "load")
        cost_ms = min(int((perf_counter() - started) * 1_000) + 1, 2**31)
        ttl_ms = lifetime_ms(asking.ttl_s, random())
        kept = Kept(
            token,
            begun.chain,
            begun.position,
            int(self.store.now_ms()) + ttl_ms,
            cost_ms,
            orjson.dumps(asking.wanted.depends),
            body,
        )
        stale_ms = int(asking.stale_s * 1_000)
        try:
            verdict: str = await self.store.fill(
                asking.wanted, begun, kept, ttl_ms=ttl_ms, stale_ms=stale_ms
            )
        except StoreDown as error:
            self._down(error)
            verdict = "down"
        if verdict != "filled":
            self.counts[verdict] += 1
        return Landed(body, "load")

    async def _let_go(self, asking: Asking, token: bytes) -> None:
        try:
            await self.store.give_up(asking.wanted, token)
        except StoreDown as error:  # the lease ends by itself
            self._down(error)

    async def _loaded(self, asking: Asking) -> bytes:
        """What `load` gives, as JSON."""
        self.counts["load"] += 1
        try:
            async with asyncio.timeout(asking.load_timeout_s) as limit:
                return canonical(await asking.load())
        except TimeoutError:
            self.counts["failed"] += 1
            if not limit.expired():
                raise
            raise Unavailable(
                f"{asking.wanted.key} was not loaded within {asking.load_timeout_s:g} s."
            ) from None
        except BaseException:
            self.counts["failed"] += 1
            raise

    def _landed(self, name: str, task: asyncio.Task[Landed]) -> None:
        flight = self._flights.get(name)
        if flight is not None and flight.task is task:
            del self._flights[name]
        if not task.cancelled():
            task.exception()  # whoever waits has it; perhaps nobody does any more


async def is_told(store: RequestStore, needed: int) -> bool:
    """Whether no entry counts that a change up to the position `needed` has ended."""
    mark = await store.mark()
    if mark is not None:
        return mark.done >= needed
    # It is gone, and whoever vouched has perhaps not noticed: what they will is of after this.
    await store.disown()
    return True


def is_fresh(found: Found) -> bool:
    """Whether it may be given to anybody."""
    return found.kept is not None and found.standing == "good" and found.over_ms < 0
